"""Skip-gram or CBOW beside gensim, on the same words: words a second, and agreement with human judgements of similarity.

With `--ngrams 3 6`, both have character n-grams, as fastText does.

For each seed, trains both in turn with the same dimension, window, negatives, subsampling, epochs and threads, and prints
words a second (as gensim counts: before subsampling) and Spearman correlations of cosines with human scores (WordSim-353
and SimLex-999, which gensim brings, and MEN if its file is given). Ends with the means over the seeds and the difference
between the two, each with a 95 % interval.

    python benchmarks/word_vectors.py --text train.jsonl [--method SkipGram] [--ngrams 3 6] [--epochs 5] [--seeds 3]
        [--men men.txt]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import gensim
import numpy as np
import numpy.typing as npt
import torch
from gensim.test.utils import datapath
from lightning.pytorch import Trainer, seed_everything
from scipy.stats import spearmanr, t

from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import BagOfWords
from ssl_nlp.methods import CBOW, Optimization, SkipGram

METHODS = {"SkipGram": SkipGram, "CBOW": CBOW}
Pairs = list[tuple[str, str, float]]
Vectors = npt.NDArray[np.float32]


def main() -> None:
    """Train, evaluate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--text", required=True, help="text to train on, one document a line, or JSON lines with `text`"
    )
    parser.add_argument("--method", choices=METHODS, default="SkipGram")
    parser.add_argument("--ngrams", type=int, nargs=2, default=None, help="characters of the shortest and the longest")
    parser.add_argument("--buckets", type=int, default=200_000, help="rows of the table of n-gram vectors")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--men", type=Path, default=None, help="tab-separated file: two words and a score")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = prepared(arguments.text)
    documents = words_of(data)
    number = sum(map(len, documents))
    names = [data.tokenizer.token(token) for token in range(data.tokenizer.vocab_size)]
    sets = {name: read_pairs(Path(datapath(file))) for name, file in SETS.items()}
    if arguments.men:
        sets["MEN"] = read_pairs(arguments.men)
    print(f"{number:,} words of {len(names):,} kinds in {len(documents):,} documents, {arguments.epochs} epochs")
    places = {name: place for place, name in enumerate(names)}
    for name, pairs in sets.items():
        sets[name] = [pair for pair in pairs if pair[0] in places and pair[1] in places]
        print(f"{name}: {len(sets[name])} of {len(pairs)} pairs are of known words")
    print(f"{'':>10} {'seed':>4} {'words/s':>10} " + " ".join(f"{name:>11}" for name in sets))
    table: dict[str, list[list[float]]] = {"gensim": [], "ssl_nlp": []}
    train: dict[str, Callable[..., tuple[Vectors, float]]] = {"gensim": train_gensim, "ssl_nlp": train_ours}
    for seed in range(arguments.seeds):
        for side, rows in table.items():
            vectors, seconds = train[side](data, documents, arguments, seed)
            scores = [agreement(vectors, places, pairs) for pairs in sets.values()]
            rows.append([number * arguments.epochs / seconds, *scores])
            print(line(side, seed, rows[-1]), flush=True)
    if arguments.seeds > 1:
        both = {side: np.array(rows) for side, rows in table.items()}
        for side, values in (both | {"difference": both["ssl_nlp"] - both["gensim"]}).items():
            mean, half = interval(values)
            print(f"{line(side, 'mean', mean)}\n{line('', '±', half)}")


SETS = {"WordSim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}


def prepared(text: str) -> TextDataModule:
    """The words of a file that occur five times or more, in rows of one order."""
    corpus = TextFiles(text, valid=0.01, test=None, unit="line")
    tokens = TokenizerSettings("word", vocab_size=2**20, lowercase=True, min_count=5)
    return TextDataModule(corpus, tokens, unit="block", length=1024, batch_size=8)


def words_of(data: TextDataModule) -> list[list[int]]:
    """The words of each training document, without those that the vocabulary lacks."""
    store, special = data.store("train"), set(data.tokenizer.special_ids)
    edges = store.starts.tolist()
    return [
        [token for token in store.read(start, stop).ids.tolist() if token not in special]  # type: ignore[attr-defined]
        for start, stop in pairwise(edges)
    ]


def train_gensim(
    data: TextDataModule, documents: list[list[int]], arguments: argparse.Namespace, seed: int
) -> tuple[Vectors, float]:
    """Vectors of gensim by token, and seconds of training."""
    part = gensim.models.word2vec.MAX_WORDS_IN_BATCH  # it ignores the rest of a longer document
    names = data.tokenizer.spellings()
    texts = [[names[word] for word in d[start : start + part]] for d in documents for start in range(0, len(d), part)]
    given = {
        "vector_size": 100, "window": 5, "negative": 5, "sg": int(arguments.method == "SkipGram"), "min_count": 1,
        "sample": 1e-3, "workers": arguments.threads, "epochs": arguments.epochs, "seed": seed,
    }  # fmt: skip
    if arguments.ngrams:
        shortest, longest = arguments.ngrams
        model = gensim.models.FastText(**given, min_n=shortest, max_n=longest, bucket=arguments.buckets)
    else:
        model = gensim.models.Word2Vec(**given)
    model.build_vocab(texts)
    start = time.perf_counter()
    model.train(texts, total_examples=model.corpus_count, epochs=model.epochs)
    seconds = time.perf_counter() - start
    vectors = np.zeros((data.tokenizer.vocab_size, 100), np.float32)
    places = {name: place for place, name in enumerate(names)}
    vectors[[places[word] for word in model.wv.index_to_key]] = model.wv.vectors
    return vectors, seconds


def train_ours(
    data: TextDataModule, documents: list[list[int]], arguments: argparse.Namespace, seed: int
) -> tuple[Vectors, float]:
    """Our vectors by token, and seconds of the whole `fit`."""
    seed_everything(seed, verbose=False)
    optimization = Optimization("ssl_nlp.training.RowAdagrad", 0.2, warmup=0, schedule="linear", final=0.0)
    encoder = BagOfWords(dim=100, ngrams=arguments.ngrams, buckets=arguments.buckets)
    method = METHODS[arguments.method](encoder, window=5, negatives=5, optimization=optimization)
    trainer = Trainer(
        accelerator="cpu", max_epochs=arguments.epochs, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, use_distributed_sampler=False,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(method, data)
    seconds = time.perf_counter() - start
    return encoder.token_vectors(torch.arange(data.tokenizer.vocab_size)).numpy(), seconds


def read_pairs(path: Path) -> Pairs:
    """Two words and a score in the first columns of each line that has them."""
    pairs = []
    for text in path.read_text(encoding="utf-8").splitlines():
        fields = text.lower().split("\t")
        if len(fields) > 2 and not text.startswith("#"):
            pairs.append((fields[0], fields[1], float(fields[2])))
    return pairs


def agreement(vectors: Vectors, places: dict[str, int], pairs: Pairs) -> float:
    """Spearman correlation between the cosines of pairs of words and their scores."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = [float(unit[places[one]] @ unit[places[other]]) for one, other, _ in pairs]
    return float(spearmanr(cosines, [score for *_, score in pairs]).statistic)


def interval(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean of each column over the seeds, and half the width of its 95 % interval (Student's t)."""
    seeds = len(values)
    return values.mean(axis=0), t.ppf(0.975, seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(seeds)


def line(side: str, seed: object, row: Sequence[float] | npt.NDArray[np.float64]) -> str:
    """A row of the table."""
    return f"{side:>10} {seed!s:>4} {row[0]:>10,.0f} " + " ".join(f"{score:>11.3f}" for score in row[1:])


if __name__ == "__main__":
    main()

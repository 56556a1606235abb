"""How well SimCLR, trained on captions from scratch, judges the similarity of sentences that it has never seen.

For each seed, prints the Spearman correlation of cosines of embeddings with human scores (STS benchmark), before and after
training, and that of TF-IDF fitted on the same captions.

    python benchmarks/simclr_sts.py --captions train.en --valid val.en --sts dev.tsv [--steps 2000] [--seeds 3]
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from lightning.pytorch import Trainer, seed_everything
from sklearn.feature_extraction.text import TfidfVectorizer
from torchmetrics.functional import spearman_corrcoef

from ssl_nlp.commands.trainer_settings import default_precision
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import Optimization, SimCLR
from ssl_nlp.objectives.views import Delete


def main() -> None:
    """Train, evaluate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="text file to train on, one caption a line")
    parser.add_argument(
        "--valid", type=Path, required=True, help="text file for the validation loss, one caption a line"
    )
    parser.add_argument(
        "--sts", type=Path, required=True, help="tsv file without header: score and sentences in columns 5 to 7"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    first, second, scores = read_sts(arguments.sts)
    print(f"{len(scores)} pairs of sentences; {arguments.steps} steps of {arguments.batch} captions")
    print(f"{'seed':>4} {'random':>7} {'trained':>7} {'seconds':>8}")
    for seed in range(arguments.seeds):
        before, after, seconds = train(arguments, seed, first, second, scores)
        print(f"{seed:>4} {before:>7.3f} {after:>7.3f} {seconds:>8.0f}", flush=True)
    print(f"TF-IDF {tfidf_correlation(arguments.captions, first, second, scores):>6.3f}")


def train(
    arguments: argparse.Namespace, seed: int, first: list[str], second: list[str], scores: torch.Tensor
) -> tuple[float, float, float]:
    """Correlation before and after training, and the seconds of training."""
    seed_everything(seed, verbose=False)
    corpus = TextFiles(str(arguments.captions), valid=str(arguments.valid), test=None, unit="line", format="text")
    tokens = TokenizerSettings("wordpiece", 8192, lowercase=True)
    data = TextDataModule(corpus, tokens, unit="sentence", length=64, batch_size=arguments.batch)
    method = SimCLR(
        Transformer("tiny", dropout=0.1), views=[Delete(0.2)], optimization=Optimization(learning_rate=1e-3)
    )
    method.connect(data.tokenizer)
    untrained = copy.deepcopy(method.state_dict())
    trainer = Trainer(
        accelerator="cpu", precision=default_precision("cpu"), max_steps=arguments.steps, gradient_clip_val=1.0,
        limit_val_batches=0, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, use_distributed_sampler=False,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(method, data)
    seconds = time.perf_counter() - start
    after = correlation(method, first, second, scores)
    method.load_state_dict(untrained)
    return correlation(method, first, second, scores), after, seconds


def correlation(method: SimCLR, first: list[str], second: list[str], scores: torch.Tensor) -> float:
    """Spearman correlation between the cosines of the embeddings and the scores."""
    cosines = torch.cosine_similarity(method.embed(first), method.embed(second), dim=1)
    return float(spearman_corrcoef(cosines, scores))


def tfidf_correlation(captions: Path, first: list[str], second: list[str], scores: torch.Tensor) -> float:
    """The same for word-level TF-IDF."""
    vectorizer = TfidfVectorizer().fit(captions.read_text(encoding="utf-8").splitlines())
    left, right = vectorizer.transform(first), vectorizer.transform(second)  # rows of length 1, or 0
    cosines = torch.from_numpy(left.multiply(right).sum(axis=1).A1).float()
    return float(spearman_corrcoef(cosines, scores))


def read_sts(path: Path) -> tuple[list[str], list[str], torch.Tensor]:
    """Sentences, their partners and the scores from 0 to 5."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return [row[5] for row in rows], [row[6] for row in rows], torch.tensor([float(row[4]) for row in rows])


if __name__ == "__main__":
    main()

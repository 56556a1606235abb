"""The English texts that several benchmarks train on, in a folder with train.jsonl and valid.jsonl."""

from pathlib import Path


def corpus_options(folder: Path) -> list[str]:
    """Arguments of `ssl-nlp fit` for these texts, without a test split."""
    files = {"train": folder / "train.jsonl", "valid": folder / "valid.jsonl", "test": "null"}
    named = [f"--data.corpus.init_args.{split}={file}" for split, file in files.items()]
    return ["--data.corpus=ssl_nlp.corpora.TextFiles", *named]

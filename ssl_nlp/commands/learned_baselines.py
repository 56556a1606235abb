"""Baselines that learn from text, and which text that is: never one that is tested.

    TF-IDF and LSA          the training texts of the suite or, where it has none, the training text of the run
    mean of word vectors    the training text of the run

The training text of a run is the train split of its corpus, and those of the runs that its weights come from. Where that is
not known (a published model, a checkpoint by itself) or not there any more, the cell is empty.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.commands.run_corpus import corpus_of
from ssl_nlp.corpora import Corpus, Document
from ssl_nlp.corpora.base import Split, text_digest
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import BagOfWords
from ssl_nlp.errors import UserError
from ssl_nlp.methods import SkipGram
from ssl_nlp.objectives.scores import Unable
from ssl_nlp.quiet import quiet
from ssl_nlp.runs.ancestry import Ancestor
from ssl_nlp.runs.checkpoint import digest
from ssl_nlp.runs.run import Run
from ssl_nlp.seeding import run_seed_set_to
from ssl_nlp.training import Optimization

MOST_TEXTS = 100_000  # of a corpus, the first ones
VERSION = 1  # of the word vectors, for the keys of caches
DIM = 100
ROW, ROWS = 512, 8  # tokens of a row, and rows of a batch
EPOCHS, MOST_TOKENS = 5, 5_000_000  # that are read in training


@dataclass(frozen=True)
class LearnedTexts(Corpus):
    """Texts that a baseline learns from, as the train split of a corpus.

    Attributes:
        texts: the first ones of the corpora that they are from.
        cut: whether these have more.
        unknown: the runs and checkpoints that the weights come from, but whose training text is not known.
    """

    texts: Sequence[str]
    cut: bool = False
    unknown: tuple[str, ...] = ()

    def documents(self, split: Split) -> Iterator[Document]:
        yield from map(Document, self.texts if split == "train" else self.texts[:1])

    def fingerprint(self) -> str:
        return self.key

    @cached_property
    def key(self) -> str:
        """A key of the texts."""
        return fingerprint([text_digest(text).hex() for text in self.texts])


def pretraining_texts(run: Run | None, imports: Sequence[str]) -> LearnedTexts:
    """The first 100,000 texts that a run was trained on: its own train split, then those of its ancestors.

    Raises:
        Unable: its own are not known, not there any more, or a stream.
    """
    if run is None or not run.config.exists():
        raise Unable("its training text is not known")
    texts: dict[str, None] = {}
    cut, unknown = _read(run, imports, texts), []
    for one in run.read_state().get("ancestry", []):
        try:
            cut |= _read(_run_of(one), imports, texts)
        except Unable:
            unknown.append(one["run"] or one["checkpoint"])
    return LearnedTexts(list(texts), cut, tuple(unknown))


def _read(run: Run, imports: Sequence[str], texts: dict[str, None]) -> bool:
    """Add the train split of a run to texts, up to `MOST_TEXTS`, and tell whether some were left out.

    Raises:
        Unable: it is a stream, or cannot be read.
    """
    try:
        corpus = corpus_of(run, imports)
        if getattr(corpus, "streaming", False):
            raise Unable("its training text is a stream, which cannot be read again")
        for text in (text for one in corpus.documents("train") for text in (one.text, one.pair) if text):
            if len(texts) == MOST_TEXTS and text not in texts:
                return True
            texts[text] = None
        return False
    except (UserError, OSError) as error:
        raise Unable(f"its training text cannot be read: {error}") from error


def _run_of(ancestor: Ancestor) -> Run:
    """The run of an ancestor.

    Raises:
        Unable: it is not a run, it was deleted, or another run now has its name.
    """
    if ancestor["run"] is None:
        raise Unable("it is no run")
    run = Run(ancestor["run"])
    checkpoint = run.directory / ancestor["checkpoint"]
    if not run.config.exists() or not checkpoint.is_file() or digest(checkpoint) != ancestor["digest"]:
        raise Unable("its run is not there any more")
    return run


def word_vectors(corpus: LearnedTexts, seed: int) -> SkipGram:
    """Skip-gram trained on some texts, five times over or on 5 million tokens; kept under the cache directory."""
    settings = TokenizerSettings(kind="word", vocab_size=50_000, min_count=2, lowercase=True)
    data = TextDataModule(corpus, settings, length=ROW, batch_size=ROWS, seed=seed)

    def method() -> SkipGram:
        rate = Optimization("ssl_nlp.training.RowAdagrad", 0.2, schedule="linear", warmup=0, final=0.0)
        return SkipGram(BagOfWords(DIM), subsample=0.0, optimization=rate)

    def train(directory: Path) -> None:
        tokens = min(EPOCHS * data.store("train").statistics.tokens, MOST_TOKENS)
        quiet()
        off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            accelerator="cpu", devices=1, max_steps=max(1, tokens // (ROW * ROWS)), limit_val_batches=0,
            num_sanity_val_steps=0, enable_model_summary=False, default_root_dir=directory, **off,
        )  # fmt: skip
        trained = method()
        with torch.random.fork_rng(), run_seed_set_to(seed):
            trainer.fit(trained, data)
        torch.save(trained.encoder.state_dict(), directory / "vectors.pt")

    key = fingerprint("word vectors", VERSION, corpus.key, torch.__version__, seed)
    directory = build_once(cache_dir() / "word_vectors" / key, train)
    found = method()
    found.connect(data.tokenizer)
    found.encoder.load_state_dict(torch.load(directory / "vectors.pt", weights_only=True))
    return found.eval()

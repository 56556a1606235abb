"""A check that the embeddings still tell texts apart."""

import random
import sys
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from ssl_nlp import lightning_internals as internals
from ssl_nlp.corpora import Corpus
from ssl_nlp.data import TextDataModule
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.data.words import word_spans, words
from ssl_nlp.objectives.geometry import alignment, effective_rank, embedding_spread, uniformity
from ssl_nlp.terminal import say

# Below either of these, different sentences have nearly the same embedding.
LEAST_SPREAD = 0.05
LEAST_RANK = 1.5
DROPPED = 0.15  # share of a sentence's words that its copy lacks


@runtime_checkable
class Embeds(Protocol):
    """The part of a method that this callback uses."""

    against_collapse: str
    sharded: bool
    embedding_dim: int

    def embed(self, texts: Sequence[str]) -> Tensor: ...
    def collapse(self, embeddings: Tensor) -> str | None: ...
    def log(self, name: str, value: float) -> None: ...


class CollapseMonitor(Callback):
    """Logs the geometry of validation sentences' embeddings, and warns when they have collapsed into one point or line.

    `val/embedding_spread`, `val/effective_rank` and `val/uniformity` describe the first sentences of the validation split;
    `val/alignment` is their distance from copies with some words missing. Every method sees the same sentences.
    `ssl_nlp.objectives.geometry` defines the numbers.

    Args:
        sentences: the number of sentences.
    """

    def __init__(self, sentences: int = 256) -> None:
        self.sentences = sentences
        self._texts: list[str] | None = None
        self._said = ""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = internals.datamodule_of(trainer)
        if trainer.state.fn != "fit" or not isinstance(data, TextDataModule) or not isinstance(pl_module, Embeds):
            return
        if pl_module.sharded or not pl_module.embedding_dim:
            return
        if self._texts is None:
            self._texts = validation_sentences(data.corpus, self.sentences)
        if len(self._texts) < 2:
            return
        embeddings = pl_module.embed(self._texts + [_with_gaps(text) for text in self._texts])
        if not embeddings.isfinite().all():
            self._warn(trainer, "some embeddings are not finite: the training has diverged. Lower the learning rate")
            return
        whole, gaps = embeddings.chunk(2)
        spread, rank = float(embedding_spread(whole)), float(effective_rank(whole))
        numbers = {"embedding_spread": spread, "effective_rank": rank}
        numbers |= {"alignment": float(alignment(whole, gaps)), "uniformity": float(uniformity(whole))}
        for name, number in numbers.items():
            pl_module.log(f"val/{name}", number)
        sign = pl_module.collapse(whole)
        one_way = min(len(whole) - 1, whole.shape[1]) < 2  # the most that the rank can be
        if spread < LEAST_SPREAD or (rank < LEAST_RANK and not one_way):
            sign = f"spread {spread:.3f} of about 1, effective rank {rank:.1f} of {whole.shape[1]}"
        if sign is None:
            self._said = ""
            return
        self._warn(
            trainer,
            f"the embeddings have collapsed: {len(whole)} different sentences get nearly the same one ({sign}). Whatever "
            f"the loss says, they no longer tell texts apart; {pl_module.against_collapse} may help",
        )

    def _warn(self, trainer: Trainer, text: str) -> None:
        """Warn once per problem, and again if it returns."""
        kind = text.partition(":")[0]
        if kind != self._said and trainer.is_global_zero:
            say(f"warning: {text}", sys.stderr)
        self._said = kind


def validation_sentences(corpus: Corpus, number: int) -> list[str]:
    """The first distinct sentences of three or more words, at most four from a document."""
    found: dict[str, None] = {}
    for document in corpus.documents("valid"):
        found |= dict.fromkeys(s for s in split_sentences(document.text)[:4] if len(words(s)) >= 3)
        if len(found) >= number:
            break
    return list(found)[:number]


def _with_gaps(sentence: str) -> str:
    """The sentence without some of its words, though never without all; the sentence alone decides which."""
    draw, spans = random.Random(sentence), word_spans(sentence)
    dropped = [span for span in spans if draw.random() < DROPPED]
    dropped = dropped[1:] if len(dropped) == len(spans) else dropped
    starts, ends = [0, *(end for _, end in dropped)], [*(start for start, _ in dropped), len(sentence)]
    kept = (sentence[start:end] for start, end in zip(starts, ends, strict=True))
    return " ".join("".join(kept).split())

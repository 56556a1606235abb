"""Capabilities of models, as protocols: an evaluator names the one it needs, and knows nothing else of a model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Unpack, runtime_checkable

from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.evaluation.result import Array
from ssl_nlp.modules.sampling import SamplingOptions
from ssl_nlp.objectives.predictions import Explained
from ssl_nlp.objectives.scores import Likelihood, Prompt, Scores, WordScores


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. Evaluators also take a model of sentence-transformers, with its `encode`.

    One with a closed vocabulary may also have `covers(word) -> bool`, which word similarity and analogies ask.
    """

    def embed(self, texts: Sequence[str], /) -> Tensor:
        """(N, E) float32 on the CPU, one row a text; dense, or in the layout `torch.sparse_coo`."""


@runtime_checkable
class PoolingEmbedder(Protocol):
    """Embeds texts in several ways at once, from one pass through its encoder."""

    def embed_all(self, texts: Sequence[str], /) -> Mapping[str, Tensor]:
        """Embeddings (N, E) by the name of their pooling, such as `mean`; the first of equally good ones is used."""


@runtime_checkable
class Retriever(Protocol):
    """Says how relevant documents are to queries in another way than by the cosines of two vectors."""

    def search_in(self, documents: Sequence[str], /) -> Callable[[Sequence[str]], Array]:
        """A function from Q queries to the scores (Q, D) of D documents, float64; higher is more relevant."""


@runtime_checkable
class Scorer(Protocol):
    """Says how likely texts are, in one of three senses."""

    @property
    def likelihood(self) -> Likelihood | None:
        """The kind of its scores, known before any is computed."""

    def score(self, texts: Sequence[str], /) -> Scores:
        """The score of each text."""


@runtime_checkable
class SeveralScorer(Scorer, Protocol):
    """Scores texts in several senses, of which `likelihood` is the one that it takes if it is not told another."""

    @property
    def likelihoods(self) -> Sequence[Likelihood]:
        """The kinds of scores that it can give."""

    def score(self, texts: Sequence[str], /, *, kind: Likelihood | None = None) -> Scores:
        """The score of each text, of the given kind."""


@runtime_checkable
class Speller(Protocol):
    """Says what it costs to spell out those parts of texts that its tokenizer does not know."""

    def spelling(self, texts: Sequence[str], /) -> Tensor:
        """(N,) float64: nats for each text, 0 where nothing is lost."""


@runtime_checkable
class PseudoScorer(Protocol):
    """Gives a pseudo-likelihood that no word inflates whose tokens give each other away."""

    def pseudo_score(self, texts: Sequence[str], /) -> Scores:
        """The pseudo-likelihood of each text. A token is predicted without itself and the later tokens of its word."""


@runtime_checkable
class WordScorer(Protocol):
    """Says how likely words are in the gap of a text."""

    def score_words(self, prompts: Sequence[Prompt], /) -> WordScores:
        """The score of each word of each prompt; all prompts have the same number of words.

        Raises:
            Unable: it cannot score these words.
        """


@runtime_checkable
class Reader(Protocol):
    """Says how much of a text it reads: an encoder reads as many tokens as it has room for."""

    def characters_read(self, texts: Sequence[str], /) -> list[int]:
        """How many characters of each text it reads; it cuts the rest."""


@runtime_checkable
class Generator(Protocol):
    """Continues texts."""

    def generate(self, prompts: Sequence[str], /) -> list[str]:
        """The continuation of each prompt, which is not repeated."""


@runtime_checkable
class MaskFiller(Protocol):
    """Fills masks in texts."""

    def fill_mask(self, text: str, top_k: int = 5, /) -> list[list[tuple[str, float]]]:
        """For each `[MASK]` in a text, the most probable tokens and their probabilities."""


@runtime_checkable
class Infiller(Protocol):
    """Writes what is missing in texts."""

    def infill(self, texts: Sequence[str], /) -> list[str]:
        """Each text with what the model writes in place of each `[MASK]`."""


@runtime_checkable
class Drawer(Protocol):
    """Draws texts from a distribution of its own."""

    def draw(self, number: int, max_new_tokens: int = 64, **options: Unpack[SamplingOptions]) -> list[str]:
        """`number` independent texts, of at most `max_new_tokens` tokens and of what the model has room for."""


@runtime_checkable
class Predictor(Protocol):
    """Predicts a label for each text."""

    def predict(self, texts: Sequence[str], /) -> list[Any]:
        """The label of each text."""


@runtime_checkable
class Searcher(Protocol):
    """Searches for one text that answers another, such as its translation."""

    search: Any  # how: a `ssl_nlp.modules.BeamSearch`

    def predict(self, texts: Sequence[str], /) -> list[str]:
        """The text that was found for each text."""


@runtime_checkable
class LossExplainer(Protocol):
    """Says what its loss predicts, and from what."""

    def explain_loss(self, batch: TokenBatch, /) -> Explained:
        """The predictions in the loss of a batch as a validation computes it, with the same random draws.

        Raises:
            Unable: the loss is more than predictions of tokens from others.
        """


LACKING: dict[Any, str] = {
    Embedder: "embeds no text",
    Scorer: "gives no likelihood of a text",
    WordScorer: "ranks no words in a text",
    Generator: "generates no text",
    Drawer: "draws no texts",
    Predictor: "predicts no labels",
    Searcher: "writes no text from another",
}


def lacks(model: object, needs: Any, kind: str | None = None) -> str | None:
    """The reason why a model cannot do what an evaluator needs, such as "SimCLR generates no text"; None if it can.

    Args:
        model: any object.
        needs: one of the protocols.
        kind: what the model is called; default: its class.
    """
    can = isinstance(model, needs) or (needs is Embedder and hasattr(model, "encode"))
    if can and needs is Embedder:  # a model without an encoder has embeddings of width 0
        can = getattr(model, "embedding_dim", None) != 0
    return None if can else f"{kind or type(model).__name__} {LACKING[needs]}"

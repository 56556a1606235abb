"""Splits that do not leak: the rules that all corpora share."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property

from ssl_nlp.corpora.base import SPLITS, Corpus, Document, Span, Split, split_of, text_digest
from ssl_nlp.errors import UserError

# A text that occurs in several splits stays in the first of these: numbers are reported on test and chosen on valid, so
# train is the one to give way.
PRECEDENCE: tuple[Split, ...] = ("test", "valid", "train")


class SplitCorpus(Corpus):
    """A corpus whose valid and test splits are texts of their own, or shares of the texts of train.

    A subclass reads the splits that have texts of their own. This class divides train by the digest of each text, leaves
    out blank texts, and keeps each text once over all splits: in test, else in valid, else in train. It remembers
    sixteen bytes for each text of the split and of those with higher precedence.

    A document with a pair belongs where its text does. Where either of the two occurs in a split that takes precedence,
    be it as a text or as a pair, the document is left out. If pairs have labels, a text may occur in several of
    them, as a premise with several hypotheses does: each pair is kept once. Texts with tags or spans are kept as often as
    they occur in their split, because the usual scores count every word and every question.

    Args:
        valid, test: the share of train's texts (0 < share < 1) that make this split; None if it has its own.
        paired: whether documents have pairs, which the parts of train may have in common.

    Raises:
        UserError: a share is out of range.
    """

    def __init__(self, valid: float | None, test: float | None, paired: bool = False) -> None:
        self.paired = paired
        self.shares: dict[Split, float] = {}
        for split, share in zip(SPLITS[1:], (valid, test), strict=True):
            if share is None:
                continue
            if not 0 < share < 1:
                raise UserError(f"`{split}: {share}` is not a share of the documents: choose one between 0 and 1")
            self.shares[split] = share
        if sum(self.shares.values()) >= 1:
            raise UserError(f"the shares {self.shares} leave nothing to train on: choose smaller ones")

    @abstractmethod
    def read(self, split: Split) -> Iterator[Document]:
        """The documents of a split that has its own, in their order. Not called for a split that is a share of train."""

    def has(self, split: Split) -> bool:
        """Whether the split exists; only test may be missing."""
        return True

    def documents(self, split: Split) -> Iterator[Document]:
        if not self.has(split):
            raise UserError(
                f"{self} has no {split} split: set its `{split}`, on the command line --data.corpus.{split}"
            )
        held_out = self.held_out(split)
        seen: set[bytes] = set()
        read = 0
        for digests, document in self.digested(split):
            read += 1
            once = digests[0] if document.label is None else b"".join(digests)
            if (once not in seen or self._every_occurrence_counts(document)) and held_out.isdisjoint(digests):
                seen.add(once)
                yield document
        if not seen:
            reason = f"all of its {read} documents occur in another split, too" if read else "too few documents"
            raise UserError(
                f"the {split} split of {self} is empty ({reason}): give more text, cut it into smaller documents, "
                "or set `valid` and `test` to texts of their own or to other shares"
            )

    @property
    def parts_may_share(self) -> bool:
        """Whether parts of train may have a text in common, as the pair of another one."""
        return self.paired

    def held_out(self, split: Split) -> set[bytes]:
        """The digests of texts and pairs that `split` must leave out, because a split of higher precedence has them."""
        digests: set[bytes] = set()
        for other in PRECEDENCE[: PRECEDENCE.index(split)]:
            both_from_train = other in self.shares and (split == "train" or split in self.shares)
            if not self.has(other) or (both_from_train and not self.parts_may_share):
                continue
            for document in self.documents(other):
                digests.update(self.digests_of(document))
        return digests

    def digested(self, split: Split) -> Iterator[tuple[list[bytes], Document]]:
        """The documents of `split`, before de-duplication, with the digests of the text and of the pair behind it."""
        from_train = split == "train" or split in self.shares
        for document in self.read("train" if from_train else split):
            if not document.text or document.text.isspace():
                continue
            digests = self.digests_of(document)
            if not from_train or self.part_of_train(digests[0]) == split:
                yield digests, document

    def part_of_train(self, digest: bytes) -> Split:
        """The split to which a text of train belongs."""
        return split_of(digest, self.shares.get("valid", 0.0), self.shares.get("test", 0.0))

    def digests_of(self, document: Document) -> list[bytes]:
        """The digest of the text and, where there is one, of its pair.

        A question does not count: the same one may be asked of texts of all splits.
        """
        pair = None if self._is_question(document) else document.pair
        return [text_digest(text) for text in (document.text, pair) if text is not None]

    def _is_question(self, document: Document) -> bool:
        """Whether the pair of a document is a question: it has an id, or its label is answers."""
        if document.id is not None or document.pair is None or not isinstance(document.label, tuple):
            return document.id is not None
        return is_marked(document.label) if document.label else self._answers

    def _every_occurrence_counts(self, document: Document) -> bool:
        """Whether a document is kept as often as it occurs in its split: a text with tags or spans, or a question.

        Tags look like several classes of a text, but there are as many of them as words, or as characters.
        """
        if not isinstance(document.label, tuple) or self._is_question(document):
            return self._is_question(document)
        if is_marked(document.label):
            return True
        words = document.text.split()
        return document.pair is None and len(document.label) in (len(words), sum(map(len, words)))

    @cached_property
    def _answers(self) -> bool:
        """Whether an empty label of a pair means that a question has no answer, rather than that a pair has no class.

        The first label of train that is not empty decides.
        """
        labels = (document.label for document in self.read("train"))
        return is_marked(next((label for label in labels if label and isinstance(label, tuple)), ()))


def is_marked(label: tuple[str, ...] | tuple[Span, ...]) -> bool:
    """Whether a label is spans, rather than classes or tags."""
    return any(isinstance(part, Span) for part in label)

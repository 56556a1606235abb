"""Splits that do not leak: the rules that all corpora share."""

from abc import abstractmethod
from collections.abc import Iterator

from ssl_nlp.corpora.base import SPLITS, Corpus, Document, Split, split_of, text_digest
from ssl_nlp.errors import UserError

# A text that occurs in several splits stays in the first of these: numbers are reported on test and chosen on valid, so
# train is the one to give way.
PRECEDENCE: tuple[Split, ...] = ("test", "valid", "train")


class SplitCorpus(Corpus):
    """A corpus whose valid and test splits are texts of their own, or shares of the texts of train.

    A subclass says what it reads for a split that has texts of its own; this class divides train by the digest of each
    text, leaves out blank texts, and keeps each text once over all splits: in test, else in valid, else in train. What
    it remembers is sixteen bytes for each text of the split and of those before it.

    Args:
        valid, test: the share of train's texts (0 < share < 1) that make this split; None where it has its own.

    Raises:
        UserError: a share is out of range.
    """

    def __init__(self, valid: float | None, test: float | None) -> None:
        self.shares: dict[Split, float] = {}
        for split, share in zip(SPLITS[1:], (valid, test), strict=True):
            if share is None:
                continue
            if not 0 < share < 1:
                raise UserError(f"`{split}: {share}` is no share of the documents: choose one between 0 and 1")
            self.shares[split] = share
        if sum(self.shares.values()) >= 1:
            raise UserError(f"the shares {self.shares} leave nothing to train on: choose smaller ones")

    @abstractmethod
    def read(self, split: Split) -> Iterator[Document]:
        """The documents that `split` was given as its own, as they come. Not called for a split that is a share."""

    def has(self, split: Split) -> bool:
        """Whether there is such a split at all; only test may be missing."""
        return True

    def documents(self, split: Split) -> Iterator[Document]:
        if not self.has(split):
            raise UserError(f"{self} has no {split} split: set `{split}`")
        seen = self.held_out(split)
        read = kept = 0
        for digest, document in self.digested(split):
            read += 1
            if digest not in seen:
                seen.add(digest)
                kept += 1
                yield document
        if not kept:
            reason = f"all of its {read} documents occur in another split, too" if read else "too few documents"
            raise UserError(
                f"the {split} split of {self} is empty ({reason}): give more text, cut it into smaller documents, "
                "or set `valid` and `test` to texts of their own or to other shares"
            )

    def held_out(self, split: Split) -> set[bytes]:
        """The digests of the texts that `split` must leave out because they belong to a split of higher precedence."""
        digests: set[bytes] = set()
        for other in PRECEDENCE[: PRECEDENCE.index(split)]:
            both_from_train = other in self.shares and (split == "train" or split in self.shares)
            if self.has(other) and not both_from_train:  # the parts of train have no text in common
                digests.update(text_digest(document.text) for document in self.documents(other))
        return digests

    def digested(self, split: Split) -> Iterator[tuple[bytes, Document]]:
        """The documents of `split` with their digests, before de-duplication."""
        from_train = split == "train" or split in self.shares
        for document in self.read("train" if from_train else split):
            if not document.text or document.text.isspace():
                continue
            digest = text_digest(document.text)
            if not from_train or self.part_of_train(digest) == split:
                yield digest, document

    def part_of_train(self, digest: bytes) -> Split:
        """The split to which a text of train belongs."""
        return split_of(digest, self.shares.get("valid", 0.0), self.shares.get("test", 0.0))

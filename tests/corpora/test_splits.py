import random
from collections.abc import Iterator
from itertools import chain

import pytest

from ssl_nlp.corpora import SPLITS, Document
from ssl_nlp.corpora.base import Span, Split, split_of, text_digest
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.errors import UserError

VALID, TEST = 0.2, 0.1


class Lists(SplitCorpus):
    """Texts from lists, written "text|pair" where they are pairs; a split without a list is a share of train."""

    def __init__(
        self, texts: dict[Split, list[str]], valid: float | None = None, test: float | None = None, paired: bool = False
    ) -> None:
        super().__init__(valid, test, paired)
        self.texts = texts

    def has(self, split: Split) -> bool:
        return split in self.texts or split in self.shares

    def read(self, split: Split) -> Iterator[Document]:
        for line in self.texts[split]:
            text, _, pair = line.partition("|")
            yield Document(text, pair=pair if self.paired else None)

    def fingerprint(self) -> str:
        return ""


def some_texts(seed: int, number: int = 300) -> list[str]:
    """Texts with repetitions; many of them also occur with another seed."""
    generator = random.Random(seed)
    return [f"text {generator.randrange(400)}" for _ in range(number)]


def oracle(texts: dict[Split, list[str]], valid: float | None, test: float | None) -> dict[Split, list[str]]:
    """Every split in memory: first divide train, then let test, valid and train each take what is not taken yet."""

    def part(text: str) -> Split:
        return split_of(text_digest(text), valid or 0, test or 0)

    taken: set[str] = set()
    splits: dict[Split, list[str]] = {}
    for split in reversed(SPLITS):
        if split in texts and split != "train":
            candidates = texts[split]
        else:
            candidates = [text for text in texts["train"] if part(text) == split]
        splits[split] = []
        for text in candidates:
            if text not in taken:
                taken.add(text)
                splits[split].append(text)
    return splits


@pytest.mark.parametrize("own_valid", [False, True])
@pytest.mark.parametrize("own_test", [False, True])
def test_no_text_twice_over_all_splits(own_valid: bool, own_test: bool) -> None:
    texts: dict[Split, list[str]] = {"train": some_texts(0)}
    texts |= {"valid": some_texts(1, 80)} if own_valid else {}
    texts |= {"test": some_texts(2, 80)} if own_test else {}
    valid, test = None if own_valid else VALID, None if own_test else TEST
    corpus = Lists(texts, valid, test)
    expected = oracle(texts, valid, test)
    for split in SPLITS:
        assert expected[split]
        assert [document.text for document in corpus.documents(split)] == expected[split]


@pytest.mark.parametrize("own_valid", [False, True])
@pytest.mark.parametrize("own_test", [False, True])
def test_neither_text_nor_pair_is_in_two_splits(own_valid: bool, own_test: bool) -> None:
    generator = random.Random(0)

    def pairs(number: int) -> list[str]:
        return [f"{generator.randrange(1500)}|{generator.randrange(1500)}" for _ in range(number)]

    lines: dict[Split, list[str]] = {"train": pairs(600)}
    lines |= {"valid": pairs(80)} if own_valid else {}
    lines |= {"test": pairs(80)} if own_test else {}
    corpus = Lists(lines, None if own_valid else VALID, None if own_test else TEST, paired=True)
    splits = {split: list(corpus.documents(split)) for split in SPLITS}
    held = {split: {text for d in splits[split] for text in (d.text, d.pair)} for split in SPLITS}
    assert not held["train"] & held["valid"]
    assert not held["train"] & held["test"]
    assert not held["valid"] & held["test"]
    # Of train nothing is missing but what had to give way: texts and pairs of the other two, and what is not its share.
    others = held["valid"] | held["test"]
    shares = (0 if own_valid else VALID, 0 if own_test else TEST)
    expected: dict[str, str] = {}
    for text, pair in (line.split("|") for line in lines["train"]):
        if split_of(text_digest(text), *shares) == "train" and text not in others and pair not in others:
            expected.setdefault(text, pair)
    assert {d.text: d.pair for d in splits["train"]} == expected
    assert expected


@pytest.mark.parametrize(
    ("label", "number", "kept"),
    [
        ("x", None, False),
        (("x",), None, False),  # several classes
        (("x", "y"), None, False),
        ((Span(0, 1),), None, True),  # the pair is a question
        (None, "q1", True),
        ((), "q1", True),
        ((), None, False),  # no class
    ],
)
def test_a_pair_that_valid_has_is_left_out_of_train_unless_it_is_a_question(label, number, kept) -> None:
    corpus = Lists({}, paired=True)
    documents = {
        "train": [Document("a", label, "who", number), Document("b", label, "when", number)],
        "valid": [Document("c d", label, "who", number)],
    }
    corpus.has, corpus.read = documents.__contains__, lambda split: iter(documents[split])  # type: ignore[method-assign]
    assert [d.text for d in corpus.documents("train")] == (["a", "b"] if kept else ["b"])
    if label == ():  # where others have answers, a question without one
        documents["train"].append(Document("e", (Span(0, 1),), "where"))
        assert [d.text for d in Lists.documents(corpus, "train")] == (["a", "b", "e"] if kept else ["b", "e"])


def test_a_text_of_several_classes_is_kept_once_and_one_with_tags_as_often_as_it_occurs() -> None:
    repeated = [Document("one two", ("x",)), Document("one two", ("A", "B")), Document("一二", ("A", "B"))] * 2
    corpus = Lists({"train": []})
    corpus.read = lambda split: iter(repeated)  # type: ignore[method-assign]
    corpus.has = lambda split: split == "train"  # type: ignore[method-assign]
    assert [d.label for d in corpus.documents("train")] == [("x",), ("A", "B"), ("A", "B"), ("A", "B"), ("A", "B")]


def test_all_texts_are_kept_in_about_the_shares_that_were_asked_for() -> None:
    texts = [f"text {i}" for i in range(4000)]
    corpus = Lists({"train": texts}, VALID, TEST)
    splits = {split: [document.text for document in corpus.documents(split)] for split in SPLITS}
    assert sorted(chain(*splits.values())) == sorted(texts)
    assert abs(len(splits["valid"]) / len(texts) - VALID) < 0.03
    assert abs(len(splits["test"]) / len(texts) - TEST) < 0.03


def test_a_text_keeps_its_split_when_others_join_the_corpus() -> None:
    before = Lists({"train": [f"text {i}" for i in range(200)]}, VALID, TEST)
    after = Lists({"train": [f"text {i}" for i in range(400)]}, VALID, TEST)
    for split in SPLITS:
        assert {d.text for d in before.documents(split)} <= {d.text for d in after.documents(split)}


def test_documents_are_lazy() -> None:
    def endless() -> Iterator[Document]:
        while True:
            yield Document(f"text {next(numbers)}")

    numbers = iter(range(10**9))
    corpus = Lists({"train": []}, VALID, TEST)
    corpus.read = lambda split: endless()  # type: ignore[method-assign]
    assert next(corpus.documents("train")).text.startswith("text ")


def test_blank_texts_are_left_out() -> None:
    corpus = Lists({"train": ["", " \n\t", "a"], "valid": ["b"]})
    assert [document.text for document in corpus.documents("train")] == ["a"]


@pytest.mark.parametrize(("valid", "test"), [(0, 0.1), (1.0, 0.1), (-0.1, 0.1), (0.1, 1.5), (0.5, 0.5)])
def test_impossible_shares_are_refused(valid: float, test: float) -> None:
    with pytest.raises(UserError, match="share"):
        Lists({"train": ["a"]}, valid, test)


def test_a_missing_test_split_is_an_error() -> None:
    with pytest.raises(UserError, match="no test split: set its `test`, on the command line --data.corpus.test"):
        next(Lists({"train": ["a"], "valid": ["b"]}).documents("test"))


def test_fewer_documents_than_splits() -> None:
    corpus = Lists({"train": ["a", "b"]}, VALID, TEST)
    empty = [split for split in SPLITS if not any(split_of(text_digest(t), VALID, TEST) == split for t in "ab")]
    assert empty
    for split in empty:
        with pytest.raises(UserError, match=f"the {split} split .* is empty .too few"):
            list(corpus.documents(split))


def test_a_split_that_only_repeats_another() -> None:
    with pytest.raises(UserError, match="train split .* is empty .all of its 2 documents occur in another"):
        list(Lists({"train": ["a", "a"], "valid": ["a"]}).documents("train"))

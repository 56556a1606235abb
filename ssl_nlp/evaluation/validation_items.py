"""Validation items of data sets that have test items only: a share of these, or files of their own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.base import order_digest
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.analogies import WordAnalogies, Words
from ssl_nlp.evaluation.retrieval import Judgements

Valid = float | str | list[str] | None
"""The share of the test items that are for validation instead, files of others, or None: there are no validation items."""


def divided(
    name: str, found: Iterable[Document], valid: Valid, read: Callable[[str | list[str]], Iterable[Document]]
) -> tuple[list[Document], list[Document]]:
    """The test and the validation items, which have none in common.

    Items with the same first text stay together when a share is taken, which their digests decide. Validation items from
    files that are test items, too, are left out, also those with the two texts of a test item in reverse.

    Args:
        name: of the data set, for messages.
        found: the items of the test files.
        valid: where validation items come from.
        read: reads files.

    Raises:
        UserError: the share is out of range, or one of the two parts is empty.
    """
    items = list(found)
    if valid is None:
        return items, []
    if isinstance(valid, float | int):
        held_out = _share(name, (item.text for item in items), valid)
        test, other = ([item for item in items if (item.text in held_out) is part] for part in (False, True))
    else:
        test, other = items, list(read(valid))
    known = {frozenset((item.text, item.pair)) for item in test}
    other = [item for item in other if frozenset((item.text, item.pair)) not in known]
    _check(name, len(test), len(other), valid)
    return test, other


def divided_analogies(analogies: WordAnalogies, share: float) -> WordAnalogies:
    """The analogies without a share of them, which are those for validation. Both are looked for among the same words.

    Analogies with the same first word stay together.

    Raises:
        UserError: the share is out of range, or one of the two parts is empty.
    """
    name, candidates = analogies.name, [*analogies.candidates, *analogies.texts]
    held_out = _share(name, (words[0] for words in analogies.items), share)
    parts: list[Mapping[str, Sequence[Words]]] = [
        {
            category: [words for words in items if (words[0] in held_out) is part]
            for category, items in analogies.categories.items()
        }
        for part in (False, True)
    ]
    test_number, valid_number = (sum(map(len, part.values())) for part in parts)
    _check(name, test_number, valid_number, share)
    test, valid = (WordAnalogies(name, part, candidates) for part in parts)
    return replace(test, valid=valid)


def other_analogies(analogies: WordAnalogies, tested: WordAnalogies, valid: Valid) -> WordAnalogies:
    """The analogies that are not tested; `valid` says where they come from.

    Raises:
        UserError: there are none.
    """
    known = set(tested.items)
    kept = {
        category: [words for words in items if words not in known] for category, items in analogies.categories.items()
    }
    _check(analogies.name, len(known), sum(map(len, kept.values())), valid)
    return replace(analogies, categories=kept)


def divided_queries(judgements: Judgements, share: float) -> Judgements:
    """The queries without a share of them, which are those for validation. Both search the same documents.

    Raises:
        UserError: the share is out of range, or one of the two parts is empty.
    """
    held_out = _share(judgements.name, judgements.queries, share)
    _check(judgements.name, len({*judgements.queries}) - len(held_out), len(held_out), share)
    valid = _queries(judgements, held_out.__contains__)
    return replace(_queries(judgements, lambda query: query not in held_out), valid=valid)


def other_queries(judgements: Judgements, tested: Judgements, valid: Valid) -> Judgements:
    """The queries that are not tested; `valid` says where they come from.

    Raises:
        UserError: there are none.
    """
    known = {*tested.queries}
    _check(judgements.name, len(known), len({*judgements.queries} - known), valid)
    return _queries(judgements, lambda query: query not in known)


def _queries(judgements: Judgements, wanted: Callable[[str], bool]) -> Judgements:
    rows = [row for row, query in enumerate(judgements.queries) if wanted(query)]
    return replace(
        judgements,
        queries=[judgements.queries[row] for row in rows],
        gains=[judgements.gains[row] for row in rows],
        itself=[judgements.itself[row] for row in rows],
    )


def _share(name: str, texts: Iterable[str], share: float) -> set[str]:
    """A share of the different texts: those with the lowest digests."""
    if not 0 < share < 1:
        raise UserError(f"{name}: `valid: {share}` is not a share of the test items: choose one between 0 and 1")
    ordered = sorted({*texts}, key=order_digest)
    return {*ordered[: round(share * len(ordered))]}


def _check(name: str, test: int, valid: int, given: Valid) -> None:
    if not test or not valid:
        raise UserError(
            f"{name}: `valid: {given}` leaves {test} items for testing and {valid} for validation: use another share, "
            "other files, or null"
        )

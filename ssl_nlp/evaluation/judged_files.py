"""Queries, documents and judgements in files of BEIR's form (arXiv:2104.08663).

documents.jsonl:   {"_id": "d7", "title": "Tea", "text": "A drink made of leaves."}      the title may be missing
queries.jsonl:     {"_id": "q1", "text": "What is tea made of?"}
judgements.tsv:    query-id <tab> corpus-id <tab> score, below a header of these names; above 0 is relevant
"""

import json
import math
from collections.abc import Collection, Iterator

from ssl_nlp.corpora.base import text_digest
from ssl_nlp.corpora.lines import read_lines
from ssl_nlp.corpora.readers import tsv_rows
from ssl_nlp.corpora.text_files import find_files
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.excerpts import CHARACTERS, excerpt
from ssl_nlp.evaluation.retrieval import Judgements
from ssl_nlp.evaluation.suite import subset

Patterns = str | list[str]

HEADER = ("query-id", "corpus-id", "score")
QUERIES = 5_000
DOCUMENTS = 100_000


def read_judgements(
    name: str,
    documents: Patterns,
    queries: Patterns,
    judgements: Patterns,
    characters: int | None = CHARACTERS,
) -> Judgements:
    """The queries with a relevant document, at most 5,000, and at most 100,000 documents beside the relevant ones.

    Both are those with the lowest `order_digest`. Documents without text are left out. Those of equal score are ranked by
    the digests of their ids. A document with the id and the text of a query is that query, and not searched. Of queries and
    documents, the first `characters` are used; None: all.

    Raises:
        UserError: a file cannot be read or has another form, or something is judged that is in no file.
    """
    asked = {key: text for key, _, text in _records(queries)}
    texts, itself = {}, set()
    for key, title, text in _records(documents):
        texts[key] = " ".join(filter(None, (title, text))).strip()
        if key in asked and asked[key].strip() in (text.strip(), texts[key]):
            itself.add(key)
    relevant: dict[str, dict[str, float]] = {}
    for query, document, gain in _judged(judgements, asked.keys(), texts.keys()):
        own = query == document and query in itself
        if gain > 0 and texts[document] and asked[query].strip() and not own:
            relevant.setdefault(query, {})[document] = gain
    chosen = subset(relevant, QUERIES, lambda query: asked[query])
    judged = {document for query in chosen for document in relevant[query]}
    others = subset((key for key, text in texts.items() if text and key not in judged), DOCUMENTS)
    ids = sorted([*judged, *others], key=text_digest)
    place = {key: number for number, key in enumerate(ids)}
    return Judgements(
        name,
        [excerpt(asked[query], characters) for query in chosen],
        [excerpt(texts[key], characters) for key in ids],
        [{place[document]: gain for document, gain in relevant[query].items()} for query in chosen],
        [place[query] if query in itself and query in place else None for query in chosen],
    )


def _records(patterns: Patterns) -> Iterator[tuple[str, str, str]]:
    """Id, title and text of each line of some files."""
    seen: set[str] = set()
    for path in find_files(patterns):
        for number, line in enumerate(read_lines(path), start=1):
            if line.isspace():
                continue
            place = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{place} is not JSON ({error}): repair it") from error
            given = [record.get(key, "") if isinstance(record, dict) else None for key in ("_id", "title", "text")]
            key, title, text = given
            if not (isinstance(key, str) and key and isinstance(title, str | None) and isinstance(text, str)):
                raise UserError(f'{place} is not a record {{"_id": "...", "text": "..."}} of strings: repair it')
            if key in seen:
                raise UserError(f"{place}: the id {key!r} is there twice: remove or rename one")
            seen.add(key)
            yield key, title or "", text


def _judged(
    patterns: Patterns, queries: Collection[str], documents: Collection[str]
) -> Iterator[tuple[str, str, float]]:
    """Query, document and score of each judgement."""
    seen: set[tuple[str, str]] = set()
    for path in find_files(patterns):
        for number, fields in tsv_rows(path):
            place = f"{path}, line {number}"
            if number == 1 and fields[0] == HEADER[0]:
                continue
            if len(fields) != len(HEADER):
                raise UserError(f"{place} has {len(fields)} fields: write {', '.join(HEADER)}, separated by tabs")
            query, document, score = fields
            for kind, key, known in (("query", query, queries), ("document", document, documents)):
                if key not in known:
                    raise UserError(f"{place}: there is no {kind} with the id {key!r}: add it, or remove the line")
            if (query, document) in seen:
                raise UserError(f"{place}: {document!r} is judged twice for {query!r}: remove one of the lines")
            seen.add((query, document))
            try:
                gain = float(score)
            except ValueError:
                gain = math.nan
            if not math.isfinite(gain):
                raise UserError(f"{place}: the score {score!r} is not a number: correct it")
            yield query, document, gain

"""Queries, documents and judgements in files, and the other tasks of files that need no training text."""

import json
from pathlib import Path

import pytest

from ssl_nlp.corpora.base import text_digest
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.files_suite import files_suite
from ssl_nlp.evaluation.judged_files import read_judgements
from tests.evaluation.vectors import check_results

DOCUMENTS = [{"_id": f"d{n}", "title": f"Title {n}", "text": f"a text of {n}"} for n in range(30)]
QUERIES = [{"_id": f"q{n}", "text": f"what is {n}"} for n in range(6)]
JUDGED = [f"q{n}\td{n}\t{n % 3}" for n in range(5)] + ["q1\td9\t2"]
FILES = {"documents": "documents.jsonl", "queries": "queries.jsonl", "judgements": "judgements.tsv"}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write()


def write(documents=DOCUMENTS, queries=QUERIES, judged=JUDGED):
    for name, records in (("documents", documents), ("queries", queries)):
        lines = (one if isinstance(one, str) else json.dumps(one) for one in records)
        Path(f"{name}.jsonl").write_text("\n".join(lines))
    Path("judgements.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))


def read():
    return read_judgements("mine", *FILES.values())


def test_files_of_beir():
    blank = {"_id": "blank", "title": None, "text": " "}
    same = {"_id": "q4", "title": "", "text": "what is 4"}
    write([*DOCUMENTS, blank, same], judged=[*JUDGED, "q4\tblank\t1"])
    data = read()
    gains = {
        query: {data.documents[place]: gain for place, gain in found.items()}
        for query, found in zip(data.queries, data.gains, strict=True)
    }
    assert gains == {
        "what is 1": {"Title 1 a text of 1": 1, "Title 9 a text of 9": 2},
        "what is 2": {"Title 2 a text of 2": 2},
        "what is 4": {"Title 4 a text of 4": 1},
    }
    assert len(data.documents) == 31  # without the blank one
    ids = ["q4" if text == "what is 4" else f"d{text.rpartition(' ')[2]}" for text in data.documents]
    assert ids == sorted(ids, key=text_digest)
    itself = {query: place for query, place in zip(data.queries, data.itself, strict=True) if place is not None}
    assert {query: data.documents[place] for query, place in itself.items()} == {"what is 4": "what is 4"}


def test_a_document_that_is_no_query_is_searched_whatever_its_id():
    """It ends with the text of the query of the same id; another one is the query, and judged as its own answer."""
    tea = {"_id": "q1", "title": "Drinks", "text": "a cup of what is 1"}
    itself = {"_id": "q2", "title": "Questions", "text": "what is 2 "}
    write([*DOCUMENTS, tea, itself], judged=[*JUDGED, "q1\tq1\t2", "q2\tq2\t1"])
    data = read()
    found = {query: (gains, own) for query, gains, own in zip(data.queries, data.gains, data.itself, strict=True)}
    gains, own = found["what is 1"]
    assert own is None and gains[data.documents.index("Drinks a cup of what is 1")] == 2
    gains, own = found["what is 2"]
    assert data.documents[own] == "Questions what is 2" and own not in gains


def test_relevant_documents_stay_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr("ssl_nlp.evaluation.judged_files.DOCUMENTS", 3)
    monkeypatch.setattr("ssl_nlp.evaluation.judged_files.QUERIES", 2)
    data = read()
    assert len(data.queries) == 2 and len(data.documents) == 3 + sum(map(len, data.gains))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"documents": ["{"]}, "documents.jsonl, line 1 is not JSON"),
        ({"queries": ['{"_id": 3, "text": "x"}']}, 'queries.jsonl, line 1 is not a record {"_id"'),
        ({"documents": [*DOCUMENTS, DOCUMENTS[0]]}, "documents.jsonl, line 31: the id 'd0' is there twice"),
        ({"judged": ["q0\td0"]}, "judgements.tsv, line 2 has 2 fields: write query-id, corpus-id, score"),
        ({"judged": ["q0\tdoc\t1"]}, "judgements.tsv, line 2: there is no document with the id 'doc'"),
        ({"judged": ["x\td0\t1"]}, "judgements.tsv, line 2: there is no query with the id 'x'"),
        ({"judged": ["q0\td0\thigh"]}, "judgements.tsv, line 2: the score 'high' is not a number"),
        ({"judged": ["q0\td0\t1", "q0\td0\t2"]}, "judgements.tsv, line 3: 'd0' is judged twice for 'q0'"),
        ({"judged": ["q0\td0\t0"]}, "mine has no query with a relevant document"),
    ],
)
def test_mistakes_have_a_line(given, complaint):
    write(**given)
    with pytest.raises(UserError) as caught:
        read()
    assert complaint in str(caught.value)


def suite(**data):
    Path("suite.yaml").write_text(json.dumps({"name": "mine", "data": data}))
    return files_suite("suite.yaml")


TOPICS = {"task": "clustering", "test": "topics.csv", "label": "topic"}
PAIRS = {"task": "pair_classification", "test": "pairs.tsv", "text": 0, "pair": 1, "label": 2}


@pytest.fixture
def others():
    rows = [f"{word} text {n},{word}" for n in range(40) for word in ("good", "bad")]
    Path("topics.csv").write_text("\n".join(["text,topic", *rows, *rows]))
    Path("pairs.tsv").write_text("\n".join(f"one {n}\tother {n}\t{n % 2}" for n in range(40)))


def test_tasks_of_files(others):
    found = suite(search={"task": "retrieval", **FILES}, topics=TOPICS, pairs=PAIRS)
    names = {"search.retrieval", "topics.clustering", "pairs.pair_classification"}
    geometry = {name.partition(".")[0] + ".geometry" for name in names}
    assert found.evaluators.keys() == names | geometry | {"language_modelling"}
    check_results(found)
    data = found.evaluators["topics.clustering"].data
    assert len(data.valid) + len(data.test) == 80 and 5 < len(data.valid) < 30
    assert sum(found.evaluators["pairs.pair_classification"].data.related) == 20


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"task": "retrieval", **FILES, "test": "x.tsv"}, "give a retrieval either `test`, or `documents`, `queries`"),
        (
            {"task": "retrieval", "queries": "queries.jsonl"},
            "give a retrieval either `test`, or `documents`, `queries`",
        ),
        ({"task": "retrieval", **FILES, "queries": 3}, "`queries: 3` is not a valid setting for retrieval"),
        (TOPICS | {"valid": 1}, "`valid: 1` is not a valid setting for clustering"),
        (TOPICS | {"valid": 0.01}, "the valid part of suite.yaml, x has fewer than two classes"),
        (PAIRS | {"label": 0}, "the label 'one 26' of 'one 26' is neither 1"),
    ],
)
def test_mistakes_in_tasks_have_a_line(others, given, complaint):
    with pytest.raises(UserError) as caught:
        suite(x=given)
    assert complaint in str(caught.value)

"""Questions and the places of their answers come from SQuAD files and from records of the hub."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, List, Value

from ssl_nlp.corpora import Document, HubDataset, Span, TextFiles
from ssl_nlp.errors import UserError
from tests.corpora.files import fails, read

CONTEXT = "Ada left London. She never came back to London."


def answer(text: str, start: int | None = None) -> dict[str, Any]:
    return {"text": text, "answer_start": CONTEXT.index(text) if start is None else start}


def squad(*questions: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    return {"data": [{"paragraphs": [{"context": context, "qas": list(questions)}]}]}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


QUESTIONS = [
    {"id": "q0", "question": "Who?", "answers": [answer("Ada"), answer("Ada left"), answer("Ada")]},
    {"id": 1, "question": "Where?", "answers": [answer("London", 40)]},
    {"id": "q2", "question": "When?", "answers": [], "is_impossible": True},
    {"id": "q3", "question": "Why?", "answers": [answer("Ada")], "is_impossible": True},
    {"id": "q4", "question": "Asked of a test?"},
    {"id": "q0", "question": "Who?", "answers": [answer("She")]},
]
DOCUMENTS = [
    Document(CONTEXT, (Span(0, 3), Span(0, 8), Span(0, 3)), "Who?", "q0"),
    Document(CONTEXT, (Span(40, 46),), "Where?", "1"),
    Document(CONTEXT, (), "When?", "q2"),
    Document(CONTEXT, (), "Why?", "q3"),
    Document(CONTEXT, None, "Asked of a test?", "q4"),
    Document(CONTEXT, (Span(17, 20),), "Who?", "q0"),
]


def test_questions_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", squad(*QUESTIONS))
    assert read(path) == DOCUMENTS
    other = written(tmp_path / "b.json", squad({"question": "Who?", "answers": []}, context="Something else."))
    corpus = TextFiles(str(path), str(other), None)
    assert list(corpus.documents("train")) == DOCUMENTS  # the repeated question, too, which both splits ask
    other.write_text(path.read_text())
    with pytest.raises(UserError, match="all of its 6 documents occur in another split"):
        list(corpus.documents("train"))  # but no context is in both


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "line 1 is not JSON"),
        ([], "is not in SQuAD's format: the field `data` is missing"),
        ({"data": [{}]}, "the field `paragraphs` is missing"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "the field `context` is missing"),
        ({"data": [{"paragraphs": [{"context": CONTEXT}]}]}, "context 'Ada left London."),
        (squad({"id": 5, "answers": []}), "question 5: the field `question` is missing"),
        (squad({"id": 5, "question": " "}), "question 5: the field `question` is blank"),
        (squad({"id": 5, "question": 5}), "the field `question` is not a text"),
        (squad({"id": 5, "question": "?"}, context=""), "the field `context` is blank"),
        (squad({"id": 5, "question": "?"}, context="\ud800"), "half of a surrogate pair in `context`"),
        (
            squad({"id": 5, "question": "?", "answers": [{"text": "Ada"}]}),
            "question 5: the field `answer_start` is mis",
        ),
        (squad({"id": 5, "question": "?", "answers": "Ada"}), "question 5: `answers` is str, not a list"),
        (
            squad({"id": 5, "question": "?", "answers": [answer("Ada", 1)]}),
            "question 5: the answer 'Ada' is not at character 1 of its context, which reads 'da ' there: it begins at "
            "character 0",
        ),
        (
            squad({"id": 5, "question": "?", "answers": [answer("Bob", 4)]}),
            "correct the answer, or remove the question",
        ),
        (squad({"id": 5, "question": "?", "answers": [answer("", 4)]}), "the answer '' is not at character 4"),
        (
            squad({"id": 5, "question": "?", "answers": [answer("Ada", -47)]}),
            "the answer 'Ada' is not at character -47",
        ),
        (squad(), "is empty"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: Any, complaint: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert complaint in fails(path)


def test_records_with_answers(tmp_path: Path) -> None:
    given = [d for d in DOCUMENTS if d.label is not None]
    lines = [
        {"c": d.text, "q": d.pair, "a": [answer(CONTEXT[s.start : s.stop], s.start) for s in d.label]} for d in given
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read(path, text="c", pair="q", label="a")
    assert found == [Document(d.text, d.label, d.pair) for d in given]
    path.write_text(json.dumps(lines[0] | {"a": [answer("Ada", 9)]}))
    assert "line 1: the answer 'Ada' is not at character 9" in fails(path, text="c", pair="q", label="a")


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "cache"))
    answers = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
    features = Features({"context": Value("string"), "question": Value("string"), "answers": answers})
    given = [d for d in DOCUMENTS if d.label is not None]
    rows = [
        {"text": [CONTEXT[s.start : s.stop] for s in d.label], "answer_start": [s.start for s in d.label]}
        for d in given
    ]
    columns = {"context": [d.text for d in given], "question": [d.pair for d in given], "answers": rows}
    (tmp_path / "data").mkdir()
    Dataset.from_dict(columns, features).to_parquet(str(tmp_path / "data" / "train.parquet"))
    other = {"context": ["Else."], "question": ["What?"], "answers": [{"text": ["Else"], "answer_start": [0]}]}
    Dataset.from_dict(other, features).to_parquet(str(tmp_path / "data" / "validation.parquet"))
    corpus = HubDataset(
        str(tmp_path / "data"), valid="validation", test=None, text="context", pair="question", label="answers"
    )
    assert list(corpus.documents("train")) == [Document(d.text, d.label, d.pair) for d in given]

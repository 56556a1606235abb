"""Files that a task on words, entities or questions cannot learn from end `fit` with one line, which names the place."""

import json

import pytest

from tests.end_to_end.cli import CONFIGS, run, tiny_encoder

pytestmark = pytest.mark.slow

GOOD = {
    "tagging": "Ada\tB-PER\nleft\tO\n\nIt\tO\nrains\tO\n",
    "relations": "label\ttext\nA(e1,e2)\tAn <e1>x</e1> of <e2>y</e2>.\nOther\tAn <e1>x</e1> and <e2>z</e2>.\n",
}
ENDINGS = {"tagging": "conll", "relations": "tsv", "question_answering": "json"}


def squad(answer: str, start: int) -> str:
    question = {"id": "q7", "question": "Who?", "answers": [{"text": answer, "answer_start": start}]}
    return json.dumps({"data": [{"paragraphs": [{"context": "Ada left.", "qas": [question]}]}]})


@pytest.mark.parametrize(
    ("task", "train", "more", "complaint"),
    [
        ("tagging", "Ada\tB-PER\nleft\n", [], "train.conll, line 2 has 1 column instead of 2"),
        ("tagging", "Ada\tB-X\nran\tO\n", [], "the class 'B-PER' is not among those of the train split (B-X, O)"),
        ("tagging", GOOD["tagging"], ["--data.corpus.label=null"], "no document of the train split of TextFiles has a"),
        ("tagging", GOOD["tagging"], ["--model.scheme=BIO"], "scheme"),
        ("tagging", GOOD["tagging"], ["--model.dropout=1.5"], "dropout of the head must be at least 0 and less than 1"),
        ("tagging", GOOD["tagging"], ["--data.labels=class"], "data.labels is 'class', but the label of"),
        ("relations", "label\ttext\nA(e1,e2)\tno marker\n", [], "'no marker' has 0 entities between <e1> and </e1>"),
        (
            "question_answering",
            squad("Ada", 4),
            [],
            "question 'q7': the answer 'Ada' is not at character 4 of its context",
        ),
        ("question_answering", squad("Ada", 0), ["--data.unit=text"], "set data.unit to ssl_nlp.data.Questions"),
        (
            "question_answering",
            squad("Ada", 0),
            ["--model.longest_answer=0"],
            "longest_answer must be 1 or more, not 0",
        ),
        ("question_answering", "{", [], "train.json, line 1 is not JSON"),
    ],
)
def test_fit_ends_with_one_line(task, train, more, complaint, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    files = []
    valid = GOOD.get(task, squad("Ada", 0)).replace("left", "went").replace("rains", "snows").replace("An", "The")
    for split, content in (("train", train), ("valid", valid)):
        (tmp_path / f"{split}.{ENDINGS[task]}").write_text(content)
        files.append(f"--data.corpus.{split}={split}.{ENDINGS[task]}")
    tiny = ["--data.tokenizer.vocab_size=320", "--data.batch_size=1", *tiny_encoder()]
    debug = ["--config", str(CONFIGS / "trainer" / "debug.yaml")]
    assert run("fit", "--config", f"tasks/{task}", *files, *tiny, *debug, *more) == 2
    shown = capfd.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("ssl-nlp: ")]
    assert len(lines) == 1, shown
    assert complaint in lines[0]
    assert "Traceback" not in shown

"""Suites of the user's own files."""

import json
import re
from pathlib import Path

import pytest

from ssl_nlp.comparison.columns import columns
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Template
from ssl_nlp.evaluation.capabilities import lacks
from ssl_nlp.evaluation.files_suite import files_suite
from ssl_nlp.evaluation.generated_text import score_texts
from tests.evaluation.vectors import Hashed, check_results


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name, lines):
    Path(name).write_text("".join(f"{line}\n" for line in lines))


def config(**data):
    Path("suite.yaml").write_text(json.dumps({"name": "mine", "data": data}))
    return "suite.yaml"


LABELLED = {"task": "classification", "train": "train.tsv", "test": "test.tsv", "text": "sentence", "label": "label"}
SCORED = {"task": "similarity", "test": "scored.tsv", "text": 1, "pair": 2, "score": 0}


@pytest.fixture
def files():
    header = ["sentence\tlabel"]
    write("train.tsv", header + [f"{'good' if i % 2 else 'bad'} film {i}\t{i % 2}" for i in range(60)] + ["leak\t1"])
    write("test.tsv", header + [f"{'good' if i % 2 else 'bad'} test {i}\t{i % 2}" for i in range(20)] + ["leak\t0"])
    write("scored.tsv", [f"{i % 5}.5\tsame {i // 2}\tother {i}" for i in range(30)])
    write("pairs.jsonl", [json.dumps({"en": f"the dog {i}", "de": f"der Hund {i}"}) for i in range(12)])
    write("words.tsv", [f"cat\tdog{i}\t{i}" for i in range(5)])
    write("capitals.txt", [": capitals", "Athens Greece Oslo Norway"])
    write("more.txt", ["Berlin", "", "Oslo"])


def test_files_of_every_kind(files):
    suite = files_suite(
        config(
            films=LABELLED,
            sts=SCORED,
            captions={"task": "retrieval", "test": "pairs.jsonl", "text": "en", "pair": "de"},
            words={"task": "word_similarity", "test": "words.tsv", "text": 0, "pair": 1, "score": 2},
            capitals={"task": "analogies", "test": "capitals.txt", "candidates": "more.txt"},
        )
    )
    assert suite.name == "mine"
    names = {"knn", "linear_probe", "few_labels_8", "few_labels_32", "few_labels_128", "geometry"}
    expected = {f"films.{name}" for name in names} | {"sts.similarity", "sts.geometry", "language_modelling"}
    expected |= {"captions.retrieval", "captions.geometry", "words.word_similarity", "capitals.analogies"}
    assert suite.evaluators.keys() == expected
    assert suite.evaluators["capitals.analogies"].data.texts == ["Athens", "Greece", "Oslo", "Norway", "Berlin"]
    check_results(suite)
    data = suite.evaluators["films.knn"].data
    assert "leak" in data.test.texts  # a text of both is test's alone
    assert "leak" not in [*data.train.texts, *data.valid.texts]
    assert len(data.train) + len(data.valid) == 60
    assert 0 < len(data.valid) < 20
    scored = suite.evaluators["sts.similarity"].data
    assert len(scored.first) == 30  # a text may occur in several pairs
    assert set(suite.train_texts) == set(data.train.texts)


def test_drawn_texts_beside_files(files):
    write("stories.txt", ["The dog sees a cat. It barks.", *(f"The dog {i} runs." for i in range(40)), "leak"])
    write("one.txt", ["A single one."])
    write("new.txt", [*(f"A cat {i} sleeps. It dreams {i}." for i in range(5)), "leak"])
    given = {"task": "generation", "train": "stories.txt"}
    suite = files_suite(config(stories=given | {"test": "new.txt"}))
    [(name, evaluator)] = suite.evaluators.items()
    assert name == "stories.free_generation" and not suite.texts
    assert evaluator.train[:2] == ["The dog sees a cat.", "It barks."] and len(evaluator.train) == 42
    held_out = {*evaluator.sample, *evaluator.held_out}
    assert len(evaluator.sample) == len(evaluator.held_out) == len(evaluator.valid) == 3
    assert held_out < {"leak", *(f"A cat {i} sleeps." for i in range(5)), *(f"It dreams {i}." for i in range(5))}
    shared = files_suite(config(stories=given | {"test": 0.3})).evaluators["stories.free_generation"]
    assert not {*shared.train} & {*shared.sample, *shared.held_out}
    assert 10 < len(shared.train) < 40
    for wrong, complaint in (
        ({"test": None}, "`test: None` is not a valid setting"),
        ({"shots": 1}, "unknown `shots`"),
        ({"pair": 1}, "stories: give a generation either the files of `test` with the `pair`"),
    ):
        with pytest.raises(UserError, match=complaint):
            files_suite(config(stories=given | wrong))
    with pytest.raises(UserError, match="1 held-out sentences, too few"):
        files_suite(config(stories=given | {"test": "one.txt"}))


class Uppercase:
    """Writes each text in capital letters."""

    search = None

    def predict(self, texts):
        return [text.upper() for text in texts]


def test_texts_written_from_those_of_files(files):
    write("pairs.jsonl", [json.dumps({"en": f"{'a dog' * i} sees", "de": f"{'A DOG' * i} HEARS"}) for i in range(1, 9)])
    given = {"task": "generation", "test": "pairs.jsonl", "text": "en", "pair": "de"}
    suite = files_suite(config(captions=given))
    [(name, evaluator)] = suite.evaluators.items()
    assert name == "captions.generation" and not suite.texts
    assert lacks(Hashed(), evaluator.needs) == "Hashed writes no text from another"
    result = evaluator(Uppercase())
    outputs = [source.upper() for source in evaluator.sources]
    assert result.metrics == score_texts(outputs, [text.replace("SEES", "HEARS") for text in outputs]).metrics
    assert result.details["outputs"] == outputs[:5] and len(result.items) == 8
    [column] = columns("mine", name, result)
    assert (column.title, column.group, column.higher_is_better) == ("captions: BLEU", "texts from texts", True)
    with pytest.raises(UserError, match="give a generation either the files of `test` with the `pair`"):
        files_suite(config(captions=given | {"test": 0.1}))


def test_pairs_of_texts_with_classes(files):
    rows = [f"a {i // 3}\tb {i}\t{'yes' if i % 2 else 'no'}" for i in range(90)]
    write("nli.tsv", ["premise\thypothesis\tlabel", *rows])
    given = LABELLED | {"train": "nli.tsv", "test": 0.3, "valid": 0.2, "text": "premise", "pair": "hypothesis"}
    data = files_suite(config(nli=given)).evaluators["nli.knn"].data
    parts = (data.train, data.valid, data.test)
    assert sum(map(len, parts)) == 90  # each premise three times
    first, second, third = (set(part.texts) for part in parts)
    assert not (first & second or first & third or second & third)
    assert sorted(zip(data.test.texts, data.test.pairs, data.test.labels, strict=True)) == sorted(
        tuple(row.split("\t")) for row in rows if row.split("\t")[0] in third
    )


def test_nothing_that_is_tested_is_learned_from(files):
    suite = files_suite(
        config(sts=SCORED, captions={"task": "retrieval", "test": "pairs.jsonl", "text": "en", "pair": "de"})
    )
    assert suite.texts and not suite.train_texts


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"data": LABELLED | {"label": "mark"}}, "no field `mark`"),
        ({"data": LABELLED | {"train": "one.tsv"}}, "only one class ('1')"),
        ({"data": SCORED | {"score": 1}}, "the score 'same"),
        ({"data": SCORED | {"test": "nan.tsv"}}, "the score 'nan'"),
        ({"data": SCORED | {"test": "empty.tsv"}}, "empty.tsv is empty"),
        ({"data": SCORED | {"test": "commas.csv"}}, "commas.csv, line 2 has 4 fields instead of 3"),
        ({"data": SCORED | {"test": "commas.tsv"}}, "the score '5,5'"),
        ({"data": LABELLED | {"train": "half.tsv"}}, "labels such as '1.5' are numbers, not classes"),
        ({"data": SCORED | {"test": "nowhere.tsv"}}, "no file matches 'nowhere.tsv'"),
        ({"data": LABELLED | {"train": "null.jsonl", "text": "sentence"}}, "has no label for 'a thing"),
        ({"data": {"task": "telepathy"}}, "set `task` to one of classification, similarity"),
        ({"data": LABELLED | {"lable": "x"}}, "unknown `lable`; classification takes"),
        ({"data": {"task": "similarity", "test": "scored.tsv"}}, "no `score`; similarity takes"),
        ({}, "`data` is empty"),
    ],
)
def test_every_mistake_has_a_line(files, given, complaint):
    write("one.tsv", ["sentence\tlabel", *(f"text {i}\t1" for i in range(40))])
    write("nan.tsv", ["nan\ta\tb", "1\tc\td"])
    write("empty.tsv", [])
    write("commas.csv", ["4,5,6", "5,5,a,b"])
    write("commas.tsv", ["4\ta\tb", "5,5\tc\td"])
    write("half.tsv", ["sentence\tlabel", *(f"text {i}\t{i % 4 / 2}" for i in range(40))])
    write("null.jsonl", [json.dumps({"sentence": f"a thing {i}", "label": None}) for i in range(40)])
    with pytest.raises(UserError) as caught:
        files_suite(config(**given))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["name: docs\ndata: {a: {}}", "data: {a: {}}", "[1]", "a: [", "name: a/b\ndata: {a: 1}"]
)
def test_an_invalid_config_is_refused(text):
    Path("bad.yaml").write_text(text)
    with pytest.raises(UserError, match="--config bad.yaml"):
        files_suite("bad.yaml")
    with pytest.raises(UserError, match="cannot read --config missing.yaml"):
        files_suite("missing.yaml")


PROMPTS = LABELLED | {"task": "prompts", "template": "{text}: {label}", "words": {0: "bad", "1": "good"}}


def test_prompts_of_files(files):
    suite = files_suite(config(mood=PROMPTS | {"shots": [0, 4], "calibration": "N/A", "rank": "byte", "seed": 3}))
    assert list(suite.evaluators) == ["mood.zero_shot", "mood.few_shot_4"]
    assert not suite.texts
    evaluator = suite.evaluators["mood.few_shot_4"]
    assert evaluator.template == Template(
        "{text}: {label}", {"0": "bad", "1": "good"}, shots=4, seed=3, rank="byte", calibration=["N/A"]
    )
    assert len(evaluator.data.test) == 21
    assert suite.fingerprint != files_suite(config(mood=PROMPTS)).fingerprint


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"words": {"0": "bad"}}, "mood: the label '1' has no word"),
        ({"template": "{label}"}, "mood: the template '{label}' needs {text}"),
        ({"template": None}, "`template: None` is not a valid setting for prompts"),
        ({"words": ["bad"]}, "`words: ['bad']` is not a valid setting for prompts"),
        ({"shots": "4"}, "`shots: 4` is not a valid setting for prompts"),
        ({"shots": True}, "`shots: True` is not a valid setting for prompts"),
        ({"calibration": 0}, "`calibration: 0` is not a valid setting for prompts"),
        ({"rank": "word"}, "mood: rank 'word' is unknown"),
    ],
)
def test_mistakes_in_prompts_have_a_line(files, settings, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        files_suite(config(mood=PROMPTS | settings))


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        ({"task": ["classification"]}, "set `task`"),
        ({"task": "classification", "train": 5, "label": "label"}, "`train: 5`"),
        ({"task": "classification", "train": [], "label": "label"}, "`train: []`"),
        ({"task": "classification", "train": "a.tsv", "label": "label", "format": "word"}, "`format: word`"),
        ({"task": "classification", "train": "a.tsv", "label": "label", "text": None}, "`text: None`"),
        ({"task": "similarity", "test": "a.tsv", "score": "score", "pair": None}, "`pair: None`"),
        ({"task": "analogies", "test": "a.txt", "candidates": 3}, "`candidates: 3`"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(given, culprit):
    Path("typed.yaml").write_text(json.dumps({"name": "mine", "data": {"x": given}}))
    with pytest.raises(UserError, match=re.escape(culprit)):
        files_suite("typed.yaml")


def test_a_data_set_has_no_slash_in_its_name():
    Path("named.yaml").write_text(json.dumps({"name": "mine", "data": {"a/b": {"task": "similarity"}}}))
    with pytest.raises(UserError, match="'a/b' has a / in its name"):
        files_suite("named.yaml")

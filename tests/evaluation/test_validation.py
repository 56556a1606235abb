"""Validation values: settings are chosen by items of their own, and the test items are looked at for the result alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import (
    Analogies,
    FewLabelProbe,
    FreeGeneration,
    Labelled,
    LabelledSplits,
    LanguageModelling,
    LinearProbe,
    NearestNeighbours,
    Result,
    Retrieval,
    ScoredPairs,
    SentenceSimilarity,
    TextPairs,
    WordAnalogies,
)
from ssl_nlp.evaluation.files_suite import files_suite
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.record import SuiteResult, read_record, read_suite, write_suite
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.evaluation.validation_items import divided_analogies
from tests.evaluation.vectors import Hashed


def labelled(name, number):
    classes = [("ant", "bee", "cow")[i * i % 3] for i in range(number)]
    return Labelled([f"{label} {name} {i}" for i, label in enumerate(classes)], classes)


def pairs(name, number):
    return [f"{name}{i} one" for i in range(number)], [f"{name}{i * 2 // 3} two" for i in range(number)]


CLASSES = LabelledSplits("classes", labelled("train", 60), labelled("valid", 30), labelled("tested", 45))
FOUND = TextPairs("found", *pairs("test", 30), valid=TextPairs("found", *pairs("valid", 20)))
SCORED = ScoredPairs("scored", *pairs("t", 30), range(30), ScoredPairs("scored", *pairs("v", 20), range(20)))
QUADS = [(f"{a} x", f"{a} y", f"{b} x", f"{b} y") for a in "abcdef" for b in "abcdef" if a != b]
SOLVED = divided_analogies(WordAnalogies("solved", {"one": QUADS[:20], "two": QUADS[20:]}), 0.5)
EVALUATORS = {
    "knn": NearestNeighbours(CLASSES),
    "probe": LinearProbe(CLASSES),
    "few": FewLabelProbe(CLASSES, 4),
    "retrieval": Retrieval(FOUND),
    "similarity": SentenceSimilarity(SCORED),
    "analogies": Analogies(SOLVED),
}


class Only(Hashed):
    """Knows some texts, and fails with others."""

    def __init__(self, texts, width=16):
        super().__init__(width)
        self.texts = {*texts}

    def embed(self, texts):
        assert self.texts.issuperset(texts), "a text that it was not to see"
        return super().embed(texts)


@pytest.mark.parametrize("name", EVALUATORS)
def test_the_validation_value_needs_no_test_item_and_is_that_of_the_result(name):
    evaluator = EVALUATORS[name]
    result = Poolings({"last": Hashed(4), "mean": Hashed()}).evaluate({name: evaluator})[name]
    seen = evaluator.validation.texts
    assert Poolings({"last": Only(seen, 4), "mean": Only(seen)}).validation(evaluator).primary == result.validation
    assert 0 < result.validation <= 1
    chosen = {"last": Hashed(4), "mean": Hashed()}[result.details["pooling"]]
    assert result.metrics == evaluator(chosen).metrics


def test_the_validation_value_of_items_that_nothing_is_learned_from_is_the_metric_on_them():
    for name in ("retrieval", "similarity", "analogies"):
        evaluator = EVALUATORS[name]
        alone = Poolings({"mean": Hashed()}).evaluate({name: evaluator})[name]
        assert alone.validation == pytest.approx(evaluator.validation(Hashed()).primary)
        assert alone.primary == evaluator(Hashed()).primary


def test_the_pooling_is_the_best_on_validation_items_whatever_is_best_on_test_items():
    """One pooling knows the test items only, the other one the validation items only."""

    class Knows(Hashed):
        def __init__(self, data):
            super().__init__()
            self.answer_of = dict(zip(data.queries, data.answers, strict=True))

        def embed(self, texts):
            return super().embed([self.answer_of.get(text, text) for text in texts])

    results = Poolings({"tempting": Knows(FOUND), "honest": Knows(FOUND.valid)}).evaluate({"r": Retrieval(FOUND)})
    assert results["r"].details["pooling"] == "honest"
    assert results["r"].validation == 1
    assert results["r"].primary < 1


def test_without_validation_items_there_is_no_value():
    for evaluator in (Retrieval(replace(FOUND, valid=None)), SentenceSimilarity(replace(SCORED, valid=None))):
        poolings = Poolings({"mean": Hashed(), "last": Hashed(4)})
        assert poolings.validation(evaluator) is None
        assert poolings.evaluate({"one": evaluator})["one"].validation is None
    assert LanguageModelling(["a"]).validation is None


def test_evaluators_of_other_capabilities_have_one_too():
    class Writes:
        def draw(self, number, **sampling):
            return ["the dog sees a cat"] * number

    texts = [f"the {one} sees a {other}" for one in ("dog", "cat", "bird") for other in ("cow", "bee", "ant")]
    evaluator = FreeGeneration(texts, texts[:3], texts[3:6], texts[6:])
    result = run_evaluators({"drawn": evaluator}, Writes(), None).results["drawn"]
    assert result.validation == evaluator.validation(Writes()).primary
    assert result.metrics == replace(evaluator, valid=())(Writes()).metrics


def test_analogies_are_divided_by_their_first_word_and_searched_among_the_same_words():
    parts = (SOLVED, SOLVED.valid)
    assert {*SOLVED.items} | {*SOLVED.valid.items} == {*QUADS}
    firsts = [{words[0] for words in part.items} for part in parts]
    assert firsts[0].isdisjoint(firsts[1])
    assert {*SOLVED.texts} == {*SOLVED.valid.texts}


# --------------------------------------------------------------------------------------------------------- the user's files


def suite(tmp_path, **settings):
    (tmp_path / "pairs.tsv").write_text(
        "".join(f"the dog {i // 2}\tder Hund {i}\t{i % 5}\t{i % 2}\n" for i in range(40))
    )
    (tmp_path / "other.tsv").write_text(
        "".join(f"the dog {i // 2}\tder Hund {i}\t{i % 5}\t{i % 2}\n" for i in range(30, 50))
    )
    config = tmp_path / "suite.yaml"
    config.write_text(json.dumps({"name": "mine", "data": {"one": settings}}))
    return files_suite(config)


PAIRED = {"text": 0, "pair": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "similarity", "score": 2, **PAIRED},
        {"task": "word_similarity", "score": 2, **PAIRED},
        {"task": "retrieval", **PAIRED},
        {"task": "pair_classification", "label": 3, **PAIRED},
        {"task": "language_modelling", "text": 1},
        {"task": "generation", **PAIRED},
    ],
    ids=lambda settings: settings["task"],
)
def test_validation_items_are_a_share_of_the_test_items_or_files_without_these(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def items(evaluator):
        data = getattr(evaluator, "data", None)
        if data is None:
            return {*zip(evaluator.sources, evaluator.references, strict=True)}
        sides = [getattr(data, side, None) for side in ("first", "second", "queries", "answers")]
        return {*zip(*filter(None, sides), strict=True)} or {*data}

    name = f"one.{settings['task']}"
    whole = suite(tmp_path, test="pairs.tsv", **settings).evaluators[name]
    assert whole.validation is None
    share = suite(tmp_path, test="pairs.tsv", valid=0.3, **settings).evaluators[name]
    assert items(share) | items(share.validation) == items(whole)
    assert items(share).isdisjoint(items(share.validation))
    assert len(items(share.validation)) == 12
    files = suite(tmp_path, test="pairs.tsv", valid="other.tsv", **settings).evaluators[name]
    assert items(files) == items(whole)
    assert len(items(files.validation)) == 10  # the others are test items
    with pytest.raises(UserError, match="`valid: 1.5` is not a share of the test items"):
        suite(tmp_path, test="pairs.tsv", valid=1.5, **settings)
    with pytest.raises(UserError, match="leaves 40 items for testing and 0 for validation"):
        suite(tmp_path, test="pairs.tsv", valid="pairs.tsv", **settings)


def test_a_tested_pair_is_no_validation_item_in_reverse_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reversed.tsv").write_text(
        "der Hund 3\tthe dog 1\t1\t1\nder Hund 3\tthe dog 9\t2\t0\nthe cow\tx\t3\t1\n"
    )
    settings = {"task": "similarity", "score": 2, **PAIRED}
    found = suite(tmp_path, test="pairs.tsv", valid="reversed.tsv", **settings).evaluators["one.similarity"]
    assert {*found.validation.data.second} == {"the dog 9", "x"}
    (tmp_path / "both.tsv").write_text("a\tb\t1\nb\ta\t2\na\tc\t3\nb\td\t2\nb\te\t1\na\tf\t1\n")
    found = suite(tmp_path, test="both.tsv", valid=0.5, **settings).evaluators["one.similarity"]
    unordered = [
        {*map(frozenset, zip(one.data.first, one.data.second, strict=True))} for one in (found, found.validation)
    ]
    assert [len(pairs) for pairs in unordered] == [3, 2]
    assert unordered[0].isdisjoint(unordered[1])


def test_queries_with_judgements_are_divided_or_other_judgements_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("documents", "queries"):
        rows = [json.dumps({"_id": str(i), "text": f"{name} {i}"}) for i in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    for name, queries in (("tested", range(10)), ("further", range(8, 14))):
        (tmp_path / f"{name}.tsv").write_text("".join(f"{i}\t{i + 1}\t1\n" for i in queries))
    judged = {"task": "retrieval", "documents": "documents.jsonl", "queries": "queries.jsonl"}
    share, files = (
        suite(tmp_path, **judged, judgements="tested.tsv", valid=valid).evaluators["one.retrieval"]
        for valid in (0.3, "further.tsv")
    )
    assert {*share.data.queries, *share.validation.data.queries} == {f"queries {i}" for i in range(10)}
    assert (len(share.data.queries), len(share.validation.data.queries)) == (7, 3)
    assert {*files.validation.data.queries} == {f"queries {i}" for i in range(10, 14)}
    for evaluator in (share, files):
        for part in (evaluator, evaluator.validation):
            for query, gains in zip(part.data.queries, part.data.gains, strict=True):
                [place] = gains
                assert int(part.data.documents[place].split()[1]) == int(query.split()[1]) + 1
    with pytest.raises(UserError, match="`valid: 0.01` leaves 10 items for testing and 0 for validation"):
        suite(tmp_path, **judged, judgements="tested.tsv", valid=0.01)
    with pytest.raises(UserError, match="`valid: tested.tsv` leaves 10 items for testing and 0 for validation"):
        suite(tmp_path, **judged, judgements="tested.tsv", valid="tested.tsv")
    whole = suite(tmp_path, **judged, judgements="tested.tsv", valid=0.3)
    assert whole.evaluators["language_modelling"].validation is None  # queries are no documents
    (tmp_path / "words.txt").write_text(": one\na x b y\n")
    with pytest.raises(UserError, match="`valid: words.txt` leaves 1 items for testing and 0 for validation"):
        suite(tmp_path, task="analogies", test="words.txt", valid="words.txt")


# --------------------------------------------------------------------------------------------------------------- the record


def test_the_record_keeps_the_value_and_one_without_it_still_loads(tmp_path):
    path = tmp_path / "evaluation.json"
    with_value = Result("accuracy", {"accuracy": 0.5}, items=np.ones(2), validation=0.25)
    write_suite(path, {"checkpoint": None}, "mine", SuiteResult("data", {"knn": with_value}))
    plain = read_record(path)["suites"]["mine"]["evaluators"]["knn"]
    assert plain["validation"] == 0.25
    assert read_suite(path, "mine").evaluators["knn"].validation == 0.25
    path.write_text(path.read_text().replace('"validation": 0.25, ', ""))
    assert read_suite(path, "mine").evaluators["knn"].validation is None

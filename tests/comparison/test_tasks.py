"""Rows, columns and sentences for handwritten fine-tuned runs."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from ssl_nlp.comparison import compare_runs, find_runs
from ssl_nlp.comparison.columns import FROZEN
from ssl_nlp.comparison.contributions import contributions
from ssl_nlp.comparison.intervals import score_interval
from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.statistics import Differences, Sample
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.table import write_csv
from ssl_nlp.comparison.tasks import SUITE, TASKS, _mean, compare_tasks
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.record import SuiteResult, read_suite, write_suite
from ssl_nlp.evaluation.result import Result, statistic_of
from tests.comparison.handwritten import shown, write

ITEMS = 300
METHODS = {"m": "MaskedLM", "c": "CausalLM"}
DIFFICULTY = np.random.default_rng(1).normal(size=ITEMS)


@pytest.fixture(autouse=True)
def pretrained(tmp_path, monkeypatch):
    """Two methods with two seeds each, of which the first ones saw other tokens."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write(tmp_path, f"masked{seed}", "MaskedLM", seed=seed)
        write(tmp_path, f"causal{seed}", "CausalLM", seed=seed)


def tune(folder, name, start=None, ability=1.0, seed=0, task="films.classification", data="same", split="test",
         metric="accuracy", missing=None, baselines=True, digest=None, cost=None, read=1.0, **settings):  # fmt: skip
    """Write a fine-tuned run."""
    step = settings.pop("step", 100)
    run = folder / "runs" / name
    run.mkdir(parents=True)
    threshold = settings.pop("words", 0.0)
    encoder = {
        "class_path": "ssl_nlp.encoders.Trained",
        "init_args": {"run": start, "freeze": settings.pop("freeze", None)}
        | ({"checkpoint": digest} if digest else {}),
    }
    config = {
        "seed_everything": seed,
        "run": name,
        "model": {"class_path": "ssl_nlp.tasks.Classification", "init_args": {"encoder": encoder} | settings},
        "data": {"class_path": "ssl_nlp.data.TextDataModule", "init_args": {"corpus": task}},
        "trainer": {"max_steps": 10},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    ancestor = {"run": start, "checkpoint": "checkpoints/last.ckpt", "digest": digest or start, "step": step,
                "method": METHODS.get((start or " ")[0]), "tokens": 1000, "flops": None}  # fmt: skip
    state = {"finished": True, "wandb_id": "a"} | ({"ancestry": [ancestor]} if start else {})
    (run / "run.json").write_text(json.dumps(state))
    right = (np.random.default_rng([len(name), seed]).logistic(size=ITEMS) < ability + DIFFICULTY).astype(float)
    about = {TASKS: {"split": split, "higher": True}}
    result = Result(metric, {metric: float(right.mean())}, dict(about), right, read=read)
    known = np.greater(DIFFICULTY, threshold)  # by counts of words
    words = Result(metric, {metric: float(known.mean())}, dict(about), known.astype(float))
    header = {"method": "Classification", "loss_unit": "nats", "checkpoint": {"file": "best.ckpt", "digest": "x"},
              "cost": cost or {"tokens": 1500.0}, "encoder": {"key": "small", "causal": False}}  # fmt: skip
    found = SuiteResult(
        data,
        {} if missing and "/" not in next(iter(missing)) else {task: result},
        {"tfidf": {task: words}} if baselines else {},
        missing=missing or {},
    )
    write_suite(run / "evaluation.json", header, SUITE, found)
    return name


def compared(*names):
    return compare_tasks(find_runs(names))


def by_label(comparison):
    return {row.label: row for row in comparison.rows}


def test_a_row_is_a_pretraining_and_a_column_a_task(tmp_path):
    names = []
    for seed in range(3):
        for start, ability in (("masked0", 3.0), ("causal0", 0.5), (None, 0.0)):
            for task in ("films.classification", "news.classification"):
                names.append(tune(tmp_path, f"{task[:5]}{start}{seed}", start, ability, seed, task, data=task))
    found = compared(*names)
    assert [column.title for column in found.columns] == ["films accuracy", "news accuracy"]
    rows = by_label(found)
    assert list(rows) == ["MaskedLM", "CausalLM", "untrained encoder", "TF-IDF"]
    assert [row.baseline for row in found.rows] == [False, False, True, True]
    for column in found.columns:
        best = rows["MaskedLM"].ties[column.key]
        assert (rows["MaskedLM"].scores[column.key].n, best.best) == (3, True)
        assert not rows["CausalLM"].ties[column.key].tie
        assert rows["MaskedLM"].over_baseline[column.key].difference > 0
    assert found.differences == []
    assert rows["MaskedLM"].cost["tokens"].mean == 1500
    assert summarise(found)[0] == "MaskedLM is best on films accuracy and news accuracy."
    page = render_page(found)
    assert "Scores after fine-tuning" in page
    assert "frozen embeddings" not in page


def evaluated(folder, *names):
    """Let the evaluations of runs be of the checkpoints that were fine-tuned."""
    for name in names:
        path = folder / "runs" / name / "evaluation.json"
        record = json.loads(path.read_text())
        record["suites"]["docs"]["checkpoint"]["digest"] = name
        path.write_text(json.dumps(record))


def test_frozen_embeddings_of_a_pretraining_stand_in_its_row(tmp_path):
    evaluated(tmp_path, "masked0", "masked1", "causal0")
    names = [tune(tmp_path, f"{start}-{seed}", start, seed=seed) for start in ("masked0", "masked1") for seed in (0, 1)]
    names += [tune(tmp_path, "causal0-0", "causal0"), tune(tmp_path, "causal1-0", "causal1"), tune(tmp_path, "none")]
    found = compared(*names)
    places = [(column.title, column.group) for column in found.columns]
    assert places == [("films accuracy", "fine-tuned"), ("k-NN accuracy", FROZEN), ("effective rank", FROZEN)]
    films, knn, _ = (column.key for column in found.columns)
    rows = by_label(found)
    scored = {label: (films in row.scores, knn in row.scores) for label, row in rows.items()}
    assert scored == {"MaskedLM": (True, True), "CausalLM": (True, True), "untrained encoder": (True, False),
                      "TF-IDF": (True, True), "untrained MaskedLM, CausalLM": (False, True)}  # fmt: skip
    assert (rows["MaskedLM"].scores[knn].n, rows["CausalLM"].scores[knn].n) == (2, 1)  # seeds of the pretraining
    frozen = {row.label: row for row in compare_runs(find_runs(["masked0", "masked1", "causal0"]), "docs").rows}
    for label in ("MaskedLM", "CausalLM"):
        assert rows[label].scores[knn] == frozen[label].scores[knn]
        assert rows[label].ties[knn].difference == frozen[label].ties[knn].difference
        assert rows[label].over_baseline[knn].level == frozen[label].over_baseline[knn].level
    text = " ".join(shown(found).split())
    assert "tasks: fine-tuned" in text and "docs: frozen embeddings" in text
    assert "Note: Frozen embeddings: CausalLM; untrained MaskedLM, CausalLM: one seed each" in text
    assert "Note: The evaluation of causal1 on docs is left out, because another checkpoint was fine-tuned" in text
    assert "No digest is recorded" not in text  # an untrained encoder has read no text
    page = render_page(found)
    assert '<th scope="colgroup" colspan="2">frozen embeddings (docs)</th>' in page
    write_csv(found, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        suites = {line["number"]: line["suite"] for line in csv.DictReader(file)}
    assert (suites[films], suites[knn], suites["cost/tokens"]) == (SUITE, "docs", SUITE)


def test_frozen_embeddings_have_the_notes_of_an_ordinary_comparison(tmp_path):
    """On items in training text, on items that are lost, and on words that a model does not know."""
    evaluated(tmp_path, "masked0", "causal0")
    for name, known in (("masked0", 0.5), ("causal0", 1.0)):
        path = tmp_path / "runs" / name / "evaluation.json"
        record = json.loads(path.read_text())
        record["suites"]["docs"]["evaluators"]["geometry"]["metrics"]["coverage"] = known
        path.write_text(json.dumps(record))
    (tmp_path / "runs" / "causal0" / "evaluation_items.npz").unlink()
    path = tmp_path / "runs" / "masked0" / "evaluation_items.npz"
    with np.load(path) as arrays:
        items = dict(arrays)
    np.savez_compressed(path, **items, **{"docs/knn/overlap": np.arange(len(items["docs/knn"])) % 4 / 3})
    ordinary = compare_runs(find_runs(["masked0", "causal0"]), "docs")
    found = compared(tune(tmp_path, "a", "masked0"), tune(tmp_path, "b", "causal0"))
    for expected in (
        "causal0: evaluation_items.npz lacks items",
        "k-NN accuracy without the 25.0% of its items that training text covers completely: ",
    ):
        [note] = [note for note in ordinary.notes if note.startswith(expected)]
        assert note in found.notes
    [said] = [line for line in ordinary.differences if "has known words" in line]
    assert said in found.differences


def test_a_broken_evaluation_of_frozen_embeddings_is_left_out_and_named(tmp_path):
    evaluated(tmp_path, "masked0", "causal0")
    path = tmp_path / "runs" / "causal0" / "evaluation.json"
    record = json.loads(path.read_text())
    del record["suites"]["docs"]["data"]
    path.write_text(json.dumps(record))
    for folder in ("pretrained-alien", "pretrained-bert"):  # neither is one of the runs that are compared
        (tmp_path / "runs" / folder).mkdir()
        (tmp_path / "runs" / folder / "evaluation.json").write_text("{")
    names = [tune(tmp_path, "a", "masked0"), tune(tmp_path, "b", "causal0")]
    found = compared(*names)
    rows = by_label(found)
    assert [label for label, row in rows.items() if "docs/knn/accuracy" in row.scores and not row.baseline] == [
        "MaskedLM"
    ]
    [note] = [note for note in found.notes if "left out" in note]
    assert note.startswith("The evaluation of causal0 on docs is left out: ") and "is broken" in note
    config = tune(tmp_path, "c", "bert", digest="")
    state = json.loads((tmp_path / "runs" / config / "run.json").read_text())
    state["ancestry"][0] |= {"run": None, "checkpoint": "bert", "digest": None}
    (tmp_path / "runs" / config / "run.json").write_text(json.dumps(state))
    said = [note for note in compared(*names, config).notes if note.startswith("pretrained-")]
    assert [note.partition(" is left out: ")[0] for note in said] == ["pretrained-alien", "pretrained-bert"]


def test_a_seed_of_an_earlier_version_without_a_digest_stays_in_its_row(tmp_path):
    path = tmp_path / "runs" / "masked0" / "run.json"
    state = json.loads(path.read_text())
    assert state.pop("text")
    path.write_text(json.dumps(state))
    found = compared(*(tune(tmp_path, f"{start}-0", start) for start in ("masked1", "masked0", "causal0")))
    assert by_label(found)["MaskedLM"].scores[found.columns[0].key].n == 2
    [note] = [note for note in found.notes if note.startswith("No digest is recorded")]
    assert "text that masked0, a seed of MaskedLM, was trained on" in note


def test_frozen_embeddings_of_one_pretraining_count_once(tmp_path):
    evaluated(tmp_path, "masked0")
    found = compared(tune(tmp_path, "all", "masked0"), tune(tmp_path, "none", "masked0", freeze="all"))
    first, second = (row for row in found.rows if not row.baseline)
    if "docs/knn/accuracy" not in first.scores:
        first, second = second, first
    assert "docs/knn/accuracy" in first.scores and "docs/knn/accuracy" not in second.scores
    assert second.missing["docs/knn"] == f"as for {first.label}, which is the same pretraining"


def test_seeds_of_the_pretraining_share_a_row_and_count_once_each(tmp_path):
    names = [
        tune(tmp_path, f"{start}-{seed}", start, ability, seed)
        for start, ability in (("masked0", 0.0), ("masked1", 2.0))
        for seed in range(5)
    ]
    [row] = [row for row in compared(*names).rows if not row.baseline]
    [estimate] = row.scores.values()
    assert (row.label, len(row.runs), estimate.n) == ("MaskedLM", 10, 2)
    means = [np.mean([json.loads((tmp_path / "runs" / f"{s}-{n}" / "evaluation.json").read_text())["suites"][SUITE]
                      ["evaluators"]["films.classification"]["metrics"]["accuracy"] for n in range(5)])
             for s in ("masked0", "masked1")]  # fmt: skip
    assert estimate.mean == pytest.approx(np.mean(means))
    assert estimate.high - estimate.mean == pytest.approx(12.706 * abs(means[0] - means[1]) / 2, rel=1e-3)


@pytest.mark.parametrize("statistic", ["f1", "mean"])
def test_the_mean_of_several_scores_keeps_the_share_of_the_items(statistic):
    """Of scores that are no means of items, such as F1, each item stands for how much it moves the score."""
    generator = np.random.default_rng(0)
    given = []
    for _ in range(3):
        items = generator.random(ITEMS) if statistic == "mean" else generator.integers(1, 4, (ITEMS, 3)).cumsum(axis=1)
        given.append(Result("x", {"x": statistic_of(items, statistic)}, items=items, statistic=statistic))
    found = _mean(given)
    assert found.statistic == "mean"
    assert found.items.mean() == pytest.approx(found.primary) == pytest.approx(np.mean([one.primary for one in given]))
    moved = np.mean([contributions(one.items, statistic) for one in given], axis=0)
    assert contributions(found.items, "mean") == pytest.approx(moved)
    same = 1e-6 if statistic == "mean" else 1e-4  # an F1 has fewer degrees of freedom where sentences differ in length
    expected = score_interval(given[0].items, statistic)
    assert score_interval(_mean(given[:1]).items, "mean") == pytest.approx(expected, rel=same)


def test_where_a_row_has_several_pretrainings_one_pretraining_counts_once_in_all_rows(tmp_path):
    names = [tune(tmp_path, f"{start}-{seed}", start, seed=seed) for start in ("masked0", "masked1") for seed in (0, 1)]
    names += [tune(tmp_path, f"causal0-{seed}", "causal0", seed=seed) for seed in (0, 1, 2)]
    found = compared(*names)
    numbers = {label: [score.n for score in row.scores.values()] for label, row in by_label(found).items()}
    assert (numbers["MaskedLM"], numbers["CausalLM"]) == ([2], [1])
    assert any(note.startswith("CausalLM: one seed each, assumed to vary") for note in found.notes)


def over_words(folder, *names):
    """The error of the difference between a row of such runs, which stands alone, and counts of words."""
    task = "films.classification"
    results = [read_suite(folder / "runs" / name / "evaluation.json", SUITE) for name in names]
    tuned, words = [one.evaluators[task] for one in results], results[0].baselines["tfidf"][task]
    row = Sample(np.array([one.primary for one in tuned]), tuple(one.items for one in tuned))
    return Differences([row, Sample(np.array([words.primary]), (words.items,), varies=False)]).uncertainty(0, 1)


@pytest.mark.parametrize(
    ("starts", "way", "freedom"),
    [
        (("masked0", "masked1"), {"freeze": "all"}, 1),
        (("masked0", "masked1"), {"digest": "early", "step": 50}, 1),
        (("masked0", "masked0"), {"freeze": "all"}, 2),  # fine-tunings of one pretraining are trainings of their own
    ],
)
def test_rows_of_the_same_pretrainings_do_not_tell_twice_how_seeds_vary(tmp_path, starts, way, freedom):
    """Fine-tuned in another way or from another checkpoint, with the same predictions."""
    for seed, start in enumerate(starts):
        tune(tmp_path, f"one{seed}", start, 2.0, seed)
        given = {key: f"{value}{seed}" if key == "digest" else value for key, value in way.items()}
        tune(tmp_path, f"two{seed}", start, seed=seed, **given)
        for file in (tmp_path / "runs" / f"one{seed}").glob("evaluation*"):
            shutil.copy(file, tmp_path / "runs" / f"two{seed}")
    alone = over_words(tmp_path, "one0", "one1")
    rows = [row for row in compared("one0", "one1", "two0", "two1").rows if not row.baseline]
    assert [len(row.runs) for row in rows] == [2, 2]
    for row in rows:
        [verdict] = row.over_baseline.values()
        expected = replace(alone, freedom=freedom).reach(verdict.level)
        assert (verdict.high - verdict.low) / 2 == pytest.approx(expected)


def test_seeds_of_fine_tuning_do_not_tell_how_pretrainings_vary(tmp_path):
    """An untrained encoder with three seeds, which vary less than two pretrainings."""
    names = [tune(tmp_path, f"{seed}", f"masked{seed}", ability, seed) for seed, ability in ((0, 1.0), (1, 3.0))]
    names += [tune(tmp_path, f"none{seed}", None, 0.0, seed) for seed in range(3)]
    row = by_label(compared(*names))["MaskedLM"]
    [verdict] = row.over_baseline.values()
    alone = over_words(tmp_path, *names[:2])
    assert verdict.high - verdict.low == pytest.approx(2 * alone.reach(verdict.level))


def test_ways_of_fine_tuning_are_rows_and_what_differs_between_rows_is_said(tmp_path):
    names = [tune(tmp_path, f"all{seed}", "masked0", seed=seed) for seed in (0, 1)]
    names += [tune(tmp_path, f"none{seed}", "masked0", seed=seed, freeze="all") for seed in (0, 1)]
    names += [tune(tmp_path, "other", "causal0", dropout=0.5), tune(tmp_path, "moved", "causal1", data="new", seed=1)]
    found = compared(*names)
    assert set(by_label(found)) == {"MaskedLM freeze=null", "MaskedLM freeze=all", "CausalLM dropout=0.5",
                                    "CausalLM dropout=–", "TF-IDF"}  # fmt: skip
    said = " ".join(found.differences)
    assert "Fine-tuning on films differs: model.encoder.freeze is null for" in said
    assert "model.dropout is" in said
    assert "The test data of films differ" in said
    moved = by_label(found)["CausalLM dropout=–"]
    assert not any(verdict for verdict in moved.ties.values())


def test_published_models_and_lost_runs_are_named_and_their_training_is_not_known(tmp_path):
    names = [tune(tmp_path, "a", "gone", digest="1", cost={"seconds": 3.0}), tune(tmp_path, "b", "masked0")]
    found = compared(*names)
    assert {row.label for row in found.rows if not row.baseline} == {"last.ckpt", "MaskedLM"}
    assert any("How last.ckpt was pretrained is not known here" in line for line in found.differences)


def test_a_validation_split_a_missing_metric_and_a_missing_baseline_are_said(tmp_path):
    names = [
        tune(tmp_path, "a", "masked0", split="valid"),
        tune(tmp_path, "b", "causal0", split="valid", missing={"films.classification": "its accuracy is nan"}),
        tune(tmp_path, "c", "masked0", task="qa.question_answering", metric="f1", baselines=False,
             missing={"qa.question_answering/baseline": "no baseline fits"}),
    ]  # fmt: skip
    found = compared(*names)
    assert [column.title for column in found.columns] == ["films accuracy (valid)", "qa F1"]
    rows = by_label(found)
    assert rows["CausalLM"].missing == {f"{SUITE}/films.classification": "its accuracy is nan"}
    assert rows["TF-IDF"].missing == {f"{SUITE}/qa.question_answering": "no baseline fits"}
    assert any("films accuracy (valid): the task has no test split" in note for note in found.notes)
    assert any("No TF-IDF for qa: no baseline fits" in note for note in found.notes)
    with pytest.raises(UserError, match="no run has a score"):
        compared(
            tune(tmp_path, "d", "causal0", missing={"films.classification": "its accuracy is nan"}, baselines=False)
        )


def test_runs_without_pretraining_alone_are_compared_with_each_other(tmp_path):
    names = [tune(tmp_path, "a", dropout=0.1), tune(tmp_path, "b", dropout=0.2)]
    rows = [row for row in compared(*names).rows if not row.baseline]
    assert len(rows) == 2


def test_tasks_of_which_runs_read_different_characters_are_named(tmp_path):
    names = [tune(tmp_path, "short", "masked0", read=0.62, words=1.0), tune(tmp_path, "whole", "causal0")]
    found = compared(*names)
    expected = "The share of the characters of films that is read is 62.0% for MaskedLM and 100.0% for CausalLM: "
    assert f"{expected}raise data.length." in found.differences
    [counted] = by_label(found)["TF-IDF"].scores.values()
    assert counted.mean == float((DIFFICULTY > 0).mean())  # that of the run which has read the most


def test_an_equal_share_of_the_characters_is_a_note(tmp_path):
    names = [tune(tmp_path, "a", "masked0", read=0.97), tune(tmp_path, "b", "causal0", read=0.97)]
    found = compared(*names)
    assert "Each row reads 97.0% of the characters of films: raise data.length to read more." in found.notes
    assert not any("characters" in line for line in found.differences)

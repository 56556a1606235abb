"""Rows, verdicts and sentences for handwritten runs."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from ssl_nlp.__main__ import main
from ssl_nlp.comparison import compare_runs, find_runs
from ssl_nlp.comparison.columns import columns
from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.score_curves import has_curves
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.table import write_csv
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.record import SuiteResult, read_record, read_suite, write_suite
from ssl_nlp.evaluation.result import Result
from tests.comparison.handwritten import accuracy, comparison, shown, write


def test_seeds_share_a_row_and_likelihoods_of_different_kinds_a_column_never(tmp_path):
    for seed, layers in enumerate((2, 2.0, 2)):  # the same number
        write(tmp_path, f"masked-{seed}", seed=seed, model__init_args__layers=layers)
    write(tmp_path, "causal", "CausalLM", ability=-2.0)
    found = comparison(tmp_path)
    assert [row.label for row in found.rows] == ["MaskedLM", "CausalLM", "TF-IDF", "untrained CausalLM, MaskedLM"]
    masked, causal, *_ = found.rows
    scores = [run.record["suites"]["docs"]["evaluators"]["knn"]["metrics"]["accuracy"] for run in masked.runs]
    estimate = masked.scores["docs/knn/accuracy"]
    assert (estimate.mean, estimate.n) == (pytest.approx(np.mean(scores)), 3)
    assert estimate.low < estimate.mean < estimate.high
    assert masked.ties["docs/knn/accuracy"].best
    assert not causal.ties["docs/knn/accuracy"].tie
    assert causal.ties["docs/knn/accuracy"].high < 0
    assert found.differences == []
    # Untrained encoders vary with the seed, as methods do; counts of words do not. These are one draw in all records.
    [note] = found.notes
    assert note.startswith("CausalLM; untrained CausalLM, MaskedLM: one seed each")
    # Likelihoods of different kinds never share a column, and a single one is not called the best.
    keys = [column.key for column in found.columns]
    assert keys[-2:] == ["docs/language_modelling/bits_per_byte", "docs/language_modelling/pseudo_bits_per_byte"]
    assert not any(key in row.ties for row in found.rows for key in keys[-2:])
    assert not any("docs/geometry/effective_rank" in row.ties for row in found.rows)


def test_random_baselines_have_as_many_draws_as_seeds_and_count_each_once(tmp_path):
    key = "docs/knn/accuracy"
    for method in ("MaskedLM", "SimCLR"):
        for seed in range(3):
            write(tmp_path, f"{method}-{seed}", method, seed=seed, draw=10 + seed)
    found = comparison(tmp_path)
    rows = {row.label: row for row in found.rows}
    untrained = rows["untrained MaskedLM, SimCLR"]
    assert (untrained.scores[key].n, rows["TF-IDF"].scores[key].n) == (3, 1)
    assert untrained.scores[key].mean == pytest.approx(
        np.mean([accuracy(-0.5, 10 + seed).primary for seed in range(3)])
    )
    assert untrained.scores[key].low < untrained.scores[key].mean < untrained.scores[key].high
    assert len(untrained.runs) == 6
    assert not any("one seed each" in note for note in found.notes)


def test_untrained_encoders_are_one_row_whichever_row_shows_that_they_are_the_same(tmp_path):
    """Two rows have no seed in common, and a third one has the seeds of both."""
    for name, method, seed in (("a", "MaskedLM", 0), ("b", "SimCLR", 1), ("c0", "MoCo", 0), ("c1", "MoCo", 1)):
        write(tmp_path, name, method, seed=seed, draw=10 + seed)
    for order in (["a", "b", "c0", "c1"], ["c0", "c1", "a", "b"]):
        found = compare_runs(find_runs([str(tmp_path / "runs" / name) for name in order]), "docs")
        [untrained] = [row for row in found.rows if row.label.startswith("untrained")]
        assert untrained.scores["docs/knn/accuracy"].n == 2


def test_draws_of_a_baseline_say_nothing_of_seeds_of_methods_that_have_one(tmp_path):
    for seed, method in enumerate(("MaskedLM", "SimCLR", "MoCo")):  # one baseline, since the first has the draws of all
        write(tmp_path, method, method, ability=seed, seed=seed)
        path = tmp_path / "runs" / method / "evaluation.json"
        result = read_suite(path, "docs")
        words = {"random_words": {"knn": accuracy(-0.5, 20 + seed)}}
        write_suite(path, read_record(path), "docs", replace(result, baselines=result.baselines | words))
    found = comparison(tmp_path)
    [words] = [row for row in found.rows if row.label == "random words"]
    assert words.scores["docs/knn/accuracy"].n == 3
    [note] = found.notes
    assert note.startswith("There is one seed of each method")
    assert all(row.ties["docs/knn/accuracy"].tie or row.ties["docs/knn/accuracy"].seeds_up_to for row in found.rows[:3])


def test_untrained_encoders_with_other_likelihoods_are_one_row_with_one_draw_of_each(tmp_path):
    """A causal and masked model gives the pseudo-likelihood that a masked model gives, too, and a likelihood."""
    both = {"bits_per_byte": 9.0, "pseudo_bits_per_byte": 8.0}
    for method, metrics in (("MaskedLM", {"pseudo_bits_per_byte": 8.0}), ("CausalMaskedLM", both)):
        write(tmp_path, method, method)
        path = tmp_path / "runs" / method / "evaluation.json"
        result = read_suite(path, "docs")
        untrained = result.baselines["random_init"] | {"language_modelling": Result(min(metrics), metrics)}
        write_suite(path, read_record(path), "docs", replace(result, baselines={"random_init": untrained}))
    untrained = comparison(tmp_path).rows[-1]
    assert sorted(untrained.label.removeprefix("untrained ").split(", ")) == ["CausalMaskedLM", "MaskedLM"]
    bits = {name.rpartition("/")[2]: score for name, score in untrained.scores.items() if "language" in name}
    assert {name: (score.mean, score.n) for name, score in bits.items()} == {n: (v, 1) for n, v in both.items()}


def bits(metric: str, level: float, seed: int = 0) -> Result:
    """Bits per byte of 50 texts of 100 bytes."""
    items = np.stack([np.random.default_rng(seed).normal(100 * level, 5.0, 50), np.full(50, 100.0)], axis=1)
    return Result(metric, {metric: float(items[:, 0].sum() / 5000)}, {"kind": metric}, items, "ratio")


def test_counted_text_is_a_baseline_of_bounds_too(tmp_path):
    """An exact likelihood bounds itself, and who does no better than counts has shown nothing."""
    for name, method, metric in (
        ("diffusion", "MaskedDiffusion", "bits_per_byte_bound"),
        ("causal", "CausalLM", "bits_per_byte"),
    ):
        write(tmp_path, name, method)
        path = tmp_path / "runs" / name / "evaluation.json"
        baselines = {
            "5-gram": {"language_modelling": bits("bits_per_byte", 1.5)},
            "random_init": {"language_modelling": bits(metric, 9.0)},
        }
        answers = {"language_modelling": bits(metric, 2.0, seed=1)}
        header = {key: value for key, value in read_record(path).items() if key not in ("protocol", "suites")}
        write_suite(path, header, "docs", SuiteResult("same", answers, baselines))
    found = comparison(tmp_path)
    rows = {row.label: row for row in found.rows}
    [counted] = [row for row in found.rows if row.label.startswith("5-gram")]
    exact, bound = (f"docs/language_modelling/bits_per_byte{end}" for end in ("", "_bound"))
    assert {column.key for column in found.columns} == {exact, bound}
    assert counted.scores[exact] == counted.scores[bound]
    verdict = rows["MaskedDiffusion"].over_baseline[bound]
    assert verdict.difference == pytest.approx(0.5, abs=0.05) and not verdict.tie  # worse than the counts
    assert bound not in rows["CausalLM"].scores and exact not in rows["MaskedDiffusion"].scores


def test_seeds_of_counts_say_nothing_about_those_of_others(tmp_path):
    write(tmp_path, "masked")
    for seed in range(2):
        write(tmp_path, f"ngram-{seed}", "NGramLM", seed=seed)
    [note] = comparison(tmp_path).notes
    assert note.startswith("There is one seed of each method, so the variation between seeds is unknown.")


def test_a_method_that_gives_two_kinds_of_likelihood_has_a_number_in_both_columns(tmp_path):
    write(tmp_path, "both", "CausalMaskedLM")
    found = comparison(tmp_path)
    kinds = [column for column in found.columns if column.group == "language modelling"]
    assert [column.title for column in kinds] == ["bits per byte", "bits per byte (pseudo)"]
    assert [found.rows[0].scores[column.key].mean for column in kinds] == [2.0, 1.0]
    assert "2.000 1.000" in " ".join(shown(found).replace("│", " ").split())


def test_of_free_generation_every_number_has_a_column_and_the_reverse_perplexity_decides(tmp_path):
    def drawn(reverse: float, bleu: float) -> dict[str, Result]:
        metrics = {"reverse_perplexity": reverse, "self_bleu": bleu, "copies": 0.0}
        return {"free_generation": Result("reverse_perplexity", metrics, {"generation": {}, "drawn": ["the <dog>"]})}

    for name, method in (("vae", "VAE"), ("arae", "ARAE")):
        for seed in range(3):
            write(tmp_path, f"{name}-{seed}", method, seed=seed)
            path = tmp_path / "runs" / f"{name}-{seed}" / "evaluation.json"
            result = SuiteResult(
                "same", drawn({"vae": 90.0, "arae": 120.0}[name] + seed, 0.5), {"held_out": drawn(70.0, 0.3)}
            )
            write_suite(path, read_record(path), "generation", result)
    found = compare_runs(find_runs([tmp_path / "runs"]), "generation")
    assert [column.title for column in found.columns] == ["reverse perplexity", "self-BLEU", "copies"]
    assert [column.higher_is_better for column in found.columns] == [False, None, None]
    assert [row.label for row in found.rows] == ["VAE", "ARAE", "held-out text"]
    key = "generation/free_generation/reverse_perplexity"
    assert found.rows[0].ties[key].best and not found.rows[1].ties[key].tie
    assert "generation: free generation" in shown(found)
    assert "the &lt;dog&gt;" in render_page(found)
    [result] = drawn(90.0, 0.5).values()
    titles = [column.title for column in columns("mine", "stories.free_generation", result)]
    assert titles == ["stories: reverse perplexity", "stories: self-BLEU", "stories: copies"]


def test_equally_good_methods_tie(tmp_path):
    for name, method in (("one", "MaskedLM"), ("other", "SimCLR")):
        write(tmp_path, name, method)
    found = comparison(tmp_path)
    ties = [row.ties["docs/knn/accuracy"] for row in found.rows[:2]]
    assert sorted(verdict.best for verdict in ties) == [False, True]
    assert all(verdict.tie for verdict in ties)
    assert "≈" in shown(found)
    assert any("one seed" in note for note in found.notes)


def test_methods_that_do_not_beat_the_baselines_are_marked(tmp_path):
    write(tmp_path, "good", "SimCLR", ability=2.0)
    write(tmp_path, "bad", "MaskedLM", ability=-1.0)
    found = comparison(tmp_path)
    text = shown(found)
    assert "not shown to be better than the best baseline" in text
    good, bad = (next(line for line in text.splitlines() if name in line) for name in ("SimCLR", "MaskedLM"))
    assert "†" in bad
    assert "†" not in good
    assert "*" in good


def test_the_dagger_says_where_bm25_counts_words_only_if_it_stands_beside(tmp_path):
    write(tmp_path, "bad", ability=-1.0)
    said = "BM25 counts how rare words are in the documents that are searched"
    for beside in (False, True):
        found = comparison(tmp_path)
        assert (said in " ".join(shown(found).split()), said in render_page(found)) == (beside, beside)
        path = tmp_path / "runs" / "bad" / "evaluation.json"
        result = read_suite(path, "docs")
        counted = result.baselines | {"bm25": {"retrieval": accuracy(0.3, 3)}}
        retrieval = result.evaluators | {"retrieval": accuracy(-1.0, 4)}
        write_suite(path, read_record(path), "docs", replace(result, baselines=counted, evaluators=retrieval))


def test_classes_without_arguments_are_told_apart(tmp_path):
    """By their names, or by their modules if two modules of the user have a class of the same name."""
    for name in ("Deduplicate", "Strip", "mine.Cleaner", "theirs.Cleaner"):
        path = name if "." in name else f"ssl_nlp.corpora.{name}"
        write(tmp_path, name, data__init_args__corpus={"class_path": path, "init_args": {}})
    write(tmp_path, "strip-again", seed=1, data__init_args__corpus={"class_path": "ssl_nlp.corpora.clean.Strip"})
    rows = [row for row in comparison(tmp_path).rows if not row.baseline]
    assert sorted(sorted(run.name for run in row.runs) for row in rows) == [
        ["Deduplicate"],
        ["Strip", "strip-again"],
        ["mine.Cleaner"],
        ["theirs.Cleaner"],
    ]


def test_configurations_of_one_method_are_labelled_by_their_differences(tmp_path):
    for rate in (0.15, 0.3):
        write(tmp_path, f"rate-{rate}", model__init_args__masking_rate=rate)
    found = comparison(tmp_path)
    assert {row.label for row in found.rows[:2]} == {"MaskedLM masking_rate=0.15", "MaskedLM masking_rate=0.3"}
    assert set(found.configuration["model.masking_rate"].values()) == {"0.15", "0.3"}


def test_unfinished_and_repeated_runs_are_left_out_and_named(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "again")
    write(tmp_path, "unfinished", seed=1, finished=False)
    found = comparison(tmp_path)
    assert [run.name for run in found.rows[0].runs] == ["a"]
    assert "again is left out: it repeats a with the same seed." in found.notes
    assert any(note.startswith("unfinished is left out") for note in found.notes)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="there is no run"):
        find_runs([tmp_path / "nothing"])
    write(tmp_path, "a", finished=False)
    with pytest.raises(UserError, match="no run is finished"):
        comparison(tmp_path)
    write(tmp_path, "b", seed=1)
    with pytest.raises(UserError, match="no results on the suite other"):
        compare_runs(find_runs([tmp_path / "runs" / "b"]), "other")
    (tmp_path / "runs" / "b" / "evaluation_items.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="is broken"):
        compare_runs(find_runs([tmp_path / "runs" / "b"]), "docs")
    (tmp_path / "runs" / "b" / "evaluation.json").write_text("no")
    with pytest.raises(UserError, match="is not an evaluation"):
        find_runs([tmp_path / "runs" / "b"])


def test_baselines_that_learned_from_different_texts_are_rows_with_labels_of_their_own(tmp_path):
    write(tmp_path, "one", "MaskedLM")
    write(tmp_path, "two", "CausalLM")
    path = tmp_path / "runs" / "two" / "evaluation.json"
    record = json.loads(path.read_text())
    record["suites"]["docs"]["baselines"]["tfidf"]["knn"]["metrics"]["accuracy"] = 0.5
    path.write_text(json.dumps(record))
    labels = [row.label for row in comparison(tmp_path).rows]
    assert len(set(labels)) == len(labels)
    assert {"TF-IDF (one)", "TF-IDF (two)"} < set(labels)


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_an_output_that_cannot_be_a_folder_is_refused_before_anything_is_evaluated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert "--output file/below cannot be written in" in refused(capsys, "nowhere", "--output", "file/below")


def test_an_incomplete_evaluation_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "one")
    path = tmp_path / "runs" / "one" / "evaluation.json"
    record = json.loads(path.read_text())
    record["suites"]["mine"] = {"data": ""}
    path.write_text(json.dumps(record))
    assert f"{path} is broken" in refused(capsys, "one", "--suite", "mine")


def test_poolings_and_the_reasons_for_missing_numbers_are_shown(tmp_path):
    write(tmp_path, "a", "SimCLR", pooling="mean")
    write(tmp_path, "b", "CausalLM", pooling="last", seed=0)
    write(tmp_path, "c", "CausalLM", pooling="mean/last", seed=1)
    found = comparison(tmp_path)
    rows = {row.label: row for row in found.rows}
    assert rows["SimCLR"].pooling("docs/knn/accuracy") == "mean"
    assert rows["CausalLM"].pooling("docs/knn/accuracy") == "last/mean"
    assert rows["TF-IDF"].pooling("docs/knn/accuracy") == ""
    text = shown(found)
    assert "ᵐ" in text and "ˡᵐ" in text
    assert "– SimCLR, language modelling: SimCLR gives no likelihood of a text" in text
    page = render_page(found)
    assert "pooling: last/mean" in page
    assert 'title="SimCLR gives no likelihood of a text"' in page
    assert (
        "<li>– SimCLR, language modelling: SimCLR gives no likelihood of a text</li>" in page
    )  # a phone shows no titles
    write_csv(found, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open() as file:
        pooled = {(row["row"], row["number"]): row["pooling"] for row in csv.DictReader(file)}
    assert pooled["CausalLM", "docs/knn/macro_f1"] == "last/mean"
    assert pooled["CausalLM", "docs/geometry/effective_rank"] == ""


def test_probes_whose_regularisation_is_at_the_edge_or_that_have_not_converged_are_named(tmp_path):
    for name, method, seed in (("a", "SimCLR", 0), ("b", "CausalLM", 0), ("c", "CausalLM", 1)):
        write(tmp_path, name, method, seed=seed)
        path = tmp_path / "runs" / name / "evaluation.json"
        record = json.loads(path.read_text())
        numbers = {"C": 1e6 if seed else 2.0, "C_at_edge": bool(seed), "gradient": 3e-6 if name == "a" else 1e-9}
        probe = {"primary_metric": "accuracy", "metrics": {"accuracy": 0.5}, "details": numbers}
        record["suites"]["docs"]["evaluators"]["linear_probe"] = probe
        tfidf = {"C": 1e-5, "C_at_edge": True}
        record["suites"]["docs"]["baselines"]["tfidf"]["linear_probe"] = probe | {"details": tfidf}
        path.write_text(json.dumps(record))
    said = [note for note in comparison(tmp_path).notes if note.startswith("linear probe accuracy: ")]
    assert said == [
        "linear probe accuracy: the fit has not converged, the gradient is above 1e-08 for SimCLR (3e-06).",
        "linear probe accuracy: C is at the edge of the values tried for CausalLM (1e+06), TF-IDF (1e-05).",
    ]


def test_runs_that_were_trained_on_different_text_share_no_column(tmp_path):
    for name, method, text in (("a", "SimCLR", "abc"), ("b", "MaskedLM", "abc"), ("c", "CausalLM", "def")):
        for seed in (0, 1):
            write(tmp_path, f"{name}{seed}", method, seed=seed)
            path = tmp_path / "runs" / f"{name}{seed}" / "run.json"
            state = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(state | {"text": {"train": text, "valid": "same"}}))
    found = comparison(tmp_path)
    titles = {column.title for column in found.columns if column.key.startswith("docs/knn")}
    assert titles == {"k-NN accuracy (text abc)", "k-NN accuracy (text def)"}
    compared = {
        row.label: sum(key.startswith("docs/knn") for key in row.ties) for row in found.rows if not row.baseline
    }
    assert compared == {"SimCLR": 1, "MaskedLM": 1, "CausalLM": 0}
    assert any("each text has columns of its own" in line for line in found.differences)
    assert not any(" has no " in line for line in summarise(found))
    early = json.loads((tmp_path / "runs" / "c0" / "evaluation.json").read_text())
    early["cost"]["tokens"] = 1.0
    (tmp_path / "runs" / "c0" / "checkpoints").mkdir()
    (tmp_path / "runs" / "c0" / "checkpoints" / "step-1.evaluation.json").write_text(json.dumps(early))
    keys = {column.title[-4:-1]: column.key for column in found.columns if column.title.startswith("k-NN accuracy")}
    assert [has_curves(found.rows, keys[text], "tokens") for text in ("abc", "def")] == [False, True]

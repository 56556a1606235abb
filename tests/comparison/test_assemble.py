"""Rows, verdicts and sentences for handwritten runs."""

import csv
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from ssl_nlp.__main__ import main
from ssl_nlp.comparison import compare_runs, find_runs
from ssl_nlp.comparison.columns import columns
from ssl_nlp.comparison.configuration import not_equal
from ssl_nlp.comparison.facts import facts
from ssl_nlp.comparison.numbers import format_quantity
from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.table import render_tables, write_csv
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.record import SuiteResult, read_record, write_suite
from ssl_nlp.evaluation.result import PROTOCOL, Result
from ssl_nlp.runs.ancestry import published

ITEMS = 400
DIFFICULTY = np.random.default_rng(0).normal(size=ITEMS)


def accuracy(ability: float, seed: int) -> Result:
    right = np.random.default_rng(seed).logistic(size=ITEMS) < ability + DIFFICULTY
    items = right.astype(np.uint8)
    return Result("accuracy", {"accuracy": float(items.mean()), "macro_f1": 0.5}, {}, items)


def language(metric: str, value: float) -> Result:
    return Result(metric, {metric: value}, {"kind": metric})


def write(
    folder,
    name,
    method="MaskedLM",
    ability=0.5,
    seed=0,
    data="same",
    finished=True,
    tokens=1000.0,
    pooling="mean",
    protocol=PROTOCOL,
    ancestry=(),
    extended=(),
    **settings,
):
    run = folder / "runs" / name
    run.mkdir(parents=True)
    config = {
        "seed_everything": seed,
        "run": name,
        "model": {
            "class_path": f"ssl_nlp.methods.{method}",
            "init_args": {"encoder": {"class_path": "ssl_nlp.encoders.Transformer", "init_args": {"size": "tiny"}}},
        },
        "data": {
            "init_args": {"corpus": {"class_path": "ssl_nlp.corpora.InstalledDocs", "init_args": {"valid": 0.05}}}
        },
    }
    for key, value in settings.items():
        *parents, last = key.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "run.json").write_text(json.dumps({"finished": finished, "ancestry": [*ancestry], "extended": [*extended]}))
    kind = {"MaskedLM": "pseudo_bits_per_byte", "CausalLM": "bits_per_byte"}.get(method)
    answers = {"knn": accuracy(ability, hash_of(name)), "geometry": Result("effective_rank", {"effective_rank": 20.0})}
    answers["knn"].details["pooling"] = pooling
    answers |= {"language_modelling": language(kind, 2.0)} if kind else {}
    if method == "CausalMaskedLM":
        kind, metrics = "bits_per_byte", {"bits_per_byte": 2.0, "pseudo_bits_per_byte": 1.0}
        answers |= {"language_modelling": Result(kind, metrics, {"kind": "likelihood"})}
    missing = {} if kind else {"language_modelling": f"{method} gives no likelihood of a text"}
    baselines = {"tfidf": {"knn": accuracy(0.3, 1)}, "random_init": {"knn": accuracy(-0.5, 2)}}
    header = {"method": method, "checkpoint": {"file": "last.ckpt", "digest": ""}, "cost": {"tokens": tokens}}
    if ancestry:
        header["cost"]["ancestor_tokens"] = sum(one["tokens"] or 0 for one in ancestry)
    write_suite(run / "evaluation.json", header, "docs", SuiteResult(data, answers, baselines, None, missing, protocol))


def hash_of(name: str) -> int:
    return zlib.crc32(name.encode())


def comparison(folder: Path):
    return compare_runs(find_runs([folder / "runs"]), "docs")


def shown(found) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_tables(found))
    return console.export_text()


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
    # Likelihoods of different kinds never share a column, and a single one is not called the best.
    keys = [column.key for column in found.columns]
    assert keys[-2:] == ["docs/language_modelling/bits_per_byte", "docs/language_modelling/pseudo_bits_per_byte"]
    assert not any(key in row.ties for row in found.rows for key in keys[-2:])
    assert not any("docs/geometry/effective_rank" in row.ties for row in found.rows)


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


def test_settings_that_a_started_run_does_not_use_are_not_called_a_difference(tmp_path):
    """Tokenizer and encoder of a run that starts from another one are those of that one, whatever its settings say."""
    write(tmp_path, "first", data__init_args__tokenizer={"kind": "bpe", "vocab_size": 1000})
    start = {"class_path": "ssl_nlp.encoders.Trained", "init_args": {"run": "first"}}
    own = {"kind": "bpe", "vocab_size": 8192}
    write(tmp_path, "second", "SimCLR", model__init_args__encoder=start, data__init_args__tokenizer=own)
    found = comparison(tmp_path)
    assert not [line for line in found.differences if line.startswith(("The tokenizer", "The encoder"))]
    said = {fact.name: fact.values for fact in facts(found)}
    assert said["tokenizer"] == {"kind bpe, vocab_size 1000": ["MaskedLM"], "that of its start": ["SimCLR"]}
    assert said["encoder"] == {"Transformer (size tiny)": ["MaskedLM"], "that of its start": ["SimCLR"]}


DIFFERENCES = {
    "corpus": ({"data__init_args__corpus__init_args": {"valid": 0.1}}, "The corpus differs: data.corpus.valid is 0.05"),
    "encoder": (
        {"model__init_args__encoder__init_args": {"size": "small"}},
        "The encoder differs: model.encoder.size is tiny for MaskedLM and small for SimCLR.",
    ),
    "tokenizer": ({"data__init_args__tokenizer": {"kind": "bpe"}}, "The tokenizer differs: data.tokenizer.kind"),
    "tokens": ({"tokens": 2000.0}, "The tokens seen differ: 1,000 for MaskedLM and 2,000 for SimCLR."),
    "schedule": ({"extended": [300]}, "The schedule differs: made longer at step 300 for SimCLR."),
    "test data": ({"data": "other"}, "The test data differ"),
}


@pytest.mark.parametrize("thing", DIFFERENCES)
def test_differences_that_make_a_comparison_unfair_are_named(thing, tmp_path):
    write(tmp_path, "a")
    settings, sentence = DIFFERENCES[thing]
    write(tmp_path, "b", "SimCLR", ability=0.0, **settings)
    found = comparison(tmp_path)
    [said] = found.differences
    assert said.startswith(sentence)
    assert f"Not equal: {sentence}"[:60] in shown(found)
    compared = sum("docs/knn/accuracy" in row.ties for row in found.rows[:2])
    assert compared == (1 if thing == "test data" else 2)  # only the best with itself


OLD = {
    "run": "old",
    "checkpoint": "checkpoints/last.ckpt",
    "digest": "a",
    "method": "CausalLM",
    "step": 300,
    "flops": 1e6,
}


def test_the_start_of_a_run_and_the_tokens_of_its_ancestors_are_not_equal_to_none(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b", "SimCLR", tokens=401_000.0, ancestry=[OLD | {"tokens": 400_000}])
    write(tmp_path, "c", "CausalLM", tokens=1000.0, ancestry=[published("bert-base-uncased")])
    found = comparison(tmp_path)
    start, tokens = found.differences
    assert "runs/old, step 300, 0.40 M tokens for SimCLR" in start
    assert "bert-base-uncased, tokens unknown for CausalLM" in start
    assert "new weights for MaskedLM" in start
    assert tokens.startswith("The tokens seen, those of ancestors included, differ: ")
    assert "401,000 for SimCLR" in tokens
    text = " ".join(shown(found).split())
    assert "inherited" in text
    page = render_page(found)
    assert f"{format_quantity(401_000)} tokens ({format_quantity(400_000)} of them by its ancestors)" in page
    assert "runs/old, step 300, 0.40 M tokens" in page


def test_where_all_start_from_new_weights_nothing_is_said_of_it(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b", "SimCLR")
    assert "inherited" not in shown(comparison(tmp_path))
    assert "new weights" not in render_page(comparison(tmp_path))


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


def test_differences_are_known_from_the_configurations(tmp_path):
    """`compare --seeds` names them before it trains."""
    corpus = {"class_path": "ssl_nlp.corpora.TextFiles", "init_args": {"train": "a.txt"}}
    plans = {
        "simclr": {"data": {"init_args": {"corpus": corpus, "seed": 1}}, "seed_everything": 0},
        "vae": {"data": {"init_args": {"corpus": corpus | {"init_args": {"train": "b.txt"}}}}, "seed_everything": 1},
    }
    assert not_equal(plans) == ["The corpus differs: data.corpus.train is a.txt for simclr and b.txt for vae."]
    assert not_equal(dict.fromkeys(plans, plans["vae"])) == []


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


def test_the_csv_file_holds_every_number(tmp_path):
    for seed in range(2):
        write(tmp_path, f"masked-{seed}", seed=seed)
    write(tmp_path, "causal", "CausalLM")
    found = comparison(tmp_path)
    write_csv(found, tmp_path / "comparison.csv")
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    [line] = [r for r in rows if (r["row"], r["number"]) == ("MaskedLM", "docs/knn/accuracy")]
    masked = next(row for row in found.rows if row.label == "MaskedLM")
    estimate = masked.scores["docs/knn/accuracy"]
    assert [float(line[name]) for name in ("mean", "low", "high", "n")] == [
        estimate.mean,
        estimate.low,
        estimate.high,
        2,
    ]
    assert line["seeds"] == "0 1"
    assert line["verdict"] in ("best", "tie")
    assert {"docs/knn/macro_f1", "cost/tokens"} <= {r["number"] for r in rows if r["row"] == "MaskedLM"}
    assert {r["row"] for r in rows if r["baseline"] == "1"} == {"TF-IDF", "untrained CausalLM, MaskedLM"}


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


def test_many_columns_make_several_tables_with_complete_names(tmp_path):
    write(tmp_path, "masked", "MaskedLM")
    write(tmp_path, "causal", "CausalLM")
    found = comparison(tmp_path)
    [knn] = [column for column in found.columns if column.key == "docs/knn/accuracy"]
    many = [replace(knn, title=f"animals: question {number} accuracy") for number in range(9)]
    said = shown(replace(found, columns=many))
    assert said.count("frozen embeddings") == 2
    assert all(name in said for name in ("MaskedLM", "CausalLM", "TF-IDF"))


def test_baselines_on_different_data_are_rows_with_labels_of_their_own(tmp_path):
    write(tmp_path, "one", "MaskedLM")
    write(tmp_path, "two", "CausalLM", data="other")
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


def test_numbers_of_an_older_protocol_are_named_and_not_mixed_with_new_ones(tmp_path):
    write(tmp_path, "a", "SimCLR", protocol=1, data="then")
    write(tmp_path, "b", "MoCo", protocol=1, data="then")
    old = comparison(tmp_path)
    assert old.protocol == 1
    assert f"evaluated by protocol 1, and this version has protocol {PROTOCOL}" in shown(old).replace("\n", " ")
    write(tmp_path, "c", "CausalLM", data="now")
    mixed = comparison(tmp_path)
    assert mixed.protocol == PROTOCOL
    assert any(
        "protocols differ: 1 for MoCo, SimCLR" in line or "protocols differ" in line for line in mixed.differences
    )
    methods = {row.label: row for row in mixed.rows if not row.baseline}
    compared = {label for label, row in methods.items() if "docs/knn/accuracy" in row.ties}
    assert compared in ({"CausalLM"}, {"SimCLR", "MoCo"})


def test_other_words_that_models_know_are_called_a_difference(tmp_path):
    for name, method, coverage in (("a", "MaskedLM", 0.545), ("b", "SimCLR", 1.0)):
        write(tmp_path, name, method)
        pairs = np.random.default_rng(len(method)).normal(size=(40, 2))
        pairs[: round(40 * (1 - coverage)), 0] = np.nan
        result = Result("spearman", {"spearman": 0.1, "coverage": coverage}, {}, pairs, "spearman")
        right = Result("accuracy", {"accuracy": 0.5, "coverage": 0.9}, {}, pairs[:, 0] > 0)
        found = SuiteResult("same", {"men.word_similarity": result, "made.analogies": right})
        write_suite(tmp_path / "runs" / name / "evaluation.json", {"method": method, "checkpoint": {}}, "docs", found)
    said = [line for line in comparison(tmp_path).differences if "known words" in line]
    assert said == [
        "The share of men.word_similarity that has known words, and counts, differs: 54.5% for MaskedLM and 100.0% for "
        "SimCLR."
    ]

"""What is named as not equal in a comparison, and what is not."""

import csv

import numpy as np
import pytest

from ssl_nlp.comparison.configuration import not_equal, spoken
from ssl_nlp.comparison.facts import facts
from ssl_nlp.comparison.numbers import format_quantity
from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.table import write_csv
from ssl_nlp.evaluation.record import SuiteResult, write_suite
from ssl_nlp.evaluation.result import PROTOCOL, Result
from ssl_nlp.runs.ancestry import published
from tests.comparison.handwritten import comparison, shown, write


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
    "dropout": (
        {"model__init_args__encoder__init_args": {"size": "tiny", "dropout": 0.1}},
        "The encoder differs: model.encoder.dropout is not set for MaskedLM and 0.1 for SimCLR.",
    ),
    "rate": (
        {"model__init_args__optimization": {"learning_rate": 0.001}},
        "The optimization differs: model.optimization.learning_rate is not set for MaskedLM and 0.001 for SimCLR.",
    ),
    "batch": (
        {"data__init_args__batch_size": 8},
        "The batching differs: data.batch_size is not set for MaskedLM and 8 for",
    ),
    "pooling": (
        {"model__init_args__pooling": "last"},
        "The pooling differs: model.pooling is not set for MaskedLM and last",
    ),
    "dropout of a decoder": (
        {"model__init_args__dropout": 0.1},
        "The dropout differs: model.dropout is not set for MaskedLM and 0.1 for SimCLR.",
    ),
    "clipping": (
        {"trainer": {"gradient_clip_algorithm": "value"}},
        "The optimization differs: trainer.gradient_clip_algorithm is not set for MaskedLM and value for SimCLR.",
    ),
    "tokens": ({"tokens": 2000.0}, "The tokens seen differ: 1,000 for MaskedLM and 2,000 for SimCLR."),
    "schedule": ({"extended": [300]}, "The schedule differs: made longer at step 300 for SimCLR."),
    "text": (
        {"text": "c" * 64},
        "The text, by its digest, differs: data.text.train is aaaaaaaaaaaa for MaskedLM and cccccccccccc for SimCLR.",
    ),
    "items": (
        {"data": "other"},
        "The evaluation items of knn, geometry differ: those of the suite are same for MaskedLM and other for "
        "SimCLR (digests).",
    ),
}


@pytest.mark.parametrize("thing", DIFFERENCES)
def test_differences_that_make_a_comparison_unfair_are_named(thing, tmp_path):
    write(tmp_path, "a")
    settings, sentence = DIFFERENCES[thing]
    write(tmp_path, "b", "SimCLR", ability=0.0, **settings)
    found = comparison(tmp_path)
    [said, *rest] = found.differences
    assert said.startswith(sentence)
    assert ["has columns of its own" in line for line in rest] == [True] * (thing == "text")
    assert f"Not equal: {sentence}"[:60] in shown(found)
    apart = thing in ("items", "text")
    assert sum("docs/knn/accuracy" in row.ties for row in found.rows[:2]) == (0 if apart else 2)


@pytest.mark.parametrize("recorded", [True, False])
def test_results_on_different_items_have_columns_of_their_own(recorded, tmp_path):
    """Where the items of each evaluator are recorded, the others share a column even if the suites differ."""
    for name, method, key in (("a", "SimCLR", "1" * 16), ("b", "MoCo", "2" * 16)):
        items = {"knn": key, "geometry": "3" * 16} if recorded else None
        write(tmp_path, name, method, data=key, items=items)
    found = comparison(tmp_path)
    titles = ["k-NN accuracy (111111111111)", "k-NN accuracy (222222222222)"]
    shared = ["effective rank"] if recorded else ["effective rank (111111111111)", "effective rank (222222222222)"]
    assert sorted(column.title for column in found.columns) == [*shared, *titles]
    knn = [[column.title in titles and column.key in row.scores for column in found.columns] for row in found.rows]
    assert [sum(row) for row in knn] == [1, 1, 2, 1, 1]  # TF-IDF was counted for both
    [said] = found.differences
    assert said.startswith(f"The evaluation items of knn{'' if recorded else ', geometry'} differ: ")
    write_csv(found, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["row"] == "MoCo"]
    assert {line["text_train"] for line in lines} == {"a" * 64}
    digests = {line["number"].partition("@")[0]: line["items"] for line in lines if "@" in line["number"]}
    assert digests["docs/knn"] == ("2" * 16 if recorded else "")
    assert "evaluation items (digest): 111111111111 and 222222222222 (docs)" in shown(found)


def test_an_old_record_without_digests_of_items_does_not_part_new_ones(tmp_path):
    """It shares the column of a new record of the same suite, and has its own beside new ones of other suites."""
    equal = {"knn": "1" * 16, "geometry": "3" * 16}
    write(tmp_path, "a", "SimCLR", data="4" * 16, items=equal)
    write(tmp_path, "b", "MoCo", data="5" * 16, items=equal)  # the suite differs, but in another evaluator
    write(tmp_path, "old", "MaskedLM", data="4" * 16)
    found = comparison(tmp_path)
    knn = [column.title for column in found.columns if "k-NN" in column.title]
    assert knn == ["k-NN accuracy"]
    assert all("docs/knn/accuracy" in row.scores for row in found.rows)
    write(tmp_path, "older", "VAE", data="6" * 16)
    titles = sorted(column.title for column in comparison(tmp_path).columns if "k-NN" in column.title)
    assert titles == ["k-NN accuracy (111111111111)", "k-NN accuracy (666666666666)"]


def test_seeds_that_were_trained_on_other_text_are_rows_of_their_own(tmp_path):
    """Of text whose digest is not known nothing is claimed but that it is not known."""
    write(tmp_path, "a", text="c" * 64)
    write(tmp_path, "b", text="d" * 64, seed=1)
    found = comparison(tmp_path)
    labels = ["MaskedLM train=cccccccccccc", "MaskedLM train=dddddddddddd"]
    assert sorted(row.label for row in found.rows if not row.baseline) == labels
    assert "text (digest): cccccccccccc (train), bbbbbbbbbbbb (valid) MaskedLM train=cccccccccccc" in shown(found)
    write(tmp_path, "old", "SimCLR", text=None)
    write(tmp_path, "new", "SimCLR", text="c" * 64, seed=1)
    write(tmp_path, "older", "MoCo", text=None)
    found = comparison(tmp_path)
    assert {row.label for row in found.rows if not row.baseline} == {*labels, "SimCLR", "MoCo"}
    seed, method = [note for note in found.notes if note.startswith("No digest is recorded")]
    assert "text that old, a seed of SimCLR, was trained on" in seed
    assert "text that MoCo was trained on" in method


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


def test_differences_are_known_from_the_configurations(tmp_path):
    """`compare --seeds` names them before it trains."""
    corpus = {"class_path": "ssl_nlp.corpora.TextFiles", "init_args": {"train": "a.txt"}}
    plans = {
        "simclr": {"data": {"init_args": {"corpus": corpus, "seed": 1}}, "seed_everything": 0},
        "vae": {"data": {"init_args": {"corpus": corpus | {"init_args": {"train": "b.txt"}}}}, "seed_everything": 1},
    }
    assert not_equal(plans) == ["The corpus differs: data.corpus.train is a.txt for simclr and b.txt for vae."]
    assert not_equal(dict.fromkeys(plans, plans["vae"])) == []


def method(encoder=0.1, rate=0.002, **settings):
    """A configuration with the dropout of its encoder and its learning rate."""
    shared = {"encoder": {"init_args": {"dropout": encoder}}, "optimization": {"learning_rate": rate}}
    return {"model": {"init_args": shared | settings}}


def several(*objectives):
    """A `MultiObjective`."""
    return method(objectives=[{"class_path": f"mine.Objective{n}", "init_args": o} for n, o in enumerate(objectives)])


RATES = {"critic_learning_rate": 0.001, "generator_learning_rate": 0.002}
PARTS = {
    "the dropout of a decoder": (
        method(),
        method(dropout=0.0),
        "dropout",
        "model.dropout is not set for a and 0 for b",
    ),
    "the dropouts of two decoders": (method(dropout=0.1), method(dropout=0.2), "dropout", "model.dropout is 0.1 for a"),
    "the rate of a critic": (
        method(),
        method(**RATES),
        "optimization",
        "model.critic_learning_rate is not set for a and 0.001 for b.",
    ),
    "the pooling of an objective": (
        several({"masking_rate": 0.3}, {"pooling": "mean"}),
        several({"masking_rate": 0.3}, {"pooling": "first"}),
        "pooling",
        "model.objectives.1.pooling is mean for a and first for b.",
    ),
    "the pooling of an objective that others lack": (
        method(),
        several({"pooling": "first"}),
        "pooling",
        "model.objectives.0.pooling is not set for a and first for b.",
    ),
    "the dropout of an objective": (
        method(),
        several({"dropout": 0.0}),
        "dropout",
        "model.objectives.0.dropout is not",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_settings_of_a_part_of_a_method_that_are_not_the_shared_ones_are_named(case):
    a, b, thing, said = PARTS[case]
    [sentence] = not_equal({"a": a, "b": b})
    assert sentence.startswith(f"The {thing} differs: {said}")


OF_THE_METHOD = {
    "a decoder with the dropout of the encoder": (method(), method(dropout=0.1)),
    "decoders of both": (method(dropout=0.3), method(dropout=0.3, width=4)),
    "the dropout of an encoder with published rates": (method(None), method(None, dropout=0.3)),
    "a critic with the rate of everything else": (method(), method(critic_learning_rate=0.002)),
    "a critic beside a method that has no optimizer": ({"model": {}}, {"model": {"critic_learning_rate": 0.1}}),
    "the usual pooling": (method(), method(pooling="mean")),
    "the same pooling, alone and among objectives": (method(pooling="last"), several({"pooling": "last"})),
    "no value": (method(), method(dropout=None, pooling=None, critic_learning_rate=None)),
    "noise": (method(), method(word_dropout=0.4, key_dropout=False, masking_rate=0.3, momentum=0.99)),
    "an optimization that objectives ignore": (method(), several({"optimization": {"learning_rate": 0.1}})),
}


@pytest.mark.parametrize("case", OF_THE_METHOD)
def test_settings_that_only_one_method_has_are_not_called_a_difference(case):
    a, b = OF_THE_METHOD[case]
    assert not_equal({"a": a, "b": b}) == not_equal({"b": b, "a": a}) == []


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
    assert [column.title for column in mixed.columns if "k-NN" in column.title] == [
        f"k-NN accuracy (protocol {protocol})" for protocol in (1, PROTOCOL)
    ]
    compared = {label for label, row in methods.items() if "docs/knn@protocol 1/accuracy" in row.ties}
    assert compared == {"SimCLR", "MoCo"}


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


def test_other_characters_that_encoders_read_are_called_a_difference(tmp_path):
    for name, method, read in (("a", "MaskedLM", 0.62), ("b", "SimCLR", 1.0)):
        write(tmp_path, name, method)
        numbers = {"accuracy": 0.5, "examples_cut": 1 - read, "prompts_cut": 0.0}
        found = {
            "reviews.knn": Result("accuracy", {"accuracy": 0.5}, read=read),
            "reviews.geometry": Result("effective_rank", {"effective_rank": 2.0}, read=1.0),
            "short.knn": Result("accuracy", {"accuracy": 0.5}, read=1.0),
            "mood.few_shot_4": Result("accuracy", numbers),
        }
        path = tmp_path / "runs" / name / "evaluation.json"
        write_suite(path, {"method": method, "checkpoint": {}}, "docs", SuiteResult("same", found))
    assert comparison(tmp_path).differences[-2:] == [
        "The share of the characters of reviews that is read is 62.0% for MaskedLM and 100.0% for SimCLR: baselines that "
        "count words read all of it; raise the encoder's max_length, or lower `characters` in your suite.",
        "The share of the prompts of mood.few_shot_4 that lose examples for lack of room is 38.0% for MaskedLM and 0.0% "
        "for SimCLR.",
    ]


def test_where_most_have_a_value_they_are_called_the_others():
    few, many = {"A": "1", "B": "2", "C": "1"}, dict.fromkeys("ABCDE", "1")
    assert spoken(few) == "1 for A, C and 2 for B"
    assert spoken({"Z": "2"} | many | {"Y": "3"}) == "2 for Z and 3 for Y and 1 for the others"
    assert spoken(many) == "1 for A, B, C, D, E"

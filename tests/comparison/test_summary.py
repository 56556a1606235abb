"""Sentences of the summary, for scores with known intervals."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from ssl_nlp.comparison import Column, ComparedRun, Comparison, Row
from ssl_nlp.comparison.assemble import estimates, scores
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.verdicts import RowResults, with_verdicts
from ssl_nlp.evaluation import Result

ITEMS = 1000
KNN, PROBE, SEARCH = (
    Column("mine/knn/accuracy", "k-NN accuracy", True),
    Column("mine/linear_probe/accuracy", "linear probe accuracy", True),
    Column("mine/retrieval/mrr@10", "retrieval MRR@10", True),
)
RANK = Column("mine/geometry/effective_rank", "effective rank", None, "directions")
BITS = Column("mine/language_modelling/bits_per_byte", "bits per byte", False, "bits/byte")
PSEUDO = Column("mine/language_modelling/pseudo_bits_per_byte", "bits per byte (pseudo)", False, "bits/byte")


def result(label: str, seed: int, column: Column, score: float) -> Result:
    """A result with exactly this share of correct items, at random places; scores that are not shares have no items."""
    metric = column.key.rsplit("/", 1)[1]
    if column.higher_is_better is not True:
        return Result(metric, {metric: score}, {"kind": metric} if column.unit == "bits/byte" else {})
    items = np.arange(ITEMS) < round(score * ITEMS)
    generator = np.random.default_rng(zlib.crc32(f"{label} {seed} {column.key}".encode()))
    return Result(metric, {metric: float(items.mean())}, {}, generator.permutation(items).astype(np.uint8))


def compared(methods, baselines=(), costs=None) -> Comparison:
    """Compare methods and baselines, given as label -> column -> score, or a list of scores with one per seed."""
    rows = []
    for label, given in [*dict(methods).items(), *dict(baselines).items()]:
        baseline = label in dict(baselines)
        several = {column: score if isinstance(score, list) else [score] for column, score in given.items()}
        seeds = max(map(len, several.values()), default=1)
        results = [
            {c.key.rpartition("/")[0]: result(label, seed, c, score[seed]) for c, score in several.items()}
            for seed in range(seeds)
        ]
        cost = estimates([(costs or {}).get(label, {})])
        config = {} if label == "BERT" else {"model": {}}
        runs = tuple(ComparedRun(None, label, label, seed, config, [], [], {}, True) for seed in range(seeds))
        row = Row(label, () if baseline else runs, baseline, scores(results), cost={} if baseline else cost)
        rows.append((row, RowResults(results, varies=not baseline and bool(config))))
    columns = list(dict.fromkeys(column for given in [*dict(methods).values()] for column in given))
    number = len(dict(methods))
    return Comparison("mine", 1, columns, with_verdicts(columns, rows[:number], rows[number:]), [], {})


def untested(comparison: Comparison, label: str) -> Comparison:
    """The comparison as if no difference of a row could be tested."""
    rows = [replace(row, ties={}, over_baseline={}) if row.label == label else row for row in comparison.rows]
    return replace(comparison, rows=rows)


def all_at(score: float | list[float], *columns: Column) -> dict[Column, float | list[float]]:
    return dict.fromkeys(columns or (KNN, PROBE, SEARCH), score)


TFIDF = {"TF-IDF": all_at(0.8)}
CASES = {
    "one method is best and nothing beats counting words": (
        {"SimCLR": all_at(0.6), "MaskedLM": all_at(0.4), "TSDAE": all_at(0.41), "VAE": all_at(0.2)},
        TFIDF,
        [
            "SimCLR is best on all 3 scores.",
            "MaskedLM and TSDAE cannot be told apart on any score.",
            "Nothing beats counting words (TF-IDF) on any score.",
        ],
    ),
    "one run": (
        {"SimCLR": all_at(0.6)},
        TFIDF,
        [
            "SimCLR is the only method: there is no other to compare it with.",
            "Nothing beats counting words (TF-IDF) on any score.",
        ],
    ),
    "one run with one score that is better than the baseline": (
        {"SimCLR": all_at(0.9, KNN)},
        TFIDF,
        [
            "SimCLR is the only method: there is no other to compare it with.",
            "SimCLR beats counting words (TF-IDF) on k-NN accuracy.",
        ],
    ),
    "all tied, with each other and with the baseline": (
        {"SimCLR": all_at(0.8), "MaskedLM": all_at(0.81), "VAE": all_at(0.8)},
        TFIDF,
        [
            "SimCLR, MaskedLM and VAE cannot be told apart on any score.",
            "Nothing is shown to beat counting words (TF-IDF) on any score.",
        ],
    ),
    "the best is tied with others": (
        {"SimCLR": all_at(0.61), "MaskedLM": all_at(0.6), "VAE": all_at(0.2)},
        (),
        ["On all 3 scores no single method is best: SimCLR leads, but is tied with MaskedLM."],
    ),
    "one is best on some scores and another on one, where the baseline is not beaten": (
        {
            "SimCLR": {KNN: 0.9, PROBE: 0.9, SEARCH: 0.4},
            "MaskedLM": {KNN: 0.65, PROBE: 0.6, SEARCH: 0.65},
            "VAE": {KNN: 0.4, PROBE: 0.1, SEARCH: 0.1},
        },
        {"TF-IDF": {KNN: 0.4, PROBE: 0.7, SEARCH: 0.95}},
        [
            "SimCLR is best on k-NN accuracy and linear probe accuracy; MaskedLM is best on retrieval MRR@10.",
            "SimCLR beats counting words (TF-IDF) on k-NN accuracy and linear probe accuracy; MaskedLM beats it on k-NN "
            "accuracy; VAE is not shown to beat it on any score.",
            "Nothing beats counting words (TF-IDF) on retrieval MRR@10.",
        ],
    ),
    "methods that are tied on some scores only": (
        {
            "SimCLR": {KNN: 0.9, PROBE: 0.61, SEARCH: 0.9},
            "MaskedLM": {KNN: 0.6, PROBE: 0.6, SEARCH: 0.61},
            "VAE": {KNN: 0.4, PROBE: 0.1, SEARCH: 0.6},
        },
        (),
        [
            "SimCLR is best on k-NN accuracy and retrieval MRR@10.",
            "On linear probe accuracy no single method is best: SimCLR leads, but is tied with MaskedLM.",
        ],
    ),
    "seeds that vary more than the methods": (
        {"SimCLR": {KNN: [0.3, 0.5, 0.7]}, "MaskedLM": {KNN: [0.35, 0.5, 0.6]}},
        {"TF-IDF": {KNN: 0.45}},
        [
            "SimCLR and MaskedLM cannot be told apart.",
            "Nothing is shown to beat counting words (TF-IDF).",
        ],
    ),
    "seeds that vary less": (
        {"SimCLR": {KNN: [0.7, 0.71, 0.72]}, "MaskedLM": {KNN: [0.5, 0.51, 0.52]}},
        {"TF-IDF": {KNN: 0.6}},
        [
            "SimCLR is best on k-NN accuracy.",
            "SimCLR beats counting words (TF-IDF) on k-NN accuracy; MaskedLM is not shown to beat it.",
        ],
    ),
    "scores that are missing": (
        {"SimCLR": all_at(0.7), "MaskedLM": all_at(0.5, KNN, PROBE), "VAE": all_at(0.3, KNN)},
        (),
        [
            "SimCLR is best on k-NN accuracy and linear probe accuracy.",
            "MaskedLM has no retrieval MRR@10.",
            "VAE has no linear probe accuracy or retrieval MRR@10.",
        ],
    ),
    "losses of different kinds only": (
        {"CausalLM": {BITS: 2.0, RANK: 20.0}, "MaskedLM": {PSEUDO: 1.0, RANK: 30.0}},
        (),
        ["No method is best: no score can be compared between methods."],
    ),
    "losses of one kind, one seed": (
        {"CausalLM": {BITS: 2.0}, "CausalLM small": {BITS: 2.5}},
        (),
        ["On bits per byte no method is best: not every difference could be tested."],
    ),
    "losses of one kind, three seeds, of which the lowest is best": (
        {"CausalLM": {BITS: [2.0, 2.01, 2.02]}, "CausalLM small": {BITS: [2.5, 2.51, 2.52]}, "MaskedLM": {PSEUDO: 1.0}},
        (),
        ["CausalLM is best on bits per byte."],
    ),
    "baselines of which a different one is best on each score": (
        {"SimCLR": {KNN: 0.6, PROBE: 0.8}, "VAE": {KNN: 0.1, PROBE: 0.1}},
        {"TF-IDF": {KNN: 0.9, PROBE: 0.4}, "random words": {KNN: 0.4, PROBE: 0.5}},
        [
            "SimCLR is best on k-NN accuracy and linear probe accuracy.",
            "SimCLR beats the best baseline on linear probe accuracy; VAE is not shown to beat it on any score.",
            "Nothing beats counting words (TF-IDF) on k-NN accuracy.",
        ],
    ),
    "published models": (
        {"BERT": all_at(0.8), "MaskedLM": all_at(0.5)},
        {"TF-IDF": all_at(0.3)},
        [
            "BERT is best on all 3 scores.",
            "BERT and MaskedLM beat counting words (TF-IDF) on all 3 scores.",
        ],
    ),
    "several data sets": (
        {
            "SimCLR": {
                replace(KNN, key=f"mine/{name}.knn/accuracy", title=f"{name}: k-NN accuracy"): 0.7 for name in "ab"
            },
            "VAE": {
                replace(KNN, key=f"mine/{name}.knn/accuracy", title=f"{name}: k-NN accuracy"): 0.3 for name in "ab"
            },
        },
        (),
        ["SimCLR is best on a: k-NN accuracy and b: k-NN accuracy."],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sentences(case):
    methods, baselines, expected = CASES[case]
    assert summarise(compared(methods, baselines)) == expected


def test_methods_whose_differences_could_not_be_tested_are_not_ranked():
    methods = {"SimCLR": all_at(0.9), "MaskedLM": all_at(0.2), "VAE": all_at(0.1)}
    found = summarise(untested(compared(methods, TFIDF), "VAE"))
    assert found[0] == "On all 3 scores no method is best: not every difference could be tested."
    found = summarise(untested(compared({"SimCLR": all_at(0.9)}, TFIDF), "SimCLR"))
    assert found[1:] == ["No method could be tested against a baseline."]


def test_a_method_that_was_not_tested_against_the_baseline_keeps_it_from_being_called_unbeaten():
    methods = {"SimCLR": all_at(0.2), "VAE": all_at(0.9)}
    said = summarise(untested(compared(methods, TFIDF), "VAE"))
    assert said[-1] == "Nothing is shown to beat counting words (TF-IDF) on any score."


def test_many_winners_are_counted():
    columns = [replace(KNN, key=f"mine/{n}.knn/accuracy", title=f"{n}: accuracy") for n in range(7)]
    methods = {f"method {n}": {column: 0.9 if n == m else 0.3 for m, column in enumerate(columns)} for n in range(5)}
    methods["method 0"] |= {columns[5]: 0.9, columns[6]: 0.9}
    said = summarise(compared(methods, {"TF-IDF": all_at(0.6, *columns)}))
    assert said == [
        "method 0 is best on 3 of 7 scores; method 1 is best on 1: accuracy; method 2 is best on 2: accuracy; 2 more "
        "methods are best on 3: accuracy and 4: accuracy between them.",
        "method 0 beats counting words (TF-IDF) on 3 of 7 scores; method 1 beats it on 1: accuracy; method 2 beats it on "
        "2: accuracy; 2 more methods beat it on some of them.",
    ]


def test_twenty_methods_fit_in_a_few_sentences():
    middle = {f"method {n}": 0.9 if n == 0 else 0.3 + 0.1 * (n % 3) for n in range(20)}
    methods = {label: all_at([score - 0.01, score, score + 0.01]) for label, score in middle.items()}
    assert summarise(compared(methods, {"TF-IDF": all_at(0.2)})) == [
        "method 0 is best on all 3 scores.",
        "method 1, method 4, method 7, method 10 and 3 more cannot be told apart on any score.",
        "method 2, method 5, method 8, method 11 and 2 more cannot be told apart on any score.",
        "method 3, method 6, method 9, method 12 and 2 more cannot be told apart on any score.",
        "method 0, method 1, method 2, method 3 and 16 more beat counting words (TF-IDF) on all 3 scores.",
    ]


def test_costs_are_said_to_be_equal_or_named_with_their_ratios():
    costs = {
        "SimCLR": {"tokens": 1000.0, "flops": 6e12, "seconds": 100.0},
        "MaskedLM": {"tokens": 1005.0, "flops": 2e12, "seconds": 104.0},
        "BERT": {"tokens": 1e12, "flops": 1e21},
    }
    methods = {"SimCLR": all_at(0.5), "MaskedLM": all_at(0.5), "BERT": all_at(0.5)}
    said = summarise(compared(methods, costs=costs))
    assert said[-1] == (
        "Training was equal in tokens and processor seconds alone: SimCLR used 3.0 times the FLOPs of MaskedLM."
    )
    costs["MaskedLM"]["flops"] = 6e12
    said = summarise(compared(methods, costs=costs))
    assert said[-1] == "Training was equal in tokens, FLOPs and processor seconds."
    costs["MaskedLM"]["tokens_read"] = 1005.0
    assert summarise(compared(methods, costs=costs))[-1] == said[-1]  # of SimCLR's they are not known
    costs["SimCLR"]["tokens_read"] = 2000.0
    said = summarise(compared(methods, costs=costs))
    assert said[-1] == (
        "Training was equal in tokens, FLOPs and processor seconds alone: "
        "SimCLR used 2.0 times the tokens read of MaskedLM."
    )
    del costs["SimCLR"]["tokens_read"], costs["MaskedLM"]["tokens_read"]
    costs["MaskedLM"]["flops"] = 2e12
    costs["MaskedLM"] |= {"tokens": 1050.0, "seconds": 250.0}
    said = summarise(compared(methods, costs=costs))
    assert said[-1] == (
        "Training was not equal: MaskedLM used 1.05 times the tokens and 2.5 times the processor seconds of SimCLR; "
        "SimCLR used 3.0 times the FLOPs of MaskedLM."
    )

"""Turn runs into a comparison: group seeds, add baselines, test differences, and name what was not equal."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_nlp.comparison import configuration as configurations
from ssl_nlp.comparison.characters import cut_prompts, cut_texts
from ssl_nlp.comparison.columns import BOUND, GROUPS, columns
from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.costs import token_differences
from ssl_nlp.comparison.covered import judged
from ssl_nlp.comparison.draws import Draw, agree, joined
from ssl_nlp.comparison.excesses import excesses
from ssl_nlp.comparison.intervals import t_interval
from ssl_nlp.comparison.item_notes import items_lost, known_words, probe_doubts
from ssl_nlp.comparison.items import apart, item_sentences
from ssl_nlp.comparison.table import BM25
from ssl_nlp.comparison.types import Column, Comparison, Estimate, Row
from ssl_nlp.comparison.verdicts import RowResults, assumptions
from ssl_nlp.corpora.digests import SHORT
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL, Result
from ssl_nlp.evaluation.record import SuiteResult, read_suite

BASELINES = {
    "majority": "majority class",
    "tfidf": "TF-IDF",
    "lsa": "LSA",
    "bm25": BM25,
    "word_vectors": "mean of word vectors",
    "random_words": "random words",
    "held_out": "held-out text",
    "5-gram": "5-gram",
    "shorter": "shorter sentence",
}
REMEDY = (
    "baselines that count words read all of it; raise the encoder's max_length, or lower `characters` in your suite"
)
"""The remedy where encoders cut texts."""
SEEDED = ("random_words", "word_vectors", "random_init")
"""Baselines that another seed changes."""
COUNTED = ("NGramLM",)
"""Methods that no seed changes."""


def compare_runs(runs: Sequence[ComparedRun], suite: str = "docs") -> Comparison:
    """Compare runs that were evaluated on a suite.

    Runs that differ only in their seed share a row. Unfinished and repeated runs are left out and named in the notes.

    Args:
        runs: in any order.
        suite: its name.

    Raises:
        UserError: no run is finished, or a run has no results for the suite, or broken ones.
    """
    notes, chosen = choose(runs)
    results = apart([read_results(run, suite) for run in chosen], [run.text.get("train", "") for run in chosen])
    evaluated = dict(zip([run.folder for run in chosen], results, strict=True))
    notes += items_lost(chosen, suite)
    groups = configurations.group(chosen)
    labels = configurations.label(groups)
    rows: list[tuple[Row, RowResults]] = []
    for label, members in zip(labels, groups, strict=True):
        seeds = [evaluated[run.folder] for run in members]
        given = RowResults([placed(suite, seed.evaluators) for seed in seeds], varies=_varies(members[0]))
        cost = estimates([run.record.get("cost", {}) for run in members])
        missing = {f"{suite}/{name}": reason for seed in seeds for name, reason in seed.missing.items()}
        digests = items(suite, seeds)
        rows.append((row_of(label, members, False, given.results, cost=cost, missing=missing, items=digests), given))
    beside = baselines(suite, [row for row, _ in rows], evaluated)
    notes += assumptions(rows, beside, "ssl-nlp compare --seeds 3 CONFIG...")
    columns = _columns([given for _, given in [*rows, *beside]])
    found, said = judged(columns, rows, beside)
    notes += said
    notes += probe_doubts([*rows, *beside], columns)
    notes += configurations.unknown_text(dict(zip(labels, groups, strict=True)))
    settings = {label: configurations.of_group(members) for label, members in zip(labels, groups, strict=True)}
    differing = configurations.difference([*settings.values()])
    configuration = {key: dict(zip(labels, values, strict=True)) for key, values in differing.items()}
    newest = max(result.protocol for result in results)
    if newest < PROTOCOL:
        notes.append(
            f"All runs were evaluated by protocol {newest}, and this version has protocol {PROTOCOL}: evaluate them again "
            "for numbers that can be compared with new ones."
        )
    return Comparison(
        suite,
        newest,
        columns,
        ordered(found, columns),
        _differences([row for row, _ in rows], evaluated, settings),
        configuration,
        notes,
        items={suite: " and ".join(dict.fromkeys(result.data[:SHORT] for result in results))},
    )


def placed(suite: str, results: Mapping[str, Result]) -> dict[str, Result]:
    """Results by SUITE/EVALUATOR."""
    return {f"{suite}/{name}": result for name, result in results.items()}


def row_of(
    label: str, runs: Sequence[ComparedRun], baseline: bool, results: Sequence[Mapping[str, Result]], **more: Any
) -> Row:
    """The row of some results, without verdicts.

    Args:
        results: of each seed, by SUITE/EVALUATOR.
        more: attributes that do not follow from them.
    """
    return Row(
        label,
        tuple(runs),
        baseline,
        scores(results),
        poolings=_poolings(results),
        validation=_primaries(results, lambda result: result.validation),
        read=_primaries(results, lambda result: result.read),
        excesses=excesses(results),
        **more,
    )


def merged(row: Row, other: Row) -> Row:
    """A row with the numbers of another one where it has none."""
    names = ("scores", "poolings", "validation", "read", "missing", "items", "excesses")
    return replace(row, **{name: getattr(other, name) | getattr(row, name) for name in names})


def scores(results: Sequence[Mapping[str, Result]]) -> dict[str, Estimate]:
    """Means of every metric over seeds, by SUITE/EVALUATOR/METRIC."""
    return estimates(
        [
            {f"{key}/{metric}": v for key, result in seed.items() for metric, v in result.metrics.items()}
            for seed in results
        ]
    )


def _primaries(results: Sequence[Mapping[str, Result]], number: Callable[[Result], float | None]) -> dict[str, float]:
    """Means over seeds of a number that belongs to the primary metric, where it is known, by SUITE/EVALUATOR/METRIC."""
    found = [
        {f"{key}/{result.primary_metric}": v for key, result in seed.items() if (v := number(result)) is not None}
        for seed in results
    ]
    return {key: estimate.mean for key, estimate in estimates(found).items()}


def items(suite: str, results: Sequence[SuiteResult]) -> dict[str, str]:
    """The digests of the items of each evaluator, as far as they are recorded, by SUITE/EVALUATOR."""
    return {f"{suite}/{name}": digest for result in results for name, digest in result.digests.items()}


def _poolings(results: Sequence[Mapping[str, Result]]) -> dict[str, str]:
    """The poolings of several seeds, by SUITE/EVALUATOR."""
    found: dict[str, dict[str, None]] = {}
    for seed in results:
        for key, result in seed.items():
            if "pooling" in result.details:
                found.setdefault(key, {}).update(dict.fromkeys(result.details["pooling"].split("/")))
    return {key: "/".join(names) for key, names in found.items()}


def estimates(numbers: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """The mean of each number over the seeds that have it."""
    values: dict[str, list[float]] = {}
    for named in numbers:
        for name, value in named.items():
            values.setdefault(name, []).append(value)
    found = {}
    for name, several in values.items():
        low, high = t_interval(np.array(several)) or (None, None)
        found[name] = Estimate(float(np.mean(several)), low, high, len(several))
    return found


def choose(runs: Sequence[ComparedRun]) -> tuple[list[str], list[ComparedRun]]:
    """Notes on the runs that are left out, and the other runs."""
    notes: list[str] = []
    chosen: list[tuple[ComparedRun, dict[str, str]]] = []
    for run in runs:
        if not run.finished:
            notes.append(
                f"{run.name} is left out: its training is not finished (the same ssl-nlp fit command resumes it)."
            )
            continue
        own = configurations.settings(run)
        for other, settings in chosen:
            if other.seed == run.seed and not configurations.difference([settings, own]):
                notes.append(f"{run.name} is left out: it repeats {other.name} with the same seed.")
                break
        else:
            chosen.append((run, own))
    if not chosen:
        names = ", ".join(run.name for run in runs)
        raise UserError(f"no run is finished ({names}): resume them with ssl-nlp fit")
    return notes, [run for run, _ in chosen]


def read_results(run: ComparedRun, suite: str) -> SuiteResult:
    """Read the results of a run on a suite.

    Raises:
        UserError: there are none, or they are broken.
    """
    try:
        found = read_suite(run.evaluation, suite)
        excesses([found.evaluators, *found.baselines.values()])  # raises errors about broken ones
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run.evaluation} is broken ({error!r}): move it away and evaluate the run again") from error


def baselines(suite: str, rows: Sequence[Row], evaluated: Mapping[Path, SuiteResult]) -> list[tuple[Row, RowResults]]:
    """Each baseline once, with its draws if it is random, and each untrained method with results of its own."""
    found: list[_Baseline] = []
    bounds = {
        (f"{suite}/{name}", metric)
        for result in evaluated.values()
        for name, one in result.evaluators.items()
        for metric in one.metrics
        if metric.endswith(BOUND)
    }
    for row in rows:
        for new in _baselines_of(suite, row, evaluated, bounds):
            for same in [
                one for one in found if one.is_same(new)
            ]:  # several, where their draws have had none in common
                found.remove(same)
                same.join(new)
                new = same
            found.append(new)
    found.sort(key=lambda one: [*BASELINES, one.name].index(one.name))
    labels = [one.label for one in found]
    return [
        # Those that learned from different texts: a label stands for one row.
        one.row(
            f"{one.label} ({', '.join(run.name for run in one.runs)})" if labels.count(one.label) > 1 else one.label
        )
        for one in found
    ]


@dataclass
class _Baseline:
    """A baseline beside one or more rows.

    Attributes:
        name: in the records.
        beside: labels of the rows.
        runs: of these rows.
        draws: one for each seed that the runs have, if it is random.
        digests: of the items, by SUITE/EVALUATOR.
    """

    name: str
    beside: list[str]
    runs: tuple[ComparedRun, ...]
    draws: list[Draw]
    digests: dict[str, str]

    @property
    def label(self) -> str:
        return BASELINES.get(self.name, f"untrained {', '.join(self.beside)}")

    def add(self, draw: Draw) -> None:
        """Add a draw, if it is a new one: earlier versions drew once for all seeds."""
        same = [n for n, one in enumerate(self.draws) if self.name not in SEEDED or agree(one, draw)]
        if same:
            self.draws[same[0]] = joined(self.draws[same[0]], draw)
        else:
            self.draws.append(draw)

    def is_same(self, other: "_Baseline") -> bool:
        """Whether two baselines agree on every metric that both have; random ones, in any draw."""
        if self.name != other.name:
            return False
        found = [agree(one, draw) for one in self.draws for draw in other.draws]
        if self.name not in SEEDED:
            return False not in found
        if True in found or self.name not in BASELINES:
            return True in found
        seeds = {run.seed for run in self.runs} & {run.seed for run in other.runs}
        return not seeds or False not in found

    def join(self, other: "_Baseline") -> None:
        """Add the same baseline beside other rows."""
        for draw in other.draws:
            self.add(draw)
        self.beside += other.beside
        self.runs += other.runs
        self.digests = other.digests | self.digests

    def row(self, label: str) -> tuple[Row, RowResults]:
        results = [part for draw in self.draws for part in draw]
        untrained = self.name not in BASELINES
        given = RowResults(
            results,
            varies=self.name in SEEDED,
            # Untrained encoders of one seed have weights in common, whatever method they belong to.
            trainings=frozenset(f"untrained, seed {run.seed}" for run in self.runs if untrained),
            tuned={key for part in results for key in part},
        )
        return row_of(label, self.runs, True, results, items=self.digests), given


def _baselines_of(
    suite: str, row: Row, evaluated: Mapping[Path, SuiteResult], bounds: Collection[tuple[str, str]]
) -> list[_Baseline]:
    """The baselines beside a row."""
    found: dict[str, _Baseline] = {}
    for run in row.runs:
        for name, several in evaluated[run.folder].baselines.items():
            if several:
                one = found.setdefault(name, _Baseline(name, [row.label], row.runs, [], {}))
                results = {key: _bounding(key, result, bounds) for key, result in placed(suite, several).items()}
                one.add([results])
                one.digests |= {key: row.items[key] for key in results if key in row.items}
    return [*found.values()]


def _bounding(key: str, result: Result, bounds: Collection[tuple[str, str]]) -> Result:
    """A result whose exact likelihood also stands in the columns of bounds, since it bounds itself.

    Args:
        key: SUITE/EVALUATOR.
        result: of a baseline.
        bounds: SUITE/EVALUATOR and metric of the columns that there are.
    """
    found = {metric: result.metrics.get(metric.removesuffix(BOUND)) for name, metric in bounds if name == key}
    return replace(result, metrics={m: v for m, v in found.items() if v is not None} | result.metrics)


def _varies(run: ComparedRun) -> bool:
    """Whether another seed would give another score: not that of a published model, nor that of counts."""
    return bool(run.config) and run.method not in COUNTED


def _columns(rows: Sequence[RowResults]) -> list[Column]:
    """The columns of every evaluator: frozen embeddings first, then prompts, language models and free generation."""
    found: dict[str, Column] = {}
    for given in rows:
        for results in given.results:
            for key, result in results.items():
                suite, name = key.split("/", 1)
                for new in columns(suite, name, result):
                    found.setdefault(new.key, new)
    return sorted(found.values(), key=lambda one: GROUPS.index(one.group))


def ordered(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Methods by their mean rank in the columns that all of them have, then baselines."""
    methods = [row for row in rows if not row.baseline]
    ranks = {row.label: 0 for row in methods}
    for one in columns:
        if one.higher_is_better is not None and all(one.key in row.scores for row in methods):
            sign = -1 if one.higher_is_better else 1
            for row in methods:
                ranks[row.label] += sum(
                    sign * other.scores[one.key].mean < sign * row.scores[one.key].mean for other in methods
                )
    return sorted(methods, key=lambda row: (ranks[row.label], row.label)) + [row for row in rows if row.baseline]


def _differences(
    rows: Sequence[Row],
    evaluated: Mapping[Path, SuiteResult],
    settings: Mapping[str, Mapping[str, str]],
) -> list[str]:
    trained = [row for row in rows if any(run.config for run in row.runs)]
    published = [row.label for row in rows if row not in trained]
    said = configurations.sentences({row.label: settings[row.label] for row in trained})
    starts = {row.label: " or ".join(dict.fromkeys(run.start for run in row.runs)) for row in trained}
    if len(set(starts.values())) > 1:
        said.append(f"The start differs: {configurations.spoken(starts)}.")
    extended = {row.label: sorted({step for run in row.runs for step in run.extended}) for row in trained}
    if len(set(map(tuple, extended.values()))) > 1:
        places = {label: f"made longer at step {', '.join(map(str, at))}" for label, at in extended.items() if at}
        said.append(f"The schedule differs: {configurations.spoken(places)}.")
    included = ", those of ancestors included," if any("ancestor_tokens" in row.cost for row in trained) else ""
    said += token_differences(trained, included)
    if unknown := [row.label for row in trained if "tokens" not in row.cost]:
        said.append(f"The tokens seen by {', '.join(unknown)} are not known.")
    if published:
        said.append(f"{', '.join(published)} was not trained here: its corpus, tokenizer, encoder and tokens differ.")
    return said + known_words(rows) + cut_texts(rows, REMEDY) + cut_prompts(rows) + item_sentences(rows, evaluated)

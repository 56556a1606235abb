"""What a comparison consists of: rows, columns, and which differences are more than chance."""

from dataclasses import dataclass, field

from ssl_nlp.comparison.compared_runs import ComparedRun


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the seeds.
        low, high: 95 % t-interval of the mean; None with one seed.
        n: how many seeds.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Verdict:
    """A difference to another row in one column, and whether it is more than chance.

    Attributes:
        difference: of the means, this row minus the other.
        low, high: 95 % interval of the difference, over test items and, with several seeds, over seeds. The intervals of
            all methods in a column hold at once (Bonferroni).
        tie: the interval contains zero: neither is called better.
        best: this row is the other.
    """

    difference: float
    low: float
    high: float
    tie: bool
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A question.

    Attributes:
        key: SUITE/EVALUATOR/METRIC, such as `docs/knn/accuracy`.
        title: for people, such as `k-NN accuracy`.
        higher_is_better: None where neither is better, such as for the effective rank; such a column has no verdicts.
        unit: of the numbers; empty for shares and correlations.
    """

    key: str
    title: str
    higher_is_better: bool | None
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """A configuration with its seeds, or a baseline.

    Attributes:
        label: the method, made unique by what differs in the configuration.
        runs: one a seed; for a baseline those whose records it was taken from.
        baseline: it is not a method that was trained.
        scores: by the key of the column, and all other metrics by keys like it; what was not answered is missing.
        ties: the difference from the best method of the column, by its key; missing where none can be computed,
            or one method alone has answered.
        alike: the labels of the methods from which this one cannot be told apart, by the key of the column: the intervals
            of their differences, of the same level as those from the best, contain zero.
        over_baseline: the difference from the best baseline of the column; for methods only. One that is a tie, or in the
            wrong direction, says that the method has not been shown to beat what needs no training.
        cost: parameters, tokens, flops, seconds, tokens_per_second, peak_memory (bytes), as far as known; for methods only.
    """

    label: str
    runs: tuple[ComparedRun, ...]
    baseline: bool
    scores: dict[str, Estimate]
    ties: dict[str, Verdict] = field(default_factory=dict)
    over_baseline: dict[str, Verdict] = field(default_factory=dict)
    cost: dict[str, Estimate] = field(default_factory=dict)
    alike: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What a table, a report or a plot shows.

    Attributes:
        suite: the name of the questions.
        protocol: their version.
        columns: the questions.
        rows: methods, best first, then baselines.
        differences: a sentence for each thing that should be equal and is not.
        configuration: flattened key -> label of a method -> value, for the keys that differ.
        notes: what else a reader must know, such as runs that were left out.
    """

    suite: str
    protocol: int
    columns: list[Column]
    rows: list[Row]
    differences: list[str]
    configuration: dict[str, dict[str, str]]
    notes: list[str] = field(default_factory=list)

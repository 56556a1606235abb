"""Types of a comparison: rows, columns, scores, and tested differences."""

from dataclasses import dataclass, field

from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.tuning import Tuning
from ssl_nlp.evaluation.excess import Excess

ALPHA = 0.05
"""Probability of a false claim in a column, or in a whole table after correction, if there is no difference."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the seeds.
        low, high: 95 % t-interval of the mean from its own seeds alone; None with one.
        n: number of seeds.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Verdict:
    """Difference from another row in one column, and whether it is more than chance.

    Attributes:
        difference: of the means, this row minus the other.
        low, high: interval of the difference over test items and seeds. All intervals of a column hold at once with
            probability 1 - ALPHA (Bonferroni), so the level of each is higher.
        tie: whether the interval contains zero, so that neither row is called better.
        best: whether this row is the one compared with.
        level: of the interval.
        corrected: p-value after Holm's correction over all columns of the table.
        seeds_up_to: the largest standard deviation between the scores of seeds with which the interval would exclude zero,
            where no method has a second seed; None if seeds were measured, or there is a tie.
    """

    difference: float
    low: float
    high: float
    tie: bool
    best: bool = False
    level: float = 1 - ALPHA
    corrected: float = 1.0
    seeds_up_to: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the difference is more than chance when all columns of the table are corrected together."""
        return not self.tie and self.corrected <= ALPHA


@dataclass(frozen=True)
class Column:
    """Primary metric of an evaluator.

    Attributes:
        key: SUITE/EVALUATOR/METRIC, such as `docs/knn/accuracy`.
        title: for people, such as `k-NN accuracy`.
        higher_is_better: None if neither direction is better, as for the effective rank; such a column has no verdicts.
        unit: of the numbers; empty for shares and correlations.
        group: columns of one group stand in one table.
    """

    key: str
    title: str
    higher_is_better: bool | None
    unit: str = ""
    group: str = "frozen embeddings"


@dataclass(frozen=True)
class Row:
    """A configuration with its seeds, or a baseline.

    Attributes:
        label: the method, made unique by what differs in the configuration.
        runs: one per seed; for a baseline, those whose records contain it.
        baseline: whether it is a baseline rather than a trained method.
        scores: by the key of the column, with all other metrics by similar keys; scores that do not exist are missing.
        ties: difference from the best method of the column, by its key; missing if no interval can be computed or only one
            method has a score.
        over_baseline: difference from the best baseline of the column, by its key; for methods only. If it is a tie or in
            the wrong direction, the method is not shown to beat the baselines.
        cost: parameters, tokens, tokens_read, flops, seconds (of processors), tokens_per_second, peak_memory (bytes) and so
            on, as far as known; for methods only.
        alike: labels of the methods that cannot be told apart from this one when all columns are corrected together, by the
            key of the column.
        poolings: how the embedding was pooled, by SUITE/EVALUATOR; the names of different seeds or items joined by `/`.
        missing: the reason why there is no number, by SUITE/EVALUATOR.
        validation: the mean of the primary metric on validation items over the seeds, by the key of the column.
        covered: the share of the items that training text covers completely, by the key of the column, where known.
        uncovered: the mean over the seeds of the primary metric on the other items, by the key of the column.
        read: the share of the characters of the texts that the encoder reads, by the key of the column, where known.
        items: the digest of the items, by SUITE/EVALUATOR, where it is recorded.
        excesses: the mean over the seeds of the losses beside their exact limits, by the key of the excess.
    """

    label: str
    runs: tuple[ComparedRun, ...]
    baseline: bool
    scores: dict[str, Estimate]
    ties: dict[str, Verdict] = field(default_factory=dict)
    over_baseline: dict[str, Verdict] = field(default_factory=dict)
    cost: dict[str, Estimate] = field(default_factory=dict)
    alike: dict[str, set[str]] = field(default_factory=dict)
    poolings: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)
    uncovered: dict[str, float] = field(default_factory=dict)
    read: dict[str, float] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    excesses: dict[str, Excess] = field(default_factory=dict)

    def pooling(self, key: str) -> str:
        """How the embedding behind a number was pooled, such as `mean`; empty if it is not known, or there is none.

        Args:
            key: SUITE/EVALUATOR/METRIC.
        """
        return self.poolings.get(key.rpartition("/")[0], "")


@dataclass(frozen=True)
class Comparison:
    """Content of a table, a report or a plot.

    Attributes:
        suite: name of the suite.
        protocol: version of the evaluation protocol; the latest, if rows differ.
        columns: one per evaluator.
        rows: methods, best first, then baselines.
        differences: one sentence for each thing that should be equal and is not.
        configuration: flattened key -> label of a method -> value, for the keys that differ.
        notes: other facts for the reader, such as runs that were left out.
        fine_tuned: whether the columns are tasks that the rows were fine-tuned on.
        tuning: the search that the settings of the rows come from.
        items: the beginning of the digest of all evaluation items, by suite or, after fine-tuning, by the name of the data.
    """

    suite: str
    protocol: int
    columns: list[Column]
    rows: list[Row]
    differences: list[str]
    configuration: dict[str, dict[str, str]]
    notes: list[str] = field(default_factory=list)
    fine_tuned: bool = False
    tuning: Tuning | None = None
    items: dict[str, str] = field(default_factory=dict)

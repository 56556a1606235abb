"""Error rates and power of the verdicts of a comparison, in simulated columns whose truth is known.

Three methods and two baselines predict the same 300 items. Each method has several seeds. One baseline does not vary
(counted words); the other (an untrained model) varies as the methods do, and has as many draws. What an item
contributes to a score comes in equal parts from the method, which all its seeds share, and from the seed. In addition,
each seed moves the whole score. Differences and deviations between seeds are in standard deviations of a score over items.

    python benchmarks/verdicts.py procedures [--columns 1000]    ways to test two methods that were considered
    python benchmarks/verdicts.py verdicts [--columns 400]       what `with_verdicts` claims in a column
    python benchmarks/verdicts.py tables [--columns 2000]        the same for tables of ten columns, corrected together

Prints the share of columns with a false claim where all methods are equal, and, where the first method is better, the share
in which it is told apart from a given other one.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from ssl_nlp.comparison import Column, Row
from ssl_nlp.comparison.statistics import ASSUMED
from ssl_nlp.comparison.types import ALPHA
from ssl_nlp.comparison.verdicts import RowResults, with_verdicts
from ssl_nlp.evaluation import Result

Array = npt.NDArray[np.float64]

METHODS, BASELINES, ITEMS, WIDTH = 3, 2, 300, 10
SEEDS = (1, 2, 3, 5)
DEVIATIONS = (0.0, 0.5, 1.0, 2.0, 3.0)
SHARED = 0.5  # of the variance over items: the same for all seeds of a method


def main() -> None:
    """Simulate one part and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    described = "number of columns for each line of the table; default: as above"
    parser.add_argument("--columns", type=int, help=described)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    arguments = parser.parse_args()
    simulate, columns = PARTS[arguments.part]
    simulate(arguments.columns or columns, arguments.seeds)


def line(name: str, shares: Sequence[float]) -> None:
    """Print one line of a table."""
    print(f"{name:<42} " + " ".join(f"{share:8.1%}" for share in shares), flush=True)


def head(title: str, names: Sequence[object]) -> None:
    """Print the head of a table."""
    print(f"\n{title}\n{'':<42} " + " ".join(f"{name!s:>8}" for name in names), flush=True)


# ------------------------------------------------------------------------------------------------------------ procedures


def procedures(columns: int, seeds: Sequence[int]) -> None:
    """Compare ways to test all pairs of three methods, on normal scores with a known variance over items."""
    for difference, unequal in ((0.0, False), (0.0, True), (6.0, False), (12.0, False)):
        said = "no difference, seeds of one method vary 3 times as much" if unequal else f"difference {difference:.0f}"
        head(f"{said}; deviation of seeds:", DEVIATIONS)
        for number in seeds:
            shares = [_shares(columns, number, deviation, difference, unequal) for deviation in DEVIATIONS]
            for name in shares[0]:
                line(f"{number} seed{'s'[: number > 1]}, {name}", [share[name] for share in shares])


def _shares(columns: int, seeds: int, deviation: float, difference: float, unequal: bool) -> dict[str, float]:
    """The share of columns with a claim (about the first method and the second, if they differ), by procedure."""
    rng = np.random.default_rng((seeds, round(10 * deviation)))
    each = deviation * (np.array([3.0] + [1.0] * (METHODS - 1)) if unequal else np.ones(METHODS))
    scores = rng.normal(size=(METHODS, 1, columns)) * math.sqrt(SHARED)
    scores = scores + rng.normal(size=(METHODS, seeds, columns)) * np.sqrt(1 - SHARED + each**2)[:, None, None]
    scores[0] += difference
    pairs = list(combinations(range(METHODS), 2))
    asked = pairs[:1] if difference else pairs
    claims = {}
    for name, test in (SINGLE if seeds == 1 else SEVERAL).items():
        p_values = [test(scores, one, other) for one, other in asked]
        claims[name] = float((np.min(p_values, axis=0) <= ALPHA / len(pairs)).mean())
    return claims


def _over_items(seeds: int) -> tuple[float, float]:
    """Variance of a difference over items, and the part of it that comes from seeds and is among their variance, too."""
    noise = (1 - SHARED) * 2 / seeds
    return 2 * SHARED + noise, noise


def _difference(scores: Array, one: int, other: int) -> Array:
    return np.abs(scores[one].mean(axis=0) - scores[other].mean(axis=0))


def _assumed(ratio: float) -> Callable[[Array, int, int], Array]:
    """One seed, of which the effect on a score is assumed to be so many times that of items."""

    def p_value(scores: Array, one: int, other: int) -> Array:
        variance = _over_items(1)[0] * (1 + ratio**2)
        return np.asarray(2 * special.ndtr(-_difference(scores, one, other) / math.sqrt(variance)))

    return p_value


def _grid(freedom: int, points: int) -> tuple[Array, Array]:
    """Values of freedom / chi-square and their probabilities."""
    low, high = np.log(stats.chi2.ppf((1e-9, 1 - 1e-9), freedom))
    logs = np.linspace(low, high, points)
    weights = stats.chi2.pdf(np.exp(logs), freedom) * np.exp(logs)
    return freedom / np.exp(logs), weights / weights.sum()


def _alone(scores: Array, one: int, other: int) -> Array:
    """Student's t for the seeds of each method alone, and items twice: the Multi-Bootstrap with t-intervals of means."""
    seeds = scores.shape[1]
    first, second = (scores[n].var(axis=0, ddof=1) / seeds for n in (one, other))
    p_value = np.zeros_like(first)
    factors, weights = _grid(seeds - 1, 41)
    for (f, v), (g, w) in product(zip(factors, weights, strict=True), repeat=2):
        variance = _over_items(seeds)[0] + first * f + second * g
        p_value += 2 * v * w * special.ndtr(-_difference(scores, one, other) / np.sqrt(variance))
    return p_value


def _pooled(scores: Array) -> tuple[Array, int]:
    """Variance of a difference over seeds, pooled over the methods, and its degrees of freedom."""
    seeds = scores.shape[1]
    return scores.var(axis=1, ddof=1).mean(axis=0) * 2 / seeds, len(scores) * (seeds - 1)


def _behrens_fisher(twice: bool) -> Callable[[Array, int, int], Array]:
    """Pooled seeds and items, each with its own distribution; the part of items that is among seeds once or twice."""

    def p_value(scores: Array, one: int, other: int) -> Array:
        items, noise = _over_items(scores.shape[1])
        variance, freedom = _pooled(scores)
        found = np.zeros_like(variance)
        for factor, weight in zip(*_grid(freedom, 101), strict=True):
            whole = items - (0 if twice else noise) + variance * factor
            found += 2 * weight * special.ndtr(-_difference(scores, one, other) / np.sqrt(whole))
        return found

    return p_value


def _satterthwaite(scores: Array, one: int, other: int) -> Array:
    """Pooled seeds and items, as Student's t with the degrees of freedom of their sum (Satterthwaite)."""
    items, noise = _over_items(scores.shape[1])
    variance, freedom = _pooled(scores)
    whole = items - noise + variance
    freedoms = freedom * np.square(whole / variance)
    return np.asarray(2 * special.stdtr(freedoms, -_difference(scores, one, other) / np.sqrt(whole)))


SINGLE = {"assumed as large as items": _assumed(1.0), f"assumed {ASSUMED:.0f} times items (chosen)": _assumed(ASSUMED)}
SEVERAL = {
    "each method alone": _alone,
    "pooled, items twice": _behrens_fisher(twice=True),
    "pooled, Satterthwaite": _satterthwaite,
    "pooled, Behrens-Fisher (chosen)": _behrens_fisher(twice=False),
}


# -------------------------------------------------------------------------------------------------------------- verdicts


def verdicts(columns: int, seeds: Sequence[int]) -> None:
    """Count the claims of `with_verdicts` in single columns."""
    names = ["methods", "†", "6", "12", "24"]
    head("seeds, their deviation: false claims, found", names)
    for number in seeds:
        for deviation in (*DEVIATIONS, *((4.0, 6.0) if number == 1 else ())):
            rng = np.random.default_rng((number, round(10 * deviation)))
            rows = [simulated(rng, 1, number, deviation, 0.0) for _ in range(columns)]
            false = [np.mean([_claims(found, kind) for found in rows]) for kind in ("ties", "over_baseline")]
            found = [_power(rng, columns // 4, number, deviation, difference) for difference in (6.0, 12.0, 24.0)]
            line(f"{number}, {deviation:g}", [*map(float, false), *found])


def tables(columns: int, seeds: Sequence[int]) -> None:
    """Count tables of ten columns with a false claim, before and after the correction, and what it costs."""
    head("seeds: tables with a false claim, found (12)", ["raw", "Holm", "† raw", "† Holm", "raw", "Holm"])
    for number in seeds:
        rng = np.random.default_rng(number)
        rows = [simulated(rng, WIDTH, number, 1.0, 0.0) for _ in range(columns // WIDTH)]
        shares = [
            float(np.mean([_claims(table, kind, corrected) for table in rows]))
            for kind, corrected in product(("ties", "over_baseline"), (False, True))
        ]
        rows = [simulated(rng, WIDTH, number, 1.0, 12.0) for _ in range(columns // WIDTH)]
        told = [verdict for table in rows for key, verdict in table[1].ties.items() if table[0].ties[key].best]
        found = [sum(not v.tie for v in told), sum(v.holds for v in told)]
        line(f"{number}", [*shares, *(n / (columns // WIDTH * WIDTH) for n in found)])


def simulated(rng: np.random.Generator, width: int, seeds: int, deviation: float, difference: float) -> list[Row]:
    """Rows of three methods, of which the first is better, and of two baselines, with verdicts in each column."""
    names = [f"task{number}" for number in range(width)]
    rows = []
    for row in range(METHODS + BASELINES):
        method, better = row < METHODS, difference * (row == 0)
        varies = row <= METHODS
        number = seeds if varies else 1
        moved = deviation * varies
        shared = rng.normal(size=(width, 1, ITEMS)) * math.sqrt(SHARED)
        own = rng.normal(size=(width, number, ITEMS)) * math.sqrt(1 - SHARED)
        items = shared + own + (rng.normal(size=(width, number, 1)) * moved + better) / math.sqrt(ITEMS)
        results = [
            {
                f"mine/{name}": Result("accuracy", {"accuracy": float(given.mean())}, {}, given)
                for name, given in zip(names, of_seed, strict=True)
            }
            for of_seed in items.swapaxes(0, 1)
        ]
        draws = [] if method else [*results[0]]
        rows.append((Row(f"{row}", (), not method, {}), RowResults(results, varies, tuned=draws)))
    columns = [Column(f"mine/{name}/accuracy", name, True) for name in names]
    return with_verdicts(columns, rows[:METHODS], rows[METHODS:])


def _claims(rows: Sequence[Row], kind: str, corrected: bool = False) -> bool:
    """Whether any method is told apart from the best method, or from the best baseline, in any column."""
    made = [verdict for row in rows[:METHODS] for verdict in getattr(row, kind).values()]
    return any(verdict.holds if corrected else not verdict.tie for verdict in made)


def _power(rng: np.random.Generator, columns: int, seeds: int, deviation: float, difference: float) -> float:
    """The share of columns in which the first method is best and the second is told apart from it."""
    found = 0
    for _ in range(columns):
        first, second, *_ = simulated(rng, 1, seeds, deviation, difference)
        [best], [verdict] = first.ties.values(), second.ties.values()
        found += best.best and not verdict.tie
    return found / columns


PARTS = {"procedures": (procedures, 1000), "verdicts": (verdicts, 400), "tables": (tables, 2000)}


if __name__ == "__main__":
    main()

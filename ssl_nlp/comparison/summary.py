"""Summary of a comparison in a few sentences, each backed by a test.

"Best" and "beats" mean that the difference is more than chance when all columns are corrected together (`Verdict.holds`),
because a sentence speaks of several; "tied" and "cannot be told apart" mean that it is not. Methods whose difference could
not be tested are not ranked.
"""

from collections.abc import Sequence
from typing import TypeVar

from ssl_nlp.comparison.columns import EXCESS, LIKELIHOOD
from ssl_nlp.comparison.costs import COSTS, equal, gaps
from ssl_nlp.comparison.items import without_items
from ssl_nlp.comparison.types import Column, Comparison, Row, Verdict
from ssl_nlp.comparison.verdicts import beats

T = TypeVar("T")

MOST_NAMES = 4  # spelled out in a list; the rest are counted
MOST_GROUPS = 3  # of methods spelled out in a sentence; the table shows all
WORD_COUNTS = "TF-IDF"


def summarise(comparison: Comparison) -> list[str]:
    """Write sentences on the best method, ties between methods, baselines, missing scores, and costs."""
    methods = [row for row in comparison.rows if not row.baseline]
    columns = [column for column in comparison.columns if column.higher_is_better is not None]
    return [
        *_best_methods(methods, columns),
        *_baselines(comparison.rows, columns),
        *_missing_scores(methods, columns),
        *_costs(methods),
    ]


def _best_methods(methods: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    if len(methods) == 1:
        return [f"{methods[0].label} is the only method: there is no other to compare it with."]
    contested = [column for column in columns if sum(column.key in row.scores for row in methods) > 1]
    if not contested:
        return ["No method is best: no score can be compared between methods."]
    scores = _Scores(contested, "score" if len(contested) == len(columns) else "comparable score")
    won: dict[str, list[Column]] = {}
    tied: dict[tuple[str, ...], list[Column]] = {}  # the leader and those tied with it
    untested: list[Column] = []
    for column in contested:
        scored = [row for row in methods if column.key in row.scores]
        if not all(column.key in row.ties for row in scored):
            untested.append(column)
            continue
        [leader] = [row.label for row in scored if row.ties[column.key].best]
        equals = [row.label for row in scored if not row.ties[column.key].holds and row.label != leader]
        if equals:
            tied.setdefault((leader, *equals), []).append(column)
        else:
            won.setdefault(leader, []).append(column)
    groups = _alike(methods, contested)
    if groups and len(groups[0]) == len(methods):
        return [f"{_list(groups[0])} cannot be told apart{scores.on_any}."]
    everywhere = next((set(names) for names, where in tied.items() if len(where) == len(contested)), set())
    groups = [group for group in groups if not everywhere.issuperset(group)]
    first, rest = _split(groups, MOST_GROUPS)
    return [
        *_winners(won, scores),
        *_ties(tied, scores),
        *_untested(untested, scores),
        *(f"{_list(group)} cannot be told apart{scores.on_any}." for group in first),
        *([f"{len(rest)} more groups of methods cannot be told apart{scores.on_any}."] if rest else []),
    ]


class _Scores:
    """Names for subsets of some columns."""

    def __init__(self, columns: Sequence[Column], noun: str) -> None:
        self.columns = columns
        self.noun = noun

    @property
    def on_any(self) -> str:
        return " on any score" if len(self.columns) > 1 else ""

    def named(self, part: Sequence[Column]) -> str:
        """Name a subset: `all 6 scores`, one or two titles, or `4 of 6 scores`."""
        if len(part) == len(self.columns) > 2:
            return f"all {len(part)} {self.noun}s"
        if len(part) <= 2:
            return _list([column.title for column in part])
        return f"{len(part)} of {len(self.columns)} {self.noun}s"


def _winners(won: dict[str, list[Column]], scores: _Scores) -> list[str]:
    first, rest = _split(sorted(won.items(), key=lambda item: -len(item[1])), MOST_GROUPS)
    named = [f"{name} is best on {scores.named(where)}" for name, where in first]
    if rest:
        where = [column for _, columns in rest for column in columns]
        named.append(f"{len(rest)} more methods are best on {scores.named(where)} between them")
    return [f"{'; '.join(named)}."] if named else []


def _ties(tied: dict[tuple[str, ...], list[Column]], scores: _Scores) -> list[str]:
    if len(tied) > MOST_GROUPS - 1:
        where = [column for columns in tied.values() for column in columns]
        return [f"On {scores.named(where)} no single method is best: whichever leads is tied with others."]
    return [
        f"On {scores.named(where)} no single method is best: {leader} leads, but is tied with {_list(equals)}."
        for (leader, *equals), where in tied.items()
    ]


def _untested(columns: Sequence[Column], scores: _Scores) -> list[str]:
    return [f"On {scores.named(columns)} no method is best: not every difference could be tested."] if columns else []


def _alike(methods: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """Groups of methods, largest first, of which no two can be told apart in any column that both have."""
    rows = {row.label: row for row in methods}

    def tied(one: str, other: str) -> bool:
        common = [c.key for c in columns if c.key in rows[one].scores and c.key in rows[other].scores]
        return bool(common) and all(other in rows[one].alike.get(key, ()) for key in common)

    names = list(rows)
    groups: list[list[str]] = []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            if not tied(one, other) or any({one, other} <= set(group) for group in groups):
                continue
            group = [one, other]
            for name in names:
                if name not in group and all(tied(name, member) for member in group):
                    group.append(name)
            groups.append(sorted(group, key=names.index))
    return sorted(groups, key=len, reverse=True)


def _baselines(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    methods, baselines = [row for row in rows if not row.baseline], [row for row in rows if row.baseline]
    tested = [column for column in columns if any(column.key in row.over_baseline for row in methods)]
    if not tested:
        return ["No method could be tested against a baseline."] if baselines else []
    scores = _Scores(tested, "score")
    beaten = {
        row.label: [c for c in tested if c.key in row.over_baseline and _shown_to_beat(c, row.over_baseline[c.key])]
        for row in methods
        if row.over_baseline
    }
    unbeaten = [column for column in tested if not any(column in where for where in beaten.values())]
    said = []
    if len(unbeaten) < len(tested):
        said.append(_winners_over(_best_baseline(baselines, tested), beaten, scores))
    if unbeaten:
        over = [row.over_baseline.get(c.key) for c in unbeaten for row in methods if c.key in row.scores]
        verb = "beats" if all(verdict is not None and verdict.holds for verdict in over) else "is shown to beat"
        on = scores.on_any if len(unbeaten) == len(tested) else f" on {scores.named(unbeaten)}"
        said.append(f"Nothing {verb} {_best_baseline(baselines, unbeaten)}{on}.")
    return said


def _shown_to_beat(column: Column, verdict: Verdict) -> bool:
    return verdict.holds and beats(column, verdict)


def _winners_over(baseline: str, beaten: dict[str, list[Column]], scores: _Scores) -> str:
    groups: dict[tuple[str, ...], tuple[list[str], list[Column]]] = {}
    for name, where in beaten.items():
        if where:
            groups.setdefault(tuple(column.key for column in where), ([], where))[0].append(name)
    first, rest = _split(sorted(groups.values(), key=lambda group: -len(group[1])), MOST_GROUPS)
    parts = [
        f"{_list(names)} {'beats' if len(names) == 1 else 'beat'} {'it' if number else baseline} on {scores.named(where)}"
        for number, (names, where) in enumerate(first)
    ]
    if rest:
        parts.append(f"{sum(len(names) for names, _ in rest)} more methods beat it on some of them")
    if none := [name for name, where in beaten.items() if not where]:
        parts.append(f"{_list(none)} {'is' if len(none) == 1 else 'are'} not shown to beat it{scores.on_any}")
    return f"{'; '.join(parts)}."


def _best_baseline(baselines: Sequence[Row], columns: Sequence[Column]) -> str:
    """Name the best baseline of each column, if it is the same in all."""
    names = set()
    for column in columns:
        scores = {row.label: row.scores[column.key].mean for row in baselines if column.key in row.scores}
        names.add((max if column.higher_is_better else min)(scores, key=lambda name: scores[name]))
    if names == {WORD_COUNTS}:
        return f"counting words ({WORD_COUNTS})"
    return f"the best baseline ({names.pop()})" if len(names) == 1 else "the best baseline"


def _missing_scores(methods: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Name methods without a score that others have, except likelihoods, of which few methods have all kinds.

    A score on other items, or after training on other text, counts, too.
    """
    language = (LIKELIHOOD, EXCESS)
    frozen = [c for c in columns if c.unit not in language and any(c.key in r.scores for r in methods)]
    missing: dict[tuple[Column, ...], list[str]] = {}
    for row in methods:
        measured = set(map(_without_data, row.scores))
        if without := tuple(column for column in frozen if _without_data(column.key) not in measured):
            missing.setdefault(without, []).append(row.label)
    if len(missing) > MOST_GROUPS:
        return [f"{sum(map(len, missing.values()))} methods lack some of the scores."]
    return [
        f"{_list(names)} {'has' if len(names) == 1 else 'have'} no {_list([column.title for column in without], 'or')}."
        for without, names in missing.items()
    ]


def _without_data(key: str) -> str:
    """The key of a column without its items and its text."""
    place, _, metric = key.rpartition("/")
    return f"{without_items(place)}/{metric}"


def _costs(rows: Sequence[Row]) -> list[str]:
    """Which costs were equal, and by how much the others were not."""
    names = [COSTS[key].name for key in equal(rows)]
    same = _list(names) if names else ""
    pairs: dict[tuple[str, str], list[str]] = {}
    for gap in gaps(rows):
        pairs.setdefault((gap.most.label, gap.least.label), []).append(f"{gap.times} times the {COSTS[gap.cost].name}")
    parts = [f"{most} used {_list(times)} of {least}" for (most, least), times in pairs.items()]
    if not parts:
        return [f"Training was equal in {same}."] if same else []
    return [f"Training was {f'equal in {same} alone' if same else 'not equal'}: {'; '.join(parts)}."]


def _split(things: Sequence[T], most: int) -> tuple[Sequence[T], Sequence[T]]:
    """Split off what a sentence has no room for: nothing, or at least two."""
    return (things, []) if len(things) <= most + 1 else (things[:most], things[most:])


def _list(names: Sequence[str], last: str = "and") -> str:
    """Join names as in `A, B and C`; names beyond the first few are counted."""
    first, rest = _split(names, MOST_NAMES)
    shown = [*first, *([f"{len(rest)} more"] if rest else [])]
    return f" {last} ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))

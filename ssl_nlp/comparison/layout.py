"""Room for text in plots."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from matplotlib.figure import Figure

EDGE = 0.015  # margin, as a share of the width, because a browser's letters are wider than those measured


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Keep matplotlib from warning about missing glyphs when it measures text: the browser's fonts have them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from ", UserWarning)
        yield


def make_room(figure: Figure) -> Figure:
    """Move the left edge of a figure's only axes to the right until its labels fit."""
    [axes] = figure.axes
    box = axes.get_tightbbox()
    inside = 0.0 if box is None else box.x0 / figure.bbox.width
    if inside < EDGE:
        figure.subplots_adjust(left=figure.subplotpars.left + EDGE - inside)
    return figure


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move increasing positions apart, as little as possible, until each is `gap` above the one before."""
    groups: list[list[float]] = []  # each: sum of the preferred starts, number of positions
    for number, place in enumerate(places):
        groups.append([place - number * gap, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    starts = [total / count for total, count in groups for _ in range(int(count))]
    return [start + number * gap for number, start in enumerate(starts)]

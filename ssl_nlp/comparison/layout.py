"""Room for text in plots."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from matplotlib.figure import Figure

EDGE = 0.015  # of the width: the letters of a browser are higher than those that were measured


@contextmanager
def glyphs_are_the_browsers() -> Iterator[None]:
    """Measure text without matplotlib's warnings of glyphs that its font lacks.

    In a page, text is text: the browser draws it, in a font that has the glyph.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from ", UserWarning)
        yield


def make_room(figure: Figure) -> Figure:
    """Move the left side of the only axes of a figure in, as far as its labels would leave the figure."""
    [axes] = figure.axes
    box = axes.get_tightbbox()
    inside = 0.0 if box is None else box.x0 / figure.bbox.width
    if inside < EDGE:
        figure.subplots_adjust(left=figure.subplotpars.left + EDGE - inside)
    return figure


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Rising places moved apart by as little as it takes for each to be `gap` above the one before."""
    groups: list[list[float]] = []  # each: sum of wanted starts, how many
    for number, place in enumerate(places):
        groups.append([place - number * gap, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    starts = [total / count for total, count in groups for _ in range(int(count))]
    return [start + number * gap for number, start in enumerate(starts)]

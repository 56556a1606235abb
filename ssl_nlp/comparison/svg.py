"""Figures as SVG that stands in an HTML page."""

import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

from ssl_nlp.comparison.layout import glyphs_are_the_browsers
from ssl_nlp.comparison.theme import with_variables


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """A figure as an `<svg>` element: text stays text, and font, width and colours are those of the page.

    Args:
        figure: what to draw.
        name: unique in the page, for what is drawn several times is referred to by it.
        description: for those who do not see it.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), glyphs_are_the_browsers():
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="class-(\d+)"', r'<g class="class-\1"', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to groups, and their ids are those of every figure
    svg = re.sub(r" ?font-family: [^;\"]*;?| transform=\"rotate\(-0 [^\"]*\"", "", svg)
    svg = with_variables(svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r' (?:width|height|version)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{html.escape(description)}">{rest}'.strip()

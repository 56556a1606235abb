"""Figures as SVG inside an HTML page."""

import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

from ssl_nlp.comparison.layout import without_glyph_warnings
from ssl_nlp.comparison.theme import with_variables


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """Turn a figure into an `<svg>` element: text stays text, and the page sets font, width and colours.

    Args:
        figure: to draw.
        name: unique in the page; references inside the element use it.
        description: for people who cannot see it.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), without_glyph_warnings():
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="class-(\d+)"', r'<g class="class-\1"', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the ids of groups repeat in every figure, and nothing refers to them
    svg = re.sub(r" ?font-family: [^;\"]*;?| transform=\"rotate\(-0 [^\"]*\"", "", svg)
    svg = with_variables(svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r' (?:width|height|version)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{html.escape(description)}">{rest}'.strip()

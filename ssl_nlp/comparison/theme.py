"""Light and dark colours of the report. Plots are drawn in light colours, which become CSS variables in the page."""

import re
from collections.abc import Mapping

COLOURS: Mapping[str, tuple[str, str]] = {
    "ink": ("#1d1d1b", "#ecece7"),
    "soft": ("#5f5f5b", "#a3a39c"),  # secondary text
    "paper": ("#ffffff", "#161615"),
    "rule": ("#dcdcd6", "#3a3a36"),
    "row": ("#f0f0ec", "#262624"),  # lines between the rows of a table
    "amber": ("#a85605", "#e8a04c"),
    "amber-paper": ("#fdf6ec", "#2a2114"),
    "axis": ("#999999", "#6d6d68"),
    "grid": ("#ececec", "#2c2c2a"),
    "baseline": ("#8c8c8c", "#8a8a84"),
    "faint": ("#d9d9d9", "#4a4a46"),  # points of classes without a colour of their own
    "colour-0": ("#0072b2", "#2f7fd0"),
    "colour-1": ("#d55e00", "#e8662a"),
    "colour-2": ("#009e73", "#12a67c"),
    "colour-3": ("#cc79a7", "#dc9ac4"),
    "colour-4": ("#e69f00", "#f0c040"),
    "colour-5": ("#56b4e9", "#9adcff"),
    "colour-6": ("#882255", "#b03a78"),
    "colour-7": ("#222222", "#f4f4f0"),
}
"""By name of the CSS variable. The light `colour-N` are Okabe & Ito's, with wine instead of yellow. In both modes they can
be told apart with any kind of colour vision."""
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
PALETTE = tuple(light for name, light in LIGHT.items() if name.startswith("colour-"))
_VARIABLES = {light: f"var(--{name})" for name, light in LIGHT.items()}


def variables(mode: int) -> str:
    """CSS declarations of all variables.

    Args:
        mode: 0 for light, 1 for dark.
    """
    return " ".join(f"--{name}: {modes[mode]};" for name, modes in COLOURS.items())


def with_variables(text: str) -> str:
    """Replace each light colour in a text by its variable.

    >>> with_variables("fill: #0072b2")
    'fill: var(--colour-0)'
    """
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found.group(), found.group()), text)

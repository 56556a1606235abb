"""Numbers and labels formatted for people."""

import math

from rich.cells import cell_len, set_cell_size

from ssl_nlp.comparison.types import Estimate

SCALES = (
    (1.0, "", ""),
    (1e3, "k", "thousands"),
    (1e6, "M", "millions"),
    (1e9, "G", "billions"),
    (1e12, "T", "trillions"),
    (1e15, "P", "10¹⁵"),
    (1e18, "E", "10¹⁸"),
    (1e21, "Z", "10²¹"),
)


def truncate(text: str, longest: int) -> str:
    """Shorten a label to a number of terminal columns, of which a Chinese character takes two.

    The middle is left out, because labels of one method differ at the end.

    >>> truncate("Autoencoder latent=16", 15)
    'Autoenc…tent=16'
    """
    if cell_len(text) <= longest:
        return text
    end = (longest - 1) // 2
    start = set_cell_size(text, longest - 1 - end).rstrip()
    return f"{start}…{set_cell_size(text[::-1], end).rstrip()[::-1]}"


def format_score(score: Estimate) -> str:
    """Format a score, with half of its interval if it has one."""
    half = "" if score.low is None or score.high is None else f" ± {format_number((score.high - score.low) / 2)}"
    return format_number(score.mean) + half


def format_number(value: float) -> str:
    """Format a number with three decimals below 10, and one or none above."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def format_level(level: float) -> str:
    """Format the level of an interval, with two digits of what is missing from 100 %.

    >>> format_level(0.95), format_level(1 - 0.05 / 3), format_level(1 - 0.05 / 190)
    ('95 %', '98.3 %', '99.974 %')
    """
    decimals = max(1 - math.floor(math.log10(100 * (1 - level)) + 1e-9), 0)
    return f"{100 * level:.{decimals}f}".rstrip("0").rstrip(".") + " %"


def format_quantity(value: float) -> str:
    """Format a large number with three digits and the prefix of its unit.

    >>> format_quantity(4_234_063_642_624)
    '4.23 T'
    """
    scale, prefix, _ = scale_of(value)
    return f"{f'{value / scale:#.3g}'.rstrip('.')} {prefix}".strip()


def scale_of(limit: float) -> tuple[float, str, str]:
    """Power of a thousand below `limit`, with its prefix and its word."""
    power = min(max(int(math.log10(max(abs(limit), 1.0)) // 3), 0), len(SCALES) - 1)
    return SCALES[power]

"""The cost of training a method."""

from collections.abc import Mapping, Sequence
from typing import Any

TOKENS, RATE, FLOPS, MEMORY = "train/tokens", "train/tokens_per_second", "train/flops", "train/peak_memory"
"""Names under which a training logs its cost."""


def cost(
    parameters: int, trained: int, rows: Sequence[Mapping[str, float]], ancestry: Sequence[Mapping[str, Any]] = ()
) -> dict[str, float]:
    """Parameters and, as far as they were logged, tokens, compute, time and memory.

    What the ancestors saw and computed is counted, too, as far as it is known.

    Args:
        parameters: their number in the method.
        trained: the number of those that are trained.
        rows: the numbers in `metrics.csv`.
        ancestry: the runs and published models that the weights come from, with their tokens and flops, or None for what is
            not known.

    Returns:
        parameters and trained_parameters; tokens and flops, and the ancestors' share of them: ancestor_tokens and
        ancestor_flops; of this training alone, its seconds up to the last logged rate, without validation and checkpoints,
        tokens_per_second in that time, and peak_memory in bytes.
    """
    numbers = {"parameters": float(parameters), "trained_parameters": float(trained)}
    seen, seconds = 0.0, 0.0
    for row in rows:  # validations log tokens without a rate; a rate is that of the tokens since the rate before
        if row.get(TOKENS) and row.get(RATE):
            seconds += (row[TOKENS] - seen) / row[RATE]
            seen = row[TOKENS]
    if seen:
        numbers |= {"seconds": seconds, "tokens_per_second": seen / seconds}
    for name, column in (("tokens", TOKENS), ("flops", FLOPS), ("peak_memory", MEMORY)):
        if values := [row[column] for row in rows if row.get(column)]:
            numbers[name] = max(values)
    for name in ("tokens", "flops"):
        if name in numbers and (known := [one[name] for one in ancestry if one[name] is not None]):
            numbers[f"ancestor_{name}"] = sum(known)
            numbers[name] += sum(known)
    return numbers

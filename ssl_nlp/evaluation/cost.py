"""The cost of training a method."""

from collections.abc import Mapping, Sequence
from typing import Any

TOKENS, RATE, FLOPS, MEMORY = "train/tokens", "train/tokens_per_second", "train/flops", "train/peak_memory"
SECONDS = "train/processor_seconds"
"""Names under which a training logs its cost."""


def cost(
    parameters: int, trained: int, rows: Sequence[Mapping[str, float]], ancestry: Sequence[Mapping[str, Any]] = ()
) -> dict[str, float]:
    """Parameters and, as far as they were logged, tokens, compute, time and memory.

    Tokens and compute of the ancestors are included, as far as they are known.

    Args:
        parameters: their number in the method.
        trained: the number of those that are trained.
        rows: the numbers in `metrics.csv`.
        ancestry: the runs and published models that the weights come from, with their tokens and flops, or None for what is
            not known.

    Returns:
        parameters and trained_parameters; tokens and flops, and the ancestors' share of them: ancestor_tokens and
        ancestor_flops; of this training alone, without validation and checkpoints, its seconds and tokens_per_second,
        and peak_memory in bytes. Seconds are those of processors, summed over all, so that they do not depend on what
        else a machine does; where they were not logged, they are those of the clock up to the last logged rate.
    """
    numbers = {"parameters": float(parameters), "trained_parameters": float(trained)}
    seen, clock = 0.0, 0.0
    for row in rows:  # validations log tokens without a rate; a rate is that of the tokens since the rate before
        if row.get(TOKENS) and row.get(RATE):
            clock += (row[TOKENS] - seen) / row[RATE]
            seen = row[TOKENS]
    if seen:
        numbers |= {"seconds": clock, "tokens_per_second": seen / clock}
    for name, column in (("tokens", TOKENS), ("flops", FLOPS), ("seconds", SECONDS), ("peak_memory", MEMORY)):
        if values := [row[column] for row in rows if row.get(column)]:
            numbers[name] = max(values)
    for name in ("tokens", "flops"):
        if name in numbers and (known := [one[name] for one in ancestry if one[name] is not None]):
            numbers[f"ancestor_{name}"] = sum(known)
            numbers[name] += sum(known)
    return numbers

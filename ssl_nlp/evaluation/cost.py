"""The cost of training a method."""

from collections.abc import Mapping, Sequence

from ssl_nlp.runs.ancestry import SPENT, Ancestor, spent_by

TOKENS, RATE, FLOPS, MEMORY = "train/tokens", "train/tokens_per_second", "train/flops", "train/peak_memory"
SECONDS, READ = "train/processor_seconds", "train/tokens_read"
"""Names under which a training logs its cost."""
COLUMNS: dict[str, str] = {"tokens": TOKENS, "tokens_read": READ, "flops": FLOPS, "seconds": SECONDS}
"""Those of what it has spent so far, by the kind of cost."""


def cost(
    parameters: int, trained: int, rows: Sequence[Mapping[str, float]], ancestry: Sequence[Ancestor] = ()
) -> dict[str, float]:
    """Parameters and, as far as they were logged, tokens, compute, time and memory.

    Tokens, compute and seconds of the ancestors are included, as far as they are known. Earlier versions did
    not count how often the tokens of an ancestor were read: there each counts once.

    Args:
        parameters: their number in the method.
        trained: the number of those that are trained.
        rows: the numbers in `metrics.csv`.
        ancestry: the runs and published models that the weights come from.

    Returns:
        parameters and trained_parameters; tokens, tokens_read (each counted as often as a network reads it), flops and
        seconds, without validation and checkpoints; the ancestors' share of these four as ancestor_tokens and so on; and of
        this training alone, tokens_per_second and peak_memory in bytes. Seconds are processor time, summed over processors,
        so they do not depend on what else a machine does; where that was not logged, they are wall-clock time up to the
        last logged rate.
    """
    numbers = {"parameters": float(parameters), "trained_parameters": float(trained)}
    seen, clock = 0.0, 0.0
    for row in rows:  # validations log tokens without a rate; a rate is that of the tokens since the rate before
        if row.get(TOKENS) and row.get(RATE):
            clock += (row[TOKENS] - seen) / row[RATE]
            seen = row[TOKENS]
    if seen:
        numbers |= {"seconds": clock, "tokens_per_second": seen / clock}
    for name, column in (*COLUMNS.items(), ("peak_memory", MEMORY)):
        if values := [row[column] for row in rows if row.get(column)]:
            numbers[name] = max(values)
    for name in SPENT:
        spent = [spent_by(one, name) for one in ancestry]
        if name in numbers and (known := [number for number in spent if number is not None]):
            numbers[f"ancestor_{name}"] = sum(known)
            numbers[name] += sum(known)
    return numbers

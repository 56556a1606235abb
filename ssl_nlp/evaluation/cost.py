"""What a method cost to train."""

from collections.abc import Mapping, Sequence


def cost(parameters: int, rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Parameters and, as far as they were logged, what the training took.

    Args:
        parameters: of the method.
        rows: those of `metrics.csv`.

    Returns:
        parameters; tokens and flops seen; seconds of training (validation and checkpoints not counted); tokens_per_second,
        the former by the latter; peak_memory in bytes.
    """
    numbers = {"parameters": float(parameters)}
    logged = [row for row in rows if row.get("train/tokens") and row.get("train/tokens_per_second")]
    if not logged:
        return numbers
    seen, seconds = 0.0, 0.0
    for row in logged:  # the rate of a row is that of the tokens since the row before
        seconds += (float(row["train/tokens"]) - seen) / float(row["train/tokens_per_second"])
        seen = float(row["train/tokens"])
    numbers |= {"tokens": seen, "seconds": seconds, "tokens_per_second": seen / seconds}
    for name, column in (("flops", "train/flops"), ("peak_memory", "train/peak_memory")):
        if values := [float(row[column]) for row in logged if row.get(column)]:
            numbers[name] = max(values)
    return numbers

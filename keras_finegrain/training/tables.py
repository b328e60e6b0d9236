"""Numbers over several seeds as text."""

from collections.abc import Sequence

import numpy as np

from keras_finegrain._base.optional import import_optional


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and half the width of its 95 % t-interval.

    Args:
        values: One number a seed.

    Returns:
        The mean, and None for the interval of a single seed.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    stats = import_optional("scipy.stats", "mean_and_interval")
    quantile = stats.t.ppf(0.975, len(values) - 1)
    deviation = np.std(values, ddof=1)
    return mean, float(quantile * deviation / np.sqrt(len(values)))


def cell(values: Sequence[float], places: int, sign: str = "-") -> str:
    """Mean and interval as text; the sign "+" is always written."""
    mean, interval = mean_and_interval(values)
    text = f"{mean:{sign}.{places}f}"
    return text if interval is None else f"{text} ± {interval:.{places}f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table with numbers to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    ruler = "|---|" + "---:|" * (len(rows[0]) - 1)
    return "\n".join([lines[0], ruler, *lines[1:]]) + "\n"


def plain(rows: Sequence[Sequence[str]]) -> str:
    """The same table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        )
        for row in rows
    )

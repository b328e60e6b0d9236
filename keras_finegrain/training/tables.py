"""Metrics over several seeds as text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_finegrain._base.optional import import_optional

# The metrics of one run by name.
Metrics = Mapping[str, float]


class Column(NamedTuple):
    """How a table shows a metric: times `factor`, with `places` decimals."""

    metric: str
    heading: str
    factor: float = 100
    places: int = 1


COLUMNS = (
    Column("top_1", "top-1 %"),
    Column("top_5", "top-5 %"),
    Column("identify", "identify %"),
    *(Column(f"recall_at_{k}", f"Recall@{k} %") for k in (1, 2, 4, 8)),
    Column("nmi", "NMI %"),
    Column("auroc", "AUROC %"),
    Column("fpr_at_95", "FPR95 %"),
    Column("oscr", "OSCR %"),
    Column("intra_inter_distance_ratio", "intra/inter", 1, 3),
    Column("distinct_centers", "distinct centers", 1, 1),
)


def shared_columns(runs: Iterable[Metrics]) -> list[Column]:
    """Those of `COLUMNS` whose metric every run has."""
    shared = set.intersection(*map(set, runs))
    return [column for column in COLUMNS if column.metric in shared]


def mean_cells(columns: Iterable[Column], runs: Sequence[Metrics]) -> list[str]:
    """The mean of each column over runs that differ in the seed alone."""
    return [
        cell([factor * run[metric] for run in runs], places)
        for metric, _, factor, places in columns
    ]


def difference_cells(
    columns: Iterable[Column], pairs: Sequence[tuple[Metrics, Metrics]]
) -> list[str]:
    """The mean of each column's difference over pairs with the same seed."""
    return [
        cell(
            [factor * (run[metric] - base[metric]) for run, base in pairs],
            places,
            sign="+",
        )
        for metric, _, factor, places in columns
    ]


def cell(values: Sequence[float], places: int, sign: str = "-") -> str:
    """Mean and interval as text; the sign "+" is always written."""
    mean, interval = mean_and_interval(values)
    text = f"{mean:{sign}.{places}f}"
    return text if interval is None else f"{text} ± {interval:.{places}f}"


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


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for a page, with numbers to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    ruler = "|---|" + "---:|" * (len(rows[0]) - 1)
    return "\n".join([lines[0], ruler, *lines[1:]]) + "\n"


def plain(rows: Sequence[Sequence[str]]) -> str:
    """The same table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = map(str.rjust, others, widths[1:])
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)

"""What the examples leave: tables, versions, files that are whole."""

import os
import pathlib
import platform
import tempfile
from importlib import metadata
from typing import Any

import numpy as np

from birds_lib.errors import RunError

_PACKAGES = (
    "keras-finegrain",
    "keras",
    "tensorflow",
    "tensorflow-datasets",
    "jax",
    "torch",
    "numpy",
)


def writable_folder(
    path: str, may_hold_results: bool, option: str
) -> pathlib.Path:
    """Makes the folder for the results.

    Args:
        path: The folder.
        may_hold_results: Whether those of an earlier run may be there.
        option: What allows that, for the message.

    Raises:
        RunError: If it cannot be written to, or holds an earlier run.
    """
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"--output {path}: cannot be written to ({error.strerror})"
        ) from error
    if (folder / "results.json").exists() and not may_hold_results:
        raise RunError(
            f"--output {path}: holds the results of an earlier run; choose "
            f"another folder or pass {option}"
        )
    return folder


def mean_and_interval(values: list[float]) -> tuple[float, float | None]:
    """The mean and half the width of its 95 % t-interval.

    Args:
        values: One number a seed.

    Returns:
        The mean, and None for the interval of a single seed.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    from scipy import stats

    quantile = stats.t.ppf(0.975, len(values) - 1)
    deviation = np.std(values, ddof=1)
    return mean, float(quantile * deviation / np.sqrt(len(values)))


def cell(values: list[float], places: int, sign: str = "-") -> str:
    """Mean and interval as text; the sign "+" is always written."""
    mean, interval = mean_and_interval(values)
    text = f"{mean:{sign}.{places}f}"
    return text if interval is None else f"{text} ± {interval:.{places}f}"


def markdown(rows: list[list[str]]) -> str:
    """A table with numbers to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    ruler = "|---|" + "---:|" * (len(rows[0]) - 1)
    return "\n".join([lines[0], ruler, *lines[1:]]) + "\n"


def plain(rows: list[list[str]]) -> str:
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


def versions() -> dict[str, Any]:
    """The versions of what a run depends on, and its backend."""
    import keras

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "cpu_count": os.cpu_count(),
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a file at once: a run stopped here keeps the old one."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)

"""Rows of calls and what is due, and the judge of both.

A row is a malformed or extreme call. Due is an error of this package, which
names what was called, the argument, and sometimes more; or a right value. A
row that is known to be wrong carries the reason, and fails as soon as it is
right, so that the reason goes.
"""

import dataclasses
import pathlib
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

import keras_finegrain

PACKAGE = pathlib.Path(keras_finegrain.__file__).parent


class Error:
    """An error of ours, whose text holds each of some words.

    Args:
        *words: Parts of the text, in any case; one that is a tuple stands for
            any of its parts.
    """

    def __init__(self, *words: str | tuple[str, ...]) -> None:
        self.words = words

    def fault(self, row: "Row") -> str | None:
        """What is wrong about a row, or None."""
        try:
            value = row.call()
        except (ValueError, TypeError, OSError) as error:
            return self._fault_of(error)
        except Exception as error:
            return f"a {type(error).__name__}: {str(error)[:150]!r}"
        return f"no error, but {_short(value)}"

    def _fault_of(self, error: Exception) -> str | None:
        frames = traceback.extract_tb(error.__traceback__)
        last = pathlib.Path(frames[-1].filename)
        text = str(error)
        # (Keras says which shape a layer was built for, and which came.)
        is_ours = last.is_relative_to(PACKAGE) or last.name == "input_spec.py"
        if not is_ours or "traceback" in text.lower():
            return (
                f"a {type(error).__name__} of {last.name}:{frames[-1].lineno}: "
                f"{text[:150]!r}"
            )
        for words in self.words:
            options = (words,) if isinstance(words, str) else words
            if not any(option.lower() in text.lower() for option in options):
                return f"{words!r} is not in {text[:250]!r}"
        return None


class Value:
    """A right value: equal to another within a bound, or passing a test.

    Args:
        expected: A number or an array, or a function that says whether the
            value is right.
        tolerance: Relative and absolute.
    """

    def __init__(self, expected: Any, tolerance: float = 1e-5) -> None:
        self.expected, self.tolerance = expected, tolerance

    def fault(self, row: "Row") -> str | None:
        """What is wrong about a row, or None."""
        try:
            value = row.call()
        except Exception as error:
            return f"a {type(error).__name__}: {str(error)[:250]!r}"
        if callable(self.expected):
            return None if self.expected(value) else f"it gives {_short(value)}"
        value = np.asarray(keras.ops.convert_to_numpy(value), "float64")
        expected = np.asarray(self.expected, "float64")
        if value.shape == expected.shape and np.allclose(
            value,
            expected,
            rtol=self.tolerance,
            atol=self.tolerance,
            equal_nan=True,
        ):
            return None
        return f"it gives {_short(value)} for {_short(expected)}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A call and what is due.

    Attributes:
        id: What the row is, in words; unique in its table.
        call: The call.
        due: `Error` or `Value`.
        known: Why the row is wrong today, or None.
    """

    id: str
    call: Callable[[], Any]
    due: Error | Value
    known: str | None = None


def check(rows: Iterable[Row], known: dict[str, str] | None = None) -> None:
    """Fails with the list of all rows that are not as is due.

    Args:
        rows: The table.
        known: Reasons by pattern of the id, for rows that are wrong today.
    """
    known = known or {}
    filtering = keras.config.is_traceback_filtering_enabled()
    # (Filtered errors end in a frame of Keras.)
    keras.config.disable_traceback_filtering()
    wrong = []
    try:
        for row in rows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fault = row.due.fault(row)
            reason = row.known or next(
                (why for what, why in known.items() if re.search(what, row.id)),
                None,
            )
            if reason is None and fault is not None:
                wrong.append(f"{row.id}: {fault}")
            elif reason is not None and fault is None:
                wrong.append(f"{row.id}: is right now, but known as: {reason}")
    finally:
        if filtering:
            keras.config.enable_traceback_filtering()
    assert not wrong, f"{len(wrong)} rows:\n" + "\n".join(wrong)


def unique(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows, if no two have the same id."""
    ids = [row.id for row in rows]
    assert len(ids) == len(set(ids)), sorted(
        {i for i in ids if ids.count(i) > 1}
    )
    return rows


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:120]

"""Checks of arguments: each error names argument, rule, value and remedy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def positive_integer(who: str, name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it is not an integer >= 1."""
    is_integer = isinstance(value, (int, np.integer))
    if not is_integer or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{who}: {name} must be an integer of at least 1, received "
            f"{value!r}."
        )
    return int(value)


def number(
    who: str,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> float:
    """Returns `value` as a float, or raises if it lies outside its range."""
    rules = []
    valid = isinstance(value, (int, float, np.number))
    valid = valid and not isinstance(value, bool) and math.isfinite(value)
    if above is not None:
        rules.append(f"above {above:g}")
        valid = valid and value > above
    if at_least is not None:
        rules.append(f"at least {at_least:g}")
        valid = valid and value >= at_least
    if at_most is not None:
        rules.append(f"at most {at_most:g}")
        valid = valid and value <= at_most
    if below is not None:
        rules.append(f"below {below:g}")
        valid = valid and value < below
    if not valid:
        rule = " and ".join(rules)
        raise ValueError(
            f"{who}: {name} must be a finite number{rule and ' '}{rule}, "
            f"received {value!r}."
        )
    return float(value)


def one_of(who: str, name: str, value: Any, options: Sequence[str]) -> str:
    """Returns `value`, or raises if it is none of `options`."""
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(
            f"{who}: {name} must be one of {listed}, received {value!r}."
        )
    return value


def boolean(who: str, name: str, value: Any) -> bool:
    """Returns `value` as a bool, or raises if it is none.

    (Python takes every non-empty string for true, `"False"` included.)
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(
            f"{who}: {name} must be True or False, received {value!r}."
        )
    return bool(value)


def seed(who: str, name: str, value: Any) -> int:
    """Returns `value` as an int that all generators take, or raises."""
    is_integer = isinstance(value, (int, np.integer))
    if not is_integer or isinstance(value, bool) or not 0 <= value < 2**32:
        raise ValueError(
            f"{who}: {name} must be an integer in [0, 2**32), received "
            f"{value!r}."
        )
    return int(value)


def names_or_none(who: str, name: str, value: Any) -> tuple[str, ...] | None:
    """Returns a sequence of strings as a tuple, or `None`.

    (One string is a sequence of strings, too: of its letters.)
    """
    if value is None:
        return None
    if not isinstance(value, (list, tuple, np.ndarray)) or not all(
        isinstance(item, str) for item in value
    ):
        raise ValueError(
            f"{who}: {name} must be a list of strings, one for each class, "
            f"received {value!r}."
        )
    return tuple(map(str, value))

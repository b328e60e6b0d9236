"""Checks of arguments: each error names argument, rule, value and remedy."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.arrays import dtype_name, is_dense, to_numpy

# No axis of a tensor is longer.
_MOST = 2**31 - 1
# What is larger is infinite in the arithmetic of layers and losses.
_LARGEST = float(np.finfo("float32").max)


def shown(value: Any) -> str:
    """A value in an error message: its repr, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # of an int with more digits than Python prints
        return f"an int of {value.bit_length()} bits"
    return text if len(text) <= 80 else f"{text[:70]}... ({len(text)} letters)"


def positive_integer(who: str, name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it is not an integer >= 1."""
    if not _is_integer(value) or not 1 <= value <= _MOST:
        raise ValueError(
            f"{who}: {name} must be an integer of at least 1, received "
            f"{shown(value)}."
        )
    return int(value)


def not_negative_integer(who: str, name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it is not an integer >= 0."""
    if not _is_integer(value) or not 0 <= value <= _MOST:
        raise ValueError(
            f"{who}: {name} must be an integer of at least 0, received "
            f"{shown(value)}."
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
    valid = isinstance(value, (int, float, np.integer, np.floating))
    valid = valid and not isinstance(value, bool)
    # (Python compares an int of any size with a float.)
    if isinstance(value, np.generic):
        value = value.item()
    valid = valid and -_LARGEST <= value <= _LARGEST
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
            f"received {shown(value)}."
        )
    return float(value)


def number_or_numbers(
    who: str, name: str, value: Any, **limits: float
) -> float | tuple[float, ...]:
    """Returns a number as `number` does, or one for each class as a tuple."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return number(who, name, value, **limits)
    if not len(value):
        raise ValueError(
            f"{who}: {name} must be one number, or one for each class, "
            "received none."
        )
    return tuple(
        number(who, f"{name}[{index}]", each, **limits)
        for index, each in enumerate(value)
    )


def one_of(who: str, name: str, value: Any, options: Sequence[str]) -> str:
    """Returns `value`, or raises if it is none of `options`."""
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(
            f"{who}: {name} must be one of {listed}, received {shown(value)}."
        )
    return value


def checked_data_format(who: str, data_format: Any) -> str:
    """The argument `data_format` of a layer: Keras's own where it is `None`."""
    if data_format is None:
        data_format = keras.config.image_data_format()
    return one_of(
        who, "data_format", data_format, ("channels_last", "channels_first")
    )


def boolean(who: str, name: str, value: Any) -> bool:
    """Returns `value` as a bool, or raises if it is none.

    (Python takes every non-empty string for true, `"False"` included.)
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(
            f"{who}: {name} must be True or False, received {shown(value)}."
        )
    return bool(value)


def seed_or_none(who: str, name: str, value: Any) -> int | None:
    """Returns `value` as an int that all generators take, or `None`."""
    return None if value is None else seed(who, name, value)


def seed(who: str, name: str, value: Any) -> int:
    """Returns `value` as an int that all generators take, or raises."""
    if not _is_integer(value) or not 0 <= value < 2**32:
        raise ValueError(
            f"{who}: {name} must be an integer in [0, 2**32), received "
            f"{shown(value)}."
        )
    return int(value)


def string(
    who: str, name: str, value: Any, *, may_be_empty: bool = False
) -> str:
    """Returns `value`, or raises if it is no string or an empty one."""
    if not isinstance(value, str) or not (value or may_be_empty):
        raise ValueError(
            f"{who}: {name} must be a string, received {shown(value)}."
        )
    return value


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
            f"received {shown(value)}."
        )
    return tuple(map(str, value))


def initializer(who: str, name: str, value: Any) -> Any:
    """The Keras initializer that `value` names or is, or raises."""
    found = None
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        found = keras.initializers.get(value)
    # (`get` instantiates a class, and gives back any other callable.)
    if not callable(found):
        raise ValueError(
            f"{who}: {name} must be an initializer, such as 'zeros' or a "
            f"keras.initializers.Initializer, received {shown(value)}."
        )
    return found


def regularizer_or_none(who: str, name: str, value: Any) -> Any:
    """The Keras regularizer that `value` names or is, or `None`."""
    if value is None:
        return None
    found = None
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        found = keras.regularizers.get(value)
    if not callable(found):
        raise ValueError(
            f"{who}: {name} must be a regularizer, such as 'l2' or a "
            f"keras.regularizers.Regularizer, or None, received {shown(value)}."
        )
    return found


def float_policy(who: str, dtype: Any) -> Any:
    """The Keras dtype policy of `dtype`, or raises if it computes no floats.

    Args:
        who: What is computed, for error messages.
        dtype: Name of a dtype or of a policy, a policy or its config, or
            `None` for that of the Keras configuration.
    """
    try:
        policy = keras.dtype_policies.get(
            keras.config.dtype_policy() if dtype is None else dtype
        )
        is_float = "float" in policy.compute_dtype
    except (AttributeError, TypeError, ValueError):
        is_float = False
    if not is_float:
        raise ValueError(
            f"{who}: dtype must be of floats, such as 'float32' or "
            f"'mixed_bfloat16', received {shown(dtype)}."
        )
    return policy


def refuse_no_floats(who: str, name: str, values: Any) -> None:
    """Raises for tensors whose values would be lost, or are not in one piece.

    Args:
        who: What the tensor was given to, for error messages.
        name: What it is, for error messages.
        values: Array or tensor of any backend, a symbolic one included.

    Raises:
        ValueError: If it holds complex numbers or strings, or is sparse or
            ragged.
    """
    dtype = dtype_name(values)
    if not is_dense(values):
        kind = (
            "a sparse or ragged tensor. Make it dense, as with "
            "`tf.sparse.to_dense()` or `.to_tensor()`"
        )
    elif dtype.startswith("complex"):
        kind = (
            f"{dtype}, of which a part would be lost. Pass real and imaginary "
            "parts, or lengths, as features of their own"
        )
    elif dtype.startswith(("str", "<U", "|S", "object", "bytes")):
        kind = f"the dtype {dtype}. Convert it to float32"
    else:
        return
    raise ValueError(
        f"{who}: {name} must be a dense tensor of real numbers, received "
        f"{kind}."
    )


def real_array(who: str, name: str, values: Any) -> np.ndarray:
    """Returns a NumPy array of integers, booleans or floats, or raises.

    Args:
        who: What the array was given to, for error messages.
        name: Name of the argument, for error messages.
        values: A sequence, or an array or tensor of any backend.
    """
    refuse_no_floats(who, name, values)
    array = None
    # (NumPy makes no array of rows of several lengths.)
    with contextlib.suppress(TypeError, ValueError):
        array = to_numpy(values)
    if array is None or array.dtype.kind not in "biuf":
        # (What NumPy has no name for: bfloat16 and the like.)
        if array is not None and "float" in str(array.dtype):
            return array.astype("float32")
        raise ValueError(
            f"{who}: {name} must be an array of numbers, received "
            f"{type(values).__name__} {shown(values)}."
        )
    return array


def _is_integer(value: Any) -> bool:
    is_integer = isinstance(value, (int, np.integer))
    return is_integer and not isinstance(value, bool)

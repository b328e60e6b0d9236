"""What a label may be, and the one way to read it.

| label | what it means |
|---|---|
| integer, `(batch,)` or `(batch, 1)` | the class of this number |
| bool, `(batch,)` or `(batch, 1)` | class 0 or 1 |
| row `(batch, num_classes)` of shares, at least 0, sum 1 | its largest class |
| row of zeros (`one_hot(-1)` gives one), row with NaN | no class |
| any other row: several ones, logits | an error |
| float that is no row, whole or not | an error |
| string, object, complex, `None` | an error |
| ragged or sparse tensor | an error |

Rows may have any dtype. Of equal largest classes the first counts.
`CenterLoss` and cross-entropies take soft rows as they are, as a mixture.

A sample without a class counts for nothing in a layer whose `ignore_class` is
negative, as a negative integer does there. Everywhere else it is an error.
Inside a compiled step values cannot be read: there it makes the loss NaN.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.arrays import (
    concrete,
    dtype_name,
    is_dense,
    to_numpy,
)
from keras_finegrain._base.typing import Tensor

# How far from 1 the sum of a row may be: soft labels in half precision.
_SUM_TOLERANCE = 0.01


def class_numbers(
    who: str,
    labels: Tensor,
    batch_shape: tuple[int | None, ...],
    num_classes: int | None = None,
    ignore_class: int | None = None,
    name: str = "labels",
) -> Tensor:
    """Turns any accepted form of labels into integers.

    Args:
        who: What the labels were given to, for error messages.
        labels: Integers of shape `batch_shape` or `batch_shape + (1,)`, or
            one-hot or soft rows `batch_shape + (num_classes,)` of any dtype.
        batch_shape: The leading axes of the tensor that the labels describe;
            `None` where unknown.
        num_classes: The number of classes, or `None` to take any number of
            them, and rows of any width above 1.
        ignore_class: A label that may lie outside of the classes, or `None`.
        name: Name of the argument, for error messages.

    Returns:
        Integer tensor of shape `batch_shape`. For a row that names no class it
        holds `ignore_class` where that is negative, else -1; for any other
        unusable row the width of the row. Both lie outside of the classes.

    Raises:
        ValueError: If the labels have another shape, or a dtype that holds no
            class numbers.

    Example:

    >>> from keras_finegrain.labels.forms import class_numbers
    >>> rows = ops.array([[0.0, 1.0], [0.9, 0.1], [0.0, 0.0]])
    >>> ops.convert_to_numpy(class_numbers("me", rows, (3,), 2)).tolist()
    [1, 0, -1]
    """
    dtype = keras.backend.standardize_dtype(labels.dtype)
    shape = tuple(labels.shape)
    if check_form(who, shape, dtype, batch_shape, num_classes, name):
        rows = ops.cast(labels, "float32")
        return ops.cast(numbers_of_rows(rows, ops, ignore_class), "int32")
    if len(shape) > len(batch_shape):
        return ops.squeeze(labels, axis=-1)
    return labels


def label_tensor(who: str, labels: Any, name: str = "labels") -> Tensor:
    """Labels as a tensor of the backend.

    Args:
        who: What the labels were given to, for error messages.
        labels: What somebody gave as labels.
        name: Name of the argument, for error messages.

    Returns:
        Tensor with the shape and dtype of the labels.

    Raises:
        ValueError: If they are `None`, ragged, sparse, or of a dtype that
            holds no labels.
    """
    remedy = "Give one label for each sample."
    if labels is None:
        raise ValueError(
            f"{who}: {name} must be integers or one-hot, received None. "
            f"{remedy} `fit`, `evaluate` and `train_on_batch` take them as `y`."
        )
    if not is_dense(labels):
        raise ValueError(
            f"{who}: {name} must be a dense tensor, received a "
            f"{type(labels).__name__}. {remedy} A sparse one-hot tensor "
            "becomes dense by `tf.sparse.to_dense(labels)`."
        )
    if not hasattr(labels, "dtype"):
        try:
            labels = np.asarray(labels)
        except ValueError:
            raise ValueError(
                f"{who}: {name} must be integers or one-hot, received rows "
                f"of unequal length. {remedy}"
            ) from None
    refuse_dtype(who, dtype_name(labels), name)
    return ops.convert_to_tensor(labels)


def check_form(
    who: str,
    shape: tuple[int | None, ...],
    dtype: str,
    batch_shape: tuple[int | None, ...],
    num_classes: int | None = None,
    name: str = "labels",
) -> bool:
    """Raises for labels of a shape or dtype that is none of labels.

    Args:
        who: What the labels were given to, for error messages.
        shape: Their shape.
        dtype: Name of their dtype.
        batch_shape: As in `class_numbers`.
        num_classes: As in `class_numbers`.
        name: Name of the argument, for error messages.

    Returns:
        Whether the labels are rows, and not numbers.

    Raises:
        ValueError: If the labels have another shape, or a dtype that holds no
            class numbers.
    """
    rank = len(batch_shape)
    rows = are_rows(shape, dtype, rank, num_classes)
    leading = shape
    if rows or (len(shape) == rank + 1 and shape[-1] == 1):
        leading = shape[:-1]
    if len(leading) != rank or any(
        received is not None and expected is not None and received != expected
        for received, expected in zip(leading, batch_shape, strict=True)
    ):
        raise ValueError(
            _wrong_shape(who, name, shape, batch_shape, num_classes)
        )
    refuse_dtype(who, dtype, name)
    if not rows and not _holds_numbers(dtype):
        raise ValueError(_floats(who, name, dtype))
    return rows


def check_labels(
    who: str,
    labels: Tensor,
    num_classes: int | None = None,
    ignore_class: int | None = None,
    name: str = "labels",
    rank: int = 1,
) -> None:
    """Raises for labels that name no class, where they can be read.

    Args:
        who: What the labels were given to, for error messages.
        labels: As in `class_numbers`.
        num_classes: As in `class_numbers`.
        ignore_class: A label that may lie outside of the classes, or `None`.
        name: Name of the argument, for error messages.
        rank: The number of leading axes that count samples.

    Raises:
        ValueError: If a label lies outside of `[0, num_classes)`, or a row
            names no class or several. Inside a compiled step, where there is
            nothing to read, never.
    """
    values = concrete(labels)
    if values is None or not values.size:
        return
    if are_rows(values.shape, str(values.dtype), rank, num_classes):
        _check_rows(who, values, ignore_class, name)
    elif num_classes is not None and _holds_numbers(str(values.dtype)):
        counted = values[values != ignore_class]
        if counted.size:
            error = range_error(
                who, num_classes, int(counted.min()), int(counted.max()), name
            )
            if error is not None:
                raise error


def integer_labels(
    who: str, labels: Any, samples: int | None = None, name: str = "labels"
) -> np.ndarray:
    """The classes of a data set that lies in memory, as integers.

    Args:
        who: What the labels were given to, for error messages.
        labels: Array or tensor of any backend: integers `(samples,)` or
            `(samples, 1)`, which need not be consecutive, or one-hot or soft
            rows `(samples, num_classes)`.
        samples: How many there have to be, or `None`.
        name: Name of the argument, for error messages.

    Returns:
        Integer array `(samples,)`, in the dtype that the integers had.

    Raises:
        ValueError: If the labels have another shape or dtype, or a row names
            no class or several.

    Example:

    >>> from keras_finegrain.labels.forms import integer_labels
    >>> integer_labels("me", [[0.0, 1.0], [1.0, 0.0]]).tolist()
    [1, 0]
    """
    values = to_numpy(labels)
    shape, dtype = values.shape, str(values.dtype)
    refuse_dtype(who, dtype, name)
    if are_rows(shape, dtype, 1, None):
        _check_rows(who, values, None, name)
        values = numbers_of_rows(values.astype("float64"), np)
    elif values.ndim == 2 and shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or samples not in (None, len(values)):
        raise ValueError(_wrong_shape(who, name, shape, (samples,), None))
    if not _holds_numbers(str(values.dtype)):
        raise ValueError(_floats(who, name, dtype))
    return values


def to_range(labels: Tensor, num_classes: int) -> Tensor:
    """Casts labels to int32 so that none wraps around into the range.

    Args:
        labels: Tensor of integers, of any dtype.
        num_classes: The number of classes.

    Returns:
        int32 tensor; labels in `[0, num_classes)` unchanged, the others
        outside of it.
    """
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if dtype in ("uint32", "uint64"):
        labels = ops.minimum(labels, ops.cast(num_classes, dtype))
    elif dtype == "int64":
        labels = ops.clip(labels, -1, num_classes)
    return ops.cast(labels, "int32")


def in_range(labels: Tensor, num_classes: int) -> Tensor:
    """Which int32 labels lie in `[0, num_classes)`, as a boolean tensor."""
    return ops.logical_and(labels >= 0, labels < num_classes)


def range_error(
    who: str, num_classes: int, low: int, high: int, name: str = "labels"
) -> ValueError | None:
    """The error for labels from `low` to `high`, or `None` if all are valid."""
    if low >= 0 and high < num_classes:
        return None
    if low < 0:
        received, remedy = (
            f"a minimum of {low}",
            f"Labels to leave out can be named with ignore_class={low}, where "
            "the layer has that argument.",
        )
    else:
        received, remedy = (
            f"a maximum of {high}",
            f"Did you mean num_classes={high + 1}?",
        )
    return ValueError(
        f"{who}: {name} must lie in [0, {num_classes}), received {received}. "
        f"{remedy}"
    )


def are_rows(
    shape: tuple[int | None, ...],
    dtype: str,
    rank: int,
    num_classes: int | None,
) -> bool:
    """Whether labels have a row for each sample, and not a number."""
    if len(shape) != rank + 1 or not (
        _holds_numbers(dtype) or "float" in dtype
    ):
        return False
    if num_classes is None:
        return shape[-1] != 1
    # A single class: a column of integers holds class numbers.
    return shape[-1] == num_classes and not (
        num_classes == 1 and _holds_numbers(dtype)
    )


def _holds_numbers(dtype: str) -> bool:
    # (PyTorch writes `torch.bool`.)
    return "int" in dtype or dtype.endswith("bool")


def numbers_of_rows(rows: Any, xp: Any, ignore_class: int | None = None) -> Any:
    """The class that each row names.

    Args:
        rows: Floats `(..., num_classes)`.
        xp: The module of array functions: `keras.ops`, `numpy`, or
            `tensorflow.experimental.numpy` in a pipeline of `tf.data`.
        ignore_class: A label that may lie outside of the classes, or `None`.

    Returns:
        Integers `(...)`: for zeros or NaN `ignore_class` where that is
        negative, else -1; for any other row that is not shares with the sum 1
        the number of classes.
    """
    negative = ignore_class is not None and ignore_class < 0
    no_class = ignore_class if negative else -1
    total = xp.sum(rows, axis=-1)
    lowest = xp.min(rows, axis=-1)
    is_zero = xp.logical_and(lowest == 0.0, total == 0.0)
    names_none = xp.logical_or(xp.isnan(total), is_zero)
    are_shares = xp.logical_and(
        lowest >= 0.0, xp.abs(total - 1.0) <= _SUM_TOLERANCE
    )
    outside = xp.where(names_none, no_class, rows.shape[-1])
    return xp.where(are_shares, xp.argmax(rows, axis=-1), outside)


def _check_rows(
    who: str, rows: np.ndarray, ignore_class: int | None, name: str
) -> None:
    numbers = numbers_of_rows(rows.astype("float64"), np, ignore_class)
    wrong = numbers == rows.shape[-1]
    if ignore_class is None or ignore_class >= 0:
        wrong = np.logical_or(wrong, numbers < 0)
    if not wrong.any():
        return
    first = tuple(int(index[0]) for index in np.nonzero(wrong))
    row = np.array2string(rows[first], threshold=8, edgeitems=3, precision=3)
    raise ValueError(
        f"{who}: each row of one-hot {name} must name one class (shares of at "
        f"least 0 with the sum 1), received {row} in row "
        f"{first[0] if len(first) == 1 else first}, one of {int(wrong.sum())} "
        "such rows. Leave these samples out. Layers with ignore_class=-1 pass "
        "over rows of zeros and NaN. If these are outputs of a "
        "model, give the labels first."
    )


def _wrong_shape(
    who: str,
    name: str,
    shape: tuple[int | None, ...],
    batch_shape: tuple[int | None, ...],
    num_classes: int | None,
) -> str:
    expected = ", ".join(
        "batch" if size is None else str(size) for size in batch_shape
    )
    comma = "," if len(batch_shape) == 1 else ""
    width = "num_classes" if num_classes is None else num_classes
    return (
        f"{who}: {name} must have the shape ({expected}{comma}) (integers) or "
        f"({expected}, {width}) (one-hot), received the shape {shape}. Give "
        "one label for each sample, and check num_classes."
    )


def _floats(who: str, name: str, dtype: str) -> str:
    return (
        f"{who}: {name} must be integers or one-hot, received dtype {dtype}. "
        "Cast them where the data is made, for instance with "
        "`labels.astype('int32')`, and declare a label input with "
        "`keras.Input((), dtype='int32')`."
    )


def refuse_dtype(who: str, dtype: str, name: str = "labels") -> None:
    """Raises for strings, objects and complex numbers.

    Args:
        who: What the labels were given to, for error messages.
        dtype: Name of their dtype.
        name: Name of the argument, for error messages.
    """
    if _holds_numbers(dtype) or "float" in dtype:
        return
    raise ValueError(
        f"{who}: {name} must be integers or one-hot, received dtype {dtype}. "
        "Number the classes, for instance with "
        "`names, labels = np.unique(labels, return_inverse=True)`."
    )

"""Checks of labels, class names and centers, which many pictures take."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import names_or_none, real_array
from keras_finegrain.labels.forms import integer_labels


def class_labels(
    who: str,
    labels: Any,
    samples: int | None,
    class_names: Sequence[str] | None,
    name: str = "labels",
) -> np.ndarray:
    """Checks labels that index class names.

    Args:
        who: Name of the public function, with which errors begin.
        labels: Integers or one-hot rows, as `integer_labels` takes them.
        samples: How many labels there must be, or `None` for any number.
        class_names: The names, or `None`.
        name: Name of the argument, for error messages.

    Returns:
        int64 array `(samples,)`.

    Raises:
        ValueError: If `integer_labels` refuses the labels, there are none, or
            one is negative or has no name.
    """
    numbers = integer_labels(who, labels, samples, name).astype(np.int64)
    if not len(numbers):
        raise ValueError(
            f"{who}: {name} must hold at least one sample, received the shape "
            "(0,)."
        )
    if numbers.min() < 0:
        raise ValueError(
            f"{who}: {name} must not be negative, received a minimum of "
            f"{numbers.min()}."
        )
    check_indexed(who, "class_names", class_names, numbers, name)
    return numbers


def check_indexed(
    who: str,
    name: str,
    values: Any,
    labels: np.ndarray,
    labels_name: str = "labels",
) -> None:
    """Raises if a label has no entry in `values`, which may be `None`."""
    if name == "class_names":
        names_or_none(who, name, values)
    if values is not None and labels.max() >= len(values):
        raise ValueError(
            f"{who}: {name} must have one entry for each class, received "
            f"{len(values)} and a maximum of {labels.max()} in {labels_name}."
        )


def class_centers(who: str, centers: Any, dim: int | None = None) -> np.ndarray:
    """Checks centers and gives them three axes.

    Args:
        who: Name of the public function, with which errors begin.
        centers: Array or tensor of any backend, `(classes, dim)` or
            `(classes, centers_per_class, dim)`.
        dim: The dim of the embeddings, or `None` where there are none.

    Returns:
        float64 `(classes, centers_per_class, dim)`.

    Raises:
        ValueError: If the shape or the dim is another, or a center is not
            finite.
    """
    centers = real_array(who, "centers", centers).astype(np.float64)
    if centers.ndim not in (2, 3) or not centers.size:
        raise ValueError(
            f"{who}: centers must have the shape (classes, dim) or (classes, "
            f"centers_per_class, dim), received {centers.shape}."
        )
    if dim not in (None, centers.shape[-1]):
        raise ValueError(
            f"{who}: centers must have the embeddings' dim of {dim}, received "
            f"{centers.shape[-1]}. Embed with the layer below the one that "
            "holds the centers."
        )
    if not np.isfinite(centers).all():
        raise ValueError(
            f"{who}: centers must be finite, received NaN or infinity. The "
            "training has diverged: lower its learning rate."
        )
    return centers[:, None] if centers.ndim == 2 else centers


def class_name(index: int, class_names: Sequence[str] | None) -> str:
    """A class's number and, if there are names, its name.

    Spaces take the place of the underscores that names have in TFDS.
    """
    if class_names is None:
        return str(index)
    return f"{index}  {class_names[index]}".replace("_", " ")


def as_sequence(who: str, name: str, values: Any) -> Any:
    """A sequence as it is, a tensor as a NumPy array; raises for others."""
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return values
    array = real_array(who, name, values)
    if not array.ndim:
        raise ValueError(
            f"{who}: {name} must be a sequence or an array of several, "
            f"received {values!r}."
        )
    return array


def index_array(who: str, name: str, values: Any) -> np.ndarray:
    """Integers `(count,)`, at least one; raises for anything else."""
    indices = real_array(who, name, values)
    if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu":
        raise ValueError(
            f"{who}: {name} must be integers of the shape (count,) with at "
            f"least one, received {values!r}."
        )
    return indices

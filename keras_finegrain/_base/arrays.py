"""NumPy arrays from tensors of any backend."""

from typing import Any

import keras
import numpy as np

from keras_finegrain._base.typing import Tensor


def to_numpy(values: Any) -> np.ndarray:
    """A NumPy array of a sequence or of a tensor of any backend."""
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, list | tuple):
        return np.asarray(values)
    return np.asarray(keras.ops.convert_to_numpy(values))


def concrete(tensor: Tensor) -> np.ndarray | None:
    """The tensor's values where reading them is possible, else `None`.

    Inside a compiled step a tensor has no values yet.
    """
    try:
        return np.asarray(keras.ops.convert_to_numpy(tensor))
    except Exception:  # each backend raises an error class of its own
        return None


def is_dense(values: Any) -> bool:
    """Whether this is no ragged and no sparse tensor, of any backend."""
    # (By name: none of the packages that define them is a requirement.)
    kinds = ("RaggedTensor", "SparseTensor", "IndexedSlices", "BCOO", "BCSR")
    flags = ("ragged", "sparse", "is_sparse")
    return type(values).__name__ not in kinds and not any(
        getattr(values, flag, False) is True for flag in flags
    )


def dtype_name(values: Any) -> str:
    """`float32` and the like, of an array, a tensor of any backend or a list.

    Empty for what has none.
    """
    if isinstance(values, list | tuple):
        try:
            values = np.asarray(values)
        except ValueError:  # rows of several lengths
            return ""
    dtype = getattr(values, "dtype", "")
    return str(getattr(dtype, "name", dtype)).removeprefix("torch.")


def softmax(scores: np.ndarray) -> np.ndarray:
    """Each row's exponentials `(rows, columns)`, divided by their sum."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def true_class_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rank of each image's class by its score, 1 for the highest score.

    Args:
        scores: `(images, num_classes)`. Classes with the same score, or with
            NaN, count as better.
        labels: `(images,)`.

    Returns:
        `(images,)`, from 1 to num_classes.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    return np.sum(~(scores < own), axis=1)

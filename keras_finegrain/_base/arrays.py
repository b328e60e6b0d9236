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


def numeric(who: str, name: str, values: Any) -> np.ndarray:
    """A NumPy array of real numbers, or an error that names the argument."""
    try:
        array = to_numpy(values)
        # (bfloat16 is of kind "V".)
        valid = array.dtype.kind in "biuf" or "float" in array.dtype.name
    except Exception:  # each backend raises an error class of its own
        valid = False
    if not valid:
        raise ValueError(
            f"{who}: {name} must be an array or tensor of real numbers, "
            f"received {type(values).__name__} {values!r:.80}."
        )
    return array


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
    is_kind = type(values).__name__ in kinds
    return not is_kind and getattr(values, "is_sparse", None) is not True


def dtype_name(values: Any) -> str:
    """The name of the dtype of an array or of a tensor of any backend."""
    return str(getattr(values.dtype, "name", values.dtype))

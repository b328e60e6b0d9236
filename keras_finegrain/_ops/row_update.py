"""Rows of a large variable, read and written in place, and sums of rows.

`variable.assign(whole_table)` touches every class in every step. With a
million classes and a batch of 128 that is the whole cost of center loss, so
only the rows of the batch are touched, where the backend can.
"""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.private_keras import in_stateless_scope
from keras_finegrain._base.typing import Tensor


def read_rows(variable: keras.Variable, indices: Tensor) -> Tensor:
    """Reads rows of a variable.

    Args:
        variable: `keras.Variable` `(rows, ...)`.
        indices: Integer tensor `(n,)`, each in `[0, rows)`.

    Returns:
        Tensor `(n, ...)`.

    Example:

    >>> table = keras.Variable([[1.0], [2.0], [3.0]])
    >>> ops.convert_to_numpy(
    ...     keras_finegrain._ops.row_update.read_rows(table, ops.array([2, 0]))
    ... ).tolist()
    [[3.0], [1.0]]
    """
    handle = _tensorflow_handle(variable)
    if handle is None:
        return ops.take(variable, indices, axis=0)
    import tensorflow as tf

    # `tf.gather` of a mirrored variable would read the whole table.
    return tf.raw_ops.ResourceGather(
        resource=handle, indices=indices, dtype=variable.dtype
    )


def write_rows(variable: keras.Variable, indices: Tensor, rows: Tensor) -> None:
    """Writes rows of a variable.

    Args:
        variable: `keras.Variable` `(rows, ...)`.
        indices: Integer tensor `(n,)`, each in `[0, rows)`. Where an index
            stands twice, its rows have to be equal.
        rows: Tensor `(n, ...)` of the variable's dtype.

    Example:

    >>> table = keras.Variable([[1.0], [2.0], [3.0]])
    >>> keras_finegrain._ops.row_update.write_rows(
    ...     table, ops.array([1]), ops.array([[9.0]])
    ... )
    >>> ops.convert_to_numpy(table).tolist()
    [[1.0], [9.0], [3.0]]
    """
    handle = _tensorflow_handle(variable)
    if handle is not None:
        import tensorflow as tf

        tf.raw_ops.ResourceScatterUpdate(
            resource=handle, indices=indices, updates=rows
        )
    elif keras.backend.backend() == "torch" and not in_stateless_scope():
        variable.value.data[indices] = rows
    else:
        # JAX updates the donated buffer in place inside a compiled step.
        variable.assign(
            ops.scatter_update(
                variable.value, ops.expand_dims(indices, -1), rows
            )
        )


def sum_rows(rows: Tensor, indices: Tensor) -> Tensor:
    """Adds up the rows that have the same index.

    Keras's `ops.scatter` goes through the rows one by one on PyTorch and waits
    for a GPU at each, and its `ops.segment_sum` computes in float32 there.

    Args:
        rows: Tensor `(n, ...)`.
        indices: Integer tensor `(n,)`, each in `[0, n)`.

    Returns:
        Tensor `(n, ...)`: at each index the sum of its rows, or 0.

    Example:

    >>> sums = keras_finegrain._ops.row_update.sum_rows(
    ...     ops.array([[1.0], [2.0], [3.0]]), ops.array([0, 0, 2])
    ... )
    >>> ops.convert_to_numpy(sums).tolist()
    [[3.0], [0.0], [3.0]]
    """
    if keras.backend.backend() == "torch":
        import torch

        return torch.zeros_like(rows).index_add(0, indices, rows)
    return ops.scatter(indices[:, None], rows, ops.shape(rows))


def _tensorflow_handle(variable: keras.Variable) -> Any | None:
    """The resource of a TensorFlow variable: per replica where mirrored.

    `None` on other backends, inside `keras.StatelessScope` (where the value
    is a plain tensor), and outside of the replicas.
    """
    if keras.backend.backend() != "tensorflow" or in_stateless_scope():
        return None
    import tensorflow as tf

    if tf.distribute.in_cross_replica_context():
        return None
    return variable.value.handle

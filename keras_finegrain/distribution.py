"""Collects over replicas: no other file knows about them.

`tf.distribute` runs the model once per replica, each in a thread of its own
and each with its share of the batch. These functions collect what concerns the
whole batch. Under JAX's `keras.distribution` layers get the whole batch, and
PyTorch and a single device have one replica: there the functions return their
argument.
"""

import contextlib
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor

__all__ = [
    "class_layout_map",
    "compiled_mean",
    "gather",
    "gather_with_gradient",
    "global_sum",
    "num_replicas",
    "runs_on_several_workers",
    "scope_of",
]


def __dir__() -> list[str]:
    return __all__


def _replica_context() -> Any | None:
    """The context of `tf.distribute`'s replica, where there are several."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return context


def gather(values: Tensor) -> Tensor:
    """Joins the replicas' shares of a batch along the first axis.

    Args:
        values: Tensor `(replica_batch, ...)`; the replicas' batches may differ
            in length.

    Returns:
        Tensor `(batch, ...)`, the same on every replica, in the order of the
        replicas. No gradient flows through it.

    Example:

    >>> tuple(keras_finegrain.distribution.gather(ops.ones((4, 2))).shape)
    (4, 2)
    """
    values = ops.stop_gradient(values)
    context = _replica_context()
    if context is None:
        return values
    if keras.backend.standardize_dtype(values.dtype) == "bool":
        # The collectives of TensorFlow know numbers only.
        gathered = _all_gather(context, ops.cast(values, "int32"))
        return ops.cast(gathered, "bool")
    return _all_gather(context, values)


def _all_gather(context: Any, values: Tensor) -> Tensor:
    """TensorFlow's own, which forgets the length of the other axes."""
    gathered = context.all_gather(values, axis=0)
    gathered.set_shape((None, *values.shape[1:]))
    return gathered


def gather_with_gradient(values: Tensor) -> Tensor:
    """Joins the replicas' shares of a batch, for use in a compiled loss.

    Keras divides a compiled loss by the number of replicas R and adds up the
    replicas' gradients. Here every replica computes the loss of the global
    batch; each sample's gradient goes back on its own replica alone, R times:
    the gradient of the weights is one device's.

    Args:
        values: Tensor `(replica_batch, ...)`; the replicas' batches may differ
            in length.

    Returns:
        Tensor `(batch, ...)`, the same on every replica, in the order of the
        replicas.

    Example:

    >>> values = keras_finegrain.distribution.gather_with_gradient(
    ...     ops.ones((4, 2))
    ... )
    >>> tuple(values.shape)
    (4, 2)
    """
    context = _replica_context()
    if context is None:
        return values
    import tensorflow as tf

    gathered = _all_gather(context, tf.stop_gradient(values))
    size = tf.shape(values)[0]
    sizes = _all_gather(context, size[None])
    start = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])

    @tf.custom_gradient
    def joined(own: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> Any:
            # (The gradient of a gather holds the rows of a few samples.)
            share = tf.convert_to_tensor(upstream)[start : start + size]
            replicas = tf.cast(context.num_replicas_in_sync, own.dtype)
            return replicas * share

        return gathered, gradient

    return joined(values)


def global_sum(values: Tensor) -> Tensor:
    """Sums a tensor over the replicas, for use in `add_loss`.

    Keras divides an `add_loss` by the number of replicas R and adds up the
    replicas' gradients. The sum returned here therefore has the value of the
    global sum on every replica, and R times the gradient of the replica's own
    share: the reported loss and the gradient both equal one device's.

    Args:
        values: Tensor of any shape: this replica's share of the sum.

    Returns:
        Tensor of the same shape.

    Example:

    >>> float(keras_finegrain.distribution.global_sum(ops.sum(ops.ones(4))))
    4.0
    """
    context = _replica_context()
    if context is None:
        return values
    import tensorflow as tf

    total = context.all_reduce(
        tf.distribute.ReduceOp.SUM, ops.stop_gradient(values)
    )
    share = values * ops.cast(context.num_replicas_in_sync, values.dtype)
    return ops.stop_gradient(total - share) + share


def num_replicas() -> int:
    """How often this code runs for one global batch.

    Example:

    >>> keras_finegrain.distribution.num_replicas()
    1
    """
    context = _replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def compiled_mean(values: Tensor) -> Tensor:
    """The mean over the global batch, for use in a compiled loss.

    Keras takes the mean of each replica's share and then of those means, which
    weighs the samples of a short share more. This is the mean of all samples:
    in value on every replica, and in the sum of the replicas' gradients.

    Args:
        values: Tensor `(replica_batch,)`: the losses of this replica's samples.

    Returns:
        Scalar, divided by the number of replicas as Keras's own reduction is.

    Example:

    >>> float(keras_finegrain.distribution.compiled_mean(ops.array([1.0, 3.0])))
    2.0
    """
    count = ops.cast(ops.shape(values)[0], values.dtype)
    sums = global_sum(ops.stack([ops.sum(values), count]))
    return sums[0] / ops.stop_gradient(sums[1]) / num_replicas()


def runs_on_several_workers(strategy: Any) -> bool:
    """Whether a strategy of `tf.distribute` spans several processes.

    Args:
        strategy: A `tf.distribute.Strategy`, or `None` for no strategy.

    Example:

    >>> keras_finegrain.distribution.runs_on_several_workers(None)
    False
    """
    extended = getattr(strategy, "extended", None)
    in_multi_worker_mode = getattr(extended, "_in_multi_worker_mode", None)
    return in_multi_worker_mode is not None and in_multi_worker_mode()


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope in which a model was built, to build another that shares it.

    Args:
        model: A Keras model.

    Example:

    >>> with keras_finegrain.distribution.scope_of(keras.Sequential()):
    ...     model = keras.Sequential()
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def class_layout_map(
    device_mesh: keras.distribution.DeviceMesh, axis: str = "model"
) -> keras.distribution.LayoutMap:
    """Shards the centers of this package's layers by class.

    For more classes than one device can hold: each device keeps the centers
    of its share of the classes, with the optimizer's state, and computes
    their similarities. Between the devices of `axis` travels only what has the
    size of a batch, or with SoftTriple's `sampled_share` of the drawn centers;
    between those of a batch axis the gradients of each share. On JAX, the
    backend on which `keras.distribution.ModelParallel` trains.

    Args:
        device_mesh: Devices with an axis for the classes, and one for the
            batch, which may be of size 1.
        axis: Name of the axis for the classes. The number of classes has to
            divide by its size.

    Returns:
        A layout map for `keras.distribution.ModelParallel`. Layouts for other
        weights may be added to it.

    Raises:
        ValueError: If the mesh has no such axis.

    Example:

    >>> mesh = keras.distribution.DeviceMesh(
    ...     (1, 2), ("batch", "model"), ["cpu:0", "cpu:1"]
    ... )
    >>> layout_map = keras_finegrain.distribution.class_layout_map(mesh)
    >>> layout_map["soft_triple/centers"].axes
    ('model',)
    >>> layout_map["dense/kernel"] is None
    True
    """
    if axis not in device_mesh.axis_names:
        raise ValueError(
            f"class_layout_map: axis must be one of the mesh's axes "
            f"{tuple(device_mesh.axis_names)}, received {axis!r}."
        )
    layout_map = keras.distribution.LayoutMap(device_mesh)
    # (num_classes, ...): the axes that are not named stay whole.
    layout_map[r"(.*/)?centers"] = (axis,)
    return layout_map

"""Collects over replicas: no other file knows about them.

`tf.distribute` runs the model once per replica, each in a thread of its own
and each with its share of the batch; PyTorch's `DistributedDataParallel` does
so in a process of its own. These functions collect what concerns the whole
batch. Under JAX's `keras.distribution` layers get the whole batch, and a single
device has one replica: there the functions return their argument.
"""

import contextlib
from typing import Any, Protocol

import keras
from keras import ops

from keras_finegrain._base.private_keras import (
    data_parallel_group,
    in_symbolic_scope,
)
from keras_finegrain._base.typing import Tensor

__all__ = [
    "as_compiled",
    "class_layout_map",
    "compiled_mean",
    "compiled_sum",
    "gather",
    "gather_with_gradient",
    "global_sum",
    "num_replicas",
    "runs_on_several_workers",
    "scope_of",
]


def __dir__() -> list[str]:
    return __all__


class _Replicas(Protocol):
    """The replicas that share a batch, as one of them sees them."""

    count: int
    # Whether Keras adds up the replicas' compiled losses, or averages them.
    adds_losses: bool

    def gather(self, values: Tensor) -> Tensor:
        """Joins numbers along the first axis, without a gradient."""

    def gather_with_gradient(self, values: Tensor) -> Tensor:
        """Joins numbers; a gradient goes to the own share, `count` times."""

    def sum(self, values: Tensor) -> Tensor:
        """Adds up numbers, without a gradient."""


class _Mirrored:
    """The replicas of a strategy of `tf.distribute`."""

    adds_losses = True

    def __init__(self, context: Any) -> None:
        self._context = context
        self.count = context.num_replicas_in_sync

    def gather(self, values: Tensor) -> Tensor:
        gathered = self._context.all_gather(values, axis=0)
        # TensorFlow's own forgets the length of the other axes.
        gathered.set_shape((None, *values.shape[1:]))
        return gathered

    def gather_with_gradient(self, values: Tensor) -> Tensor:
        import tensorflow as tf

        gathered = self.gather(tf.stop_gradient(values))
        size = tf.shape(values)[0]
        sizes = self.gather(size[None])
        start = tf.reduce_sum(sizes[: self._context.replica_id_in_sync_group])

        @tf.custom_gradient
        def joined(own: Any) -> tuple[Any, Any]:
            def gradient(upstream: Any) -> Any:
                # (The gradient of a gather holds the rows of a few samples.)
                share = tf.convert_to_tensor(upstream)[start : start + size]
                return tf.cast(self.count, own.dtype) * share

            return gathered, gradient

        return joined(values)

    def sum(self, values: Tensor) -> Tensor:
        import tensorflow as tf

        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, values)


class _Ranks:
    """The processes of `torch.distributed`.

    `DistributedDataParallel` averages their gradients, and Keras their losses.
    """

    adds_losses = False

    def __init__(self, group: Any) -> None:
        import torch

        self._group = group
        self.count = torch.distributed.get_world_size(group)

    def gather(self, values: Tensor) -> Tensor:
        import torch

        return torch.cat(self._shares(values))

    def gather_with_gradient(self, values: Tensor) -> Tensor:
        import torch

        shares = self._shares(values)
        own = values.clone()
        if own.requires_grad:
            own.register_hook(lambda gradient: self.count * gradient)
        shares[torch.distributed.get_rank(self._group)] = own
        return torch.cat(shares)

    def sum(self, values: Tensor) -> Tensor:
        import torch

        total = values.detach().clone()
        torch.distributed.all_reduce(total, group=self._group)
        return total

    def _shares(self, values: Tensor) -> list[Tensor]:
        """The values of each rank, which may differ in length."""
        import torch

        values = values.detach().contiguous()
        length = torch.tensor([len(values)], device=values.device)
        sizes = [int(each) for each in self._gather_alike(length)]
        padded = values.new_zeros((max(sizes), *values.shape[1:]))
        padded[: len(values)] = values
        shares = self._gather_alike(padded)
        return [share[:n] for share, n in zip(shares, sizes, strict=True)]

    def _gather_alike(self, values: Tensor) -> list[Tensor]:
        """The values of each rank, which have one shape."""
        import torch

        shares = [torch.empty_like(values) for _ in range(self.count)]
        torch.distributed.all_gather(shares, values, group=self._group)
        return shares


def _replicas() -> _Replicas | None:
    """The replicas that share the batch, where there are several."""
    backend = keras.backend.backend()
    # Keras builds losses on tensors without values: nothing to collect.
    if backend == "jax" or in_symbolic_scope():
        return None
    replicas = _mirrored() if backend == "tensorflow" else _ranks()
    return None if replicas is None or replicas.count == 1 else replicas


def _mirrored() -> _Mirrored | None:
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return None if context is None else _Mirrored(context)


def _ranks() -> _Ranks | None:
    import torch

    if not torch.distributed.is_available():
        return None
    if not torch.distributed.is_initialized():
        return None
    distribution = keras.distribution.distribution()
    if isinstance(distribution, keras.distribution.ModelParallel):
        raise ValueError(
            "keras_finegrain: on PyTorch the distribution must be "
            "keras.distribution.DataParallel, or none, received "
            f"{type(distribution).__name__}. Shard by class on JAX."
        )
    return _Ranks(data_parallel_group())


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
    replicas = _replicas()
    if replicas is None:
        return values
    if keras.backend.standardize_dtype(values.dtype) == "bool":
        # The collectives know numbers only.
        gathered = replicas.gather(ops.cast(values, "int32"))
        return ops.cast(gathered, "bool")
    return replicas.gather(values)


def gather_with_gradient(values: Tensor) -> Tensor:
    """Joins the replicas' shares of a batch, for use in a compiled loss.

    Keras averages the gradients of the R replicas. Here every replica computes
    the loss of the global batch; each sample's gradient goes back on its own
    replica alone, R times: the gradient of the weights is one device's.

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
    replicas = _replicas()
    return values if replicas is None else replicas.gather_with_gradient(values)


def global_sum(values: Tensor) -> Tensor:
    """Sums a tensor over the replicas, for use in `add_loss`.

    Keras averages the losses of the R replicas and their gradients. The sum
    returned here therefore has the value of the global sum on every replica,
    and R times the gradient of the replica's own share: the reported loss and
    the gradient both equal one device's.

    Args:
        values: Tensor of any shape: this replica's share of the sum.

    Returns:
        Tensor of the same shape.

    Example:

    >>> float(keras_finegrain.distribution.global_sum(ops.sum(ops.ones(4))))
    4.0
    """
    replicas = _replicas()
    if replicas is None:
        return values
    total = replicas.sum(ops.stop_gradient(values))
    share = values * ops.cast(replicas.count, values.dtype)
    return ops.stop_gradient(total - share) + share


def num_replicas() -> int:
    """How often this code runs for one global batch.

    Example:

    >>> keras_finegrain.distribution.num_replicas()
    1
    """
    replicas = _replicas()
    return 1 if replicas is None else replicas.count


def as_compiled(loss: Tensor) -> Tensor:
    """The loss of the global batch as a replica's compiled loss returns it.

    TensorFlow's replicas add up their losses, PyTorch's average them.

    Args:
        loss: Tensor of any shape, the same on every replica.

    Returns:
        Tensor of the same shape.

    Example:

    >>> keras_finegrain.distribution.as_compiled(2.0)
    2.0
    """
    replicas = _replicas()
    if replicas is None or not replicas.adds_losses:
        return loss
    return loss / replicas.count


def compiled_mean(values: Tensor) -> Tensor:
    """The mean over the global batch, for use in a compiled loss.

    Keras takes the mean of each replica's share and then of those means, which
    weighs the samples of a short share more. This is the mean of all samples:
    in value on every replica, and in the sum of the replicas' gradients.

    Args:
        values: Tensor `(replica_batch,)`: the losses of this replica's samples.

    Returns:
        Scalar, `as_compiled`.

    Example:

    >>> float(keras_finegrain.distribution.compiled_mean(ops.array([1.0, 3.0])))
    2.0
    """
    count = ops.cast(ops.shape(values)[0], values.dtype)
    sums = global_sum(ops.stack([ops.sum(values), count]))
    return as_compiled(sums[0] / ops.stop_gradient(sums[1]))


def compiled_sum(values: Tensor) -> Tensor:
    """The sum over the global batch, for use in a compiled loss.

    Args:
        values: Tensor `(replica_batch,)`: the losses of this replica's samples.

    Returns:
        Scalar, `as_compiled`.

    Example:

    >>> float(keras_finegrain.distribution.compiled_sum(ops.array([1.0, 3.0])))
    4.0
    """
    return as_compiled(global_sum(ops.sum(values)))


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

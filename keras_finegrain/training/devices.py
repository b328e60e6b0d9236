"""One device or all of them."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import keras

from keras_finegrain.training.errors import TrainingError

Scope = Callable[[], AbstractContextManager]


class Devices(NamedTuple):
    """What a run trains on.

    Attributes:
        replicas: Number of devices that share a batch.
        scope: Gives the context in which models are built.
    """

    replicas: int
    scope: Scope


def prepare_devices(distribute: str, batch_size: int, xla: bool) -> Devices:
    """Prepares for the devices of this machine.

    Args:
        distribute: `"none"`, `"mirrored"` or `"auto"`: mirrored where there
            are several accelerators.
        batch_size: The global batch, which the devices share.
        xla: Whether the step is to be compiled.

    Returns:
        The `Devices`.

    Raises:
        TrainingError: If the devices cannot share a batch, or XLA cannot be
            had.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        if xla:
            raise TrainingError("--xla: PyTorch has none; take another backend")
        if distribute == "mirrored":
            raise TrainingError(
                "--distribute mirrored: Keras has none on PyTorch; take "
                "KERAS_BACKEND=tensorflow or jax"
            )
    one = Devices(1, contextlib.nullcontext)
    if distribute == "none" or backend == "torch":
        return one
    replicas, scope = _tensorflow() if backend == "tensorflow" else _jax()
    if distribute == "auto" and replicas < 2:
        return one
    if batch_size % replicas:
        raise TrainingError(
            f"--batch-size {batch_size}: must divide by the {replicas} devices"
        )
    if xla and backend == "tensorflow":
        raise TrainingError("--xla does not go with --distribute on TensorFlow")
    return Devices(replicas, scope())


def check_last_batches(
    replicas: int, batch_size: int, train_size: int, test_size: int
) -> None:
    """Raises `TrainingError` if the devices cannot share an epoch's last batch.

    `keras.distribution` shards no batch that does not divide by the devices.
    """
    if keras.backend.backend() != "jax":
        return
    for split, size in (("train", train_size), ("test", test_size)):
        last = size % batch_size
        if last % replicas:
            raise TrainingError(
                f"--distribute: {size} {split} images leave a last batch of "
                f"{last} at --batch-size {batch_size}, which must divide by "
                f"the {replicas} devices on JAX. Take another batch size, or "
                "KERAS_BACKEND=tensorflow"
            )


def _tensorflow() -> tuple[int, Callable[[], Scope]]:
    import tensorflow as tf

    # Without an accelerator, logical CPU devices count as well.
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = tf.config.list_logical_devices(kind)
    names = [device.name for device in devices]
    return len(names), lambda: tf.distribute.MirroredStrategy(names).scope


def _jax() -> tuple[int, Callable[[], Scope]]:
    def distribute() -> Scope:
        # Keras holds it for the whole process.
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        return contextlib.nullcontext

    return len(keras.distribution.list_devices()), distribute

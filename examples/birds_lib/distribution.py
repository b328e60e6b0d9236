"""One device or all of them."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import keras

from birds_lib.errors import RunError

Scope = Callable[[], AbstractContextManager]


def distribution_scope(distribute: str, batch_size: int, xla: bool) -> Scope:
    """Prepares for the devices of this machine.

    Args:
        distribute: `"none"`, `"mirrored"` or `"auto"`: mirrored where there
            are several accelerators.
        batch_size: The global batch, which the devices share.
        xla: Whether the step is to be compiled.

    Returns:
        A function that gives the context in which models are built.

    Raises:
        RunError: If the devices cannot share a batch, or XLA cannot be had.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        if xla:
            raise RunError("--xla: PyTorch has none; take another backend")
        if distribute == "mirrored":
            raise RunError(
                "--distribute mirrored: Keras has none on PyTorch; take "
                "KERAS_BACKEND=tensorflow or jax"
            )
    if distribute == "none" or backend == "torch":
        return contextlib.nullcontext
    replicas, scope = _tensorflow() if backend == "tensorflow" else _jax()
    if distribute == "auto" and replicas < 2:
        return contextlib.nullcontext
    if batch_size % replicas:
        raise RunError(
            f"--batch-size {batch_size}: must divide by the {replicas} devices"
        )
    if xla and backend == "tensorflow":
        raise RunError("--xla does not go with --distribute on TensorFlow")
    return scope()


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

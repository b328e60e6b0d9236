"""One device or all of them."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import keras

from keras_finegrain.training.errors import TrainingError

Scope = Callable[[], AbstractContextManager]


def prepare_devices(
    distribute: str, batch_size: int, xla: bool
) -> tuple[int, Scope]:
    """Prepares the devices of this machine for training.

    Args:
        distribute: `"none"`, `"mirrored"` or `"auto"`: mirrored where there
            are several accelerators.
        batch_size: Images in a batch, over all devices.
        xla: Whether XLA compiles the step.

    Returns:
        The number of devices that share a batch, and a function that returns
        the context in which models are built.

    Raises:
        TrainingError: If the devices cannot share a batch, or the backend
            cannot compile the step with XLA.
    """
    one = 1, contextlib.nullcontext
    backend = keras.backend.backend()
    if backend == "torch" and xla:
        raise TrainingError("--xla: PyTorch has none; take another backend")
    if backend == "torch" and distribute == "mirrored":
        raise TrainingError(
            "--distribute mirrored: Keras has none on PyTorch; take "
            "KERAS_BACKEND=tensorflow or jax"
        )
    if backend == "torch" or distribute == "none":
        return one
    names = _device_names()
    if distribute == "auto" and len(names) < 2:
        return one
    if batch_size % len(names):
        raise TrainingError(
            f"--batch-size {batch_size}: must divide by the {len(names)} "
            "devices"
        )
    if backend == "jax":
        # Keras keeps it for the whole process.
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        return len(names), contextlib.nullcontext
    if xla:
        raise TrainingError("--xla does not go with --distribute on TensorFlow")
    import tensorflow as tf

    return len(names), tf.distribute.MirroredStrategy(names).scope


def _device_names() -> list[str]:
    if keras.backend.backend() == "jax":
        return keras.distribution.list_devices()
    import tensorflow as tf

    # Without an accelerator, logical CPU devices count as well.
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def check_last_batches(
    replicas: int, batch_size: int, train_size: int, test_size: int
) -> None:
    """Raises `TrainingError` if the devices cannot share an epoch's last batch.

    On JAX each batch must divide by the devices.
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

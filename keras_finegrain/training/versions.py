"""Versions and device of a run, for its results."""

import os
import platform
from importlib import metadata
from typing import Any

import keras

_PACKAGES = (
    *("keras-finegrain", "keras", "tensorflow", "tensorflow-datasets"),
    *("jax", "torch", "numpy"),
)


def versions() -> dict[str, Any]:
    """The versions of Python and packages, the backend and the CPU count."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "cpu_count": os.cpu_count(),
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def device_name() -> str:
    """The device of the backend: "CPU", or the name of the first GPU."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return "CPU" if device.platform == "cpu" else device.device_kind
    if backend == "torch":
        import torch

        return (
            torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        )
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    details = tf.config.experimental.get_device_details(gpus[0])
    return details.get("device_name", "GPU")

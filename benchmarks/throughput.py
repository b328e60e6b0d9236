"""What each layer costs in a training step, on the device at hand.

    python benchmarks/throughput.py

times `fit` on a feature map of a ResNet-50 with 200 classes: without a layer
of ours, and with each, in float32 and mixed precision, with and without XLA,
on the backend of KERAS_BACKEND. Every time stands beside its ratio to the
plain model's, measured in turns. On a CPU only the ratios mean something.
"""

import argparse
import statistics
import time

import keras
import numpy as np
from heads import head

import keras_finegrain

CLASSES = 200
LAYERS = ("plain", "CenterLoss", "MCLoss", "SoftTriple")


def build(layer: str, side: int, channels: int, jit_compile: bool):
    """A model from a feature map to scores, compiled."""
    feature_map = keras.Input((side, side, channels))
    # Something to train below the layers.
    convolved = keras.layers.Conv2D(channels, 1)(feature_map)
    scores, loss = head(layer, convolved, CLASSES)
    model = keras_finegrain.Model(feature_map, scores)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9), loss, jit_compile=jit_compile
    )
    return model


class Batches(keras.utils.PyDataset):
    """The same batch again and again: no time goes into data."""

    def __init__(self, batch, steps: int) -> None:
        super().__init__()
        self._batch, self._steps = batch, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int):
        return self._batch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--side", type=int, default=7)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    shape = (options.batch_size, options.side, options.side, options.channels)
    batch = (
        generator.normal(size=shape).astype("float32"),
        generator.integers(0, CLASSES, options.batch_size).astype("int32"),
    )
    data = Batches(batch, options.steps)
    print(f"{keras.backend.backend()} on {device()}, Keras {keras.__version__}")
    print("\n| precision | XLA | layer | ms a step | ratio |")
    print("|---|---|---|---:|---:|")
    # On JAX the alternative to compiling is a step without any jit.
    only_compiled = keras.backend.backend() == "jax"
    for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        for jit_compile in (True,) if only_compiled else (False, True):
            models = {
                layer: build(layer, options.side, options.channels, jit_compile)
                for layer in LAYERS
            }
            for model in models.values():
                model.fit(data, verbose=0, shuffle=False)  # compiles
            seconds = {layer: [] for layer in LAYERS}
            for _ in range(options.rounds):
                for layer, model in models.items():
                    started = time.perf_counter()
                    model.fit(data, verbose=0, shuffle=False)
                    seconds[layer].append(time.perf_counter() - started)
            plain = statistics.median(seconds["plain"])
            for layer in LAYERS:
                median = statistics.median(seconds[layer])
                print(
                    f"| {policy} | {'yes' if jit_compile else 'no'} | {layer} "
                    f"| {1000 * median / options.steps:.2f} "
                    f"| {median / plain:.2f} |",
                    flush=True,
                )


def device() -> str:
    """The name of the first device."""
    if keras.backend.backend() == "torch":
        import torch

        cuda = torch.cuda.is_available()
        return torch.cuda.get_device_name() if cuda else "cpu"
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu"
    return tf.config.experimental.get_device_details(gpus[0])["device_name"]


if __name__ == "__main__":
    main()

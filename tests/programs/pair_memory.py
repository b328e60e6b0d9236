"""How much memory the losses on pairs take for one large batch.

    python -m tests.programs.pair_memory BATCH < losses.json

prints by how much the process grew in MB, at its highest, for one value and
gradient of each.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_finegrain  # noqa: F401  (registers the losses)
from tests.gradients import value_and_gradients


def main() -> None:
    batch = int(sys.argv[1])
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, 64)).astype("float32")
    peaks = {}
    for config in json.load(sys.stdin):
        loss = keras.losses.deserialize(config)
        # What the backend takes for itself.
        once(loss, x[: batch // 4])
        # The highest begins anew.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = resident("VmRSS")
        once(loss, x)
        peaks[loss.name] = resident("VmHWM") - before
    print(json.dumps(peaks))


def once(loss, x):
    labels = ops.convert_to_tensor(np.arange(len(x)) // 4)
    value, (gradient,) = value_and_gradients(
        as_in_fit(lambda x: loss(labels, x)), [x]
    )
    assert np.isfinite(value), loss.name
    assert np.isfinite(gradient).all(), loss.name


def as_in_fit(function):
    """A graph on TensorFlow, whose eager tape keeps all that was computed."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)


def resident(field: str) -> float:
    """Megabytes: `VmRSS` for now, `VmHWM` for the highest so far."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines[field].split()[0]) / 1024


if __name__ == "__main__":
    main()

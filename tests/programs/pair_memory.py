"""How much memory the losses on pairs take for one large batch.

    python -m tests.programs.pair_memory BATCH < losses.json

prints the growth of the process's peak in MB after each, for one value and
gradient.
"""

import json
import sys
import time

import keras
import numpy as np
from keras import ops

import keras_finegrain  # noqa: F401  (registers the losses)
from tests.gradients import value_and_gradients


def main() -> None:
    batch = int(sys.argv[1])
    generator = np.random.default_rng(0)
    labels = ops.convert_to_tensor(np.arange(batch) // 4)
    x = generator.normal(size=(batch, 64)).astype("float32")
    before, peaks = peak(), {}
    for config in json.load(sys.stdin):
        loss = keras.losses.deserialize(config)
        started = time.perf_counter()
        value, (gradient,) = value_and_gradients(
            as_in_fit(lambda x, loss=loss: loss(labels, x)), [x]
        )
        assert np.isfinite(value), loss.name
        assert np.isfinite(gradient).all(), loss.name
        peaks[loss.name] = peak() - before
        print(
            f"{loss.name}: {time.perf_counter() - started:.1f} s",
            file=sys.stderr,
        )
    print(json.dumps(peaks))


def as_in_fit(function):
    """A graph on TensorFlow, whose eager tape keeps all that was computed."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)


def peak() -> float:
    # (`ru_maxrss` begins with what the parent held.)
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    main()

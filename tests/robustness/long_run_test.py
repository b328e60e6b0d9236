"""Many steps, some of them on NaN: what is learned stays, memory too."""

import os
import pathlib

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import layers, losses

BACKEND = keras.backend.backend()
# docs/reliability.md gives the figures of 10,000.
STEPS = int(os.environ.get("KERAS_FINEGRAIN_STEPS", "500"))
MOST_MEGABYTES = 60
STATUS = pathlib.Path("/proc/self/statm")


class CountsCalls(keras.layers.Layer):
    """How often Python runs through it: once in a compiled step."""

    calls = 0

    def call(self, inputs):
        """The inputs."""
        self.calls += 1
        return inputs


def megabytes():
    pages = int(STATUS.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from Linux")
def test_nan_batches_leave_no_trace():
    """The optimizer passes over their gradients, the layers over their rows."""
    counter = CountsCalls()
    model = keras_finegrain.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Conv2D(6, 3, activation="relu"),
            layers.MCLoss(3),
            keras.layers.GlobalAveragePooling2D(),
            counter,
            layers.CenterLoss(3),
            layers.SoftTriple(3, 2),
        ]
    )
    model.compile(
        keras.optimizers.LossScaleOptimizer(
            # It halves the scale on NaN, and doubles it half way to the next.
            keras.optimizers.SGD(0.1),
            initial_scale=1.0,
            dynamic_growth_steps=25,
        ),
        losses.SoftTripleLoss(),
    )
    draw = np.random.default_rng(0)
    classes = draw.normal(size=(3, 4, 4, 3))
    warm_up, nan_steps = 50, 0
    for step in range(STEPS):
        labels = draw.integers(0, 3, 16)
        images = classes[labels] + draw.normal(size=(16, 4, 4, 3)) / 4
        if step % 50 == 30:
            images[:4] = np.nan
            nan_steps += 1
        loss, *_ = model.train_on_batch(images.astype("float32"), labels)
        if step == 0:
            first = float(loss)
        if step == warm_up:
            before, calls = megabytes(), counter.calls

    assert nan_steps == STEPS // 50
    for weight in model.weights:
        assert np.isfinite(keras.ops.convert_to_numpy(weight)).all(), (
            weight.path
        )
    last, *_ = model.evaluate(
        classes[labels].astype("float32"), labels, verbose=0
    )
    assert float(last) < 0.5 * first
    grown = megabytes() - before
    print(f"{STEPS} steps, {nan_steps} on NaN: {grown:.1f} MB more")
    assert grown < MOST_MEGABYTES
    if BACKEND != "torch":
        assert counter.calls - calls <= 1  # evaluate()'s own

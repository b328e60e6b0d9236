import keras
import numpy as np
import pytest
from keras import ops

from keras_finegrain._ops.random import uniform


def test_numbers_are_uniform_and_new_at_each_draw():
    seed = keras.random.SeedGenerator(1)
    draws = np.stack(
        [ops.convert_to_numpy(uniform((64, 64), seed)) for _ in range(4)]
    )
    assert draws.min() >= 0
    assert draws.max() < 1
    assert len(np.unique(draws)) > 0.99 * draws.size
    # Five standard deviations of the count in each of ten bins.
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    expected = draws.size / 10
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected * 0.9)
    # Neighbours and draws are not correlated: |r| < 5/√n.
    flat = draws.reshape(4, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 5 / np.sqrt(64 * 64)
    for one in flat:
        neighbours = np.corrcoef(one[:-1], one[1:])[0, 1]
        assert abs(neighbours) < 5 / np.sqrt(64 * 64)


def test_neighbouring_seeds_draw_different_numbers():
    first, second = (ops.convert_to_numpy(uniform((100,), s)) for s in (1, 2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5
    np.testing.assert_array_equal(
        first, ops.convert_to_numpy(uniform((100,), 1))
    )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="about TensorFlow's XLA"
)
def test_xla_draws_the_same_numbers():
    import tensorflow as tf

    def draw(seed):
        return tf.function(lambda: uniform((5, 3), seed), jit_compile=seed is b)

    a, b = keras.random.SeedGenerator(3), keras.random.SeedGenerator(3)
    plain, compiled = draw(a), draw(b)
    for _ in range(3):
        np.testing.assert_array_equal(plain(), compiled())

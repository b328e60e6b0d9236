"""Random numbers that do not depend on how a step is compiled."""

import math
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.typing import Tensor


def uniform(shape: tuple[int, ...], seed: Any) -> Tensor:
    """Draws from [0, 1), alike with `jit_compile=True` and without.

    `keras.random.uniform` has this property on JAX and PyTorch. TensorFlow's
    stateless generators draw other numbers under XLA than outside of it, for
    the same seed and algorithm; there the numbers come from SplitMix64.

    Args:
        shape: Shape of the result.
        seed: A `keras.random.SeedGenerator`, or an int.

    Returns:
        float32 tensor.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.random.uniform(shape, seed=seed)
    import tensorflow as tf

    state = (
        seed.next()
        if isinstance(seed, keras.random.SeedGenerator)
        else tf.constant((seed, 0))
    )
    state = tf.cast(state, "int64")
    stream = _splitmix64(_splitmix64(state[0]) + state[1])
    bits = _splitmix64(stream + tf.range(math.prod(shape), dtype="int64"))
    # The upper 24 bits are what a float32 in [0, 1) can hold.
    return tf.reshape(tf.cast(_shift(bits, 40), "float32") / 2.0**24, shape)


def _splitmix64(numbers: Tensor) -> Tensor:
    """A step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17).

    Args:
        numbers: int64 tensor; sums and products wrap around.

    Returns:
        int64 tensor of mixed bits.
    """
    mixed = numbers * _int64(0x9E3779B97F4A7C15) + _int64(0x9E3779B97F4A7C15)
    mixed = _xor(mixed, _shift(mixed, 30)) * _int64(0xBF58476D1CE4E5B9)
    mixed = _xor(mixed, _shift(mixed, 27)) * _int64(0x94D049BB133111EB)
    return _xor(mixed, _shift(mixed, 31))


def _shift(numbers: Tensor, count: int) -> Tensor:
    """Shifts to the right and fills in zeros: int64 would fill in its sign."""
    import tensorflow as tf

    shifted = tf.bitwise.right_shift(numbers, _int64(count))
    return tf.bitwise.bitwise_and(shifted, _int64((1 << (64 - count)) - 1))


def _xor(first: Tensor, second: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.bitwise.bitwise_xor(first, second)


def _int64(bits: int) -> np.int64:
    """The int64 with these 64 bits."""
    return np.uint64(bits).astype("int64")

"""Random numbers that do not depend on how a step is compiled."""

from typing import Any

import keras

from keras_finegrain._typing import Tensor


def uniform(shape: tuple[int, ...], seed: Any) -> Tensor:
    """Draws from [0, 1), alike with `jit_compile=True` and without.

    `keras.random.uniform` lets TensorFlow select the algorithm, and it selects
    another one under XLA.

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
    state = tf.cast(state, "uint64")
    # With the key and the counter given, both compilers draw the same numbers;
    # they differ in how they derive these from a seed.
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=shape,
        key=state[:1],
        counter=tf.stack([tf.zeros_like(state[1]), state[1]]),
        alg=tf.random.Algorithm.PHILOX.value,
    )

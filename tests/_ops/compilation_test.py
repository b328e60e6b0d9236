"""Whether XLA compiles is asked of the backend, not of the caller."""

import keras
import pytest

from keras_finegrain._ops.compilation import is_compiled_by_xla

BACKEND = keras.backend.backend()


def test_outside_of_a_compiled_step_only_jax_has_xla():
    assert is_compiled_by_xla() == (BACKEND == "jax")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others have no choice")
@pytest.mark.parametrize("jit_compile", [True, False, None])
def test_a_function_of_tensorflow_says_how_it_is_compiled(jit_compile):
    import tensorflow as tf

    seen = []

    @tf.function(jit_compile=jit_compile)
    def step(x):
        seen.append(is_compiled_by_xla())
        return tf.while_loop(lambda x: x < 3.0, inner, (x,))[0]

    def inner(x):
        seen.append(is_compiled_by_xla())
        return (x + 1.0,)

    step(tf.constant(0.0))
    assert set(seen) == {bool(jit_compile)}

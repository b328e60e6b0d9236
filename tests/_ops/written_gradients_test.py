"""Functions that bring their own gradient."""

import keras
import numpy as np
from keras import ops

from keras_finegrain._ops.written_gradients import with_gradient
from tests.gradients import value_and_gradients

BACKEND = keras.backend.backend()
X = np.array([1.0, -2.0, 3.0], "float32")


@with_gradient
def sum_of_cubes(x):
    squares = x * x

    def gradient(upstream):
        return (3.0 * upstream * squares,)

    return ops.sum(squares * x), gradient


def test_the_written_gradient_is_the_gradient():
    value, (gradient,) = value_and_gradients(sum_of_cubes, [X])

    assert value == 20.0
    assert gradient.tolist() == [3.0, 12.0, 27.0]


def test_the_gradient_can_be_derived_again():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(X)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = sum_of_cubes(x)
            gradient = tf.reduce_sum(inner.gradient(value, x))
        second = outer.gradient(gradient, x)
    elif BACKEND == "torch":
        import torch

        x = torch.tensor(X, requires_grad=True)
        (gradient,) = torch.autograd.grad(sum_of_cubes(x), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), x)
    else:
        import jax

        second = jax.grad(lambda x: jax.grad(sum_of_cubes)(x).sum())(X)

    np.testing.assert_allclose(second, 6.0 * X)

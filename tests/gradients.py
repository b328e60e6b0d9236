"""Gradients of a function of arrays, on whichever backend runs the tests."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np


def value_and_gradients(
    function: Callable[..., Any], arrays: Sequence[np.ndarray]
) -> tuple[float, list[np.ndarray]]:
    """The value of a scalar function and its gradient for each array."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(g) for g in gradients]
    elif backend == "jax":
        import jax

        # (Operation by operation every one would be compiled.)
        value, gradients = jax.jit(
            jax.value_and_grad(function, argnums=tuple(range(len(arrays))))
        )(*arrays)
    else:
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        value = function(*tensors)
        gradients = torch.autograd.grad(value, tensors, allow_unused=True)
        gradients = [
            torch.zeros_like(t) if g is None else g
            for g, t in zip(gradients, tensors, strict=True)
        ]
        value = value.detach()
    return float(value), [keras.ops.convert_to_numpy(g) for g in gradients]


def layer_losses(
    layer: keras.layers.Layer,
    weights: Sequence[Any],
    *inputs: Any,
    training: bool = False,
) -> tuple[Any, Any]:
    """The output and the sum of the losses of a layer with given weights."""
    mapping = list(zip(layer.trainable_variables, weights, strict=True))
    with keras.StatelessScope(
        state_mapping=mapping, collect_losses=True
    ) as scope:
        output = layer(*inputs, training=training)
        losses = list(scope.losses) + layer._get_regularization_losses()
    return output, sum(losses)


def gradient_and_slope(
    function: Callable[..., Any], direction: np.ndarray
) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """Makes of a scalar function its gradient g, and that of g · direction."""
    backend = keras.backend.backend()

    def by_tensorflow(x: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x)
            gradient = tf.convert_to_tensor(inner.gradient(value, x))
            along = tf.reduce_sum(gradient * direction)
        slope = outer.gradient(along, x, unconnected_gradients="zero")
        return gradient, tf.convert_to_tensor(slope)

    def by_jax(x: Any) -> tuple[Any, Any]:
        import jax

        gradient, slope_of = jax.vjp(jax.grad(function), x)
        return gradient, slope_of(direction)[0]

    def by_torch(x: Any) -> tuple[Any, Any]:
        import torch

        x = torch.as_tensor(x).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
        along = (gradient * torch.as_tensor(direction)).sum()
        if not along.requires_grad:
            return gradient, torch.zeros_like(x)
        return gradient, torch.autograd.grad(along, x)[0]

    derive = {
        "tensorflow": by_tensorflow,
        "jax": by_jax,
        "torch": by_torch,
    }[backend]
    if backend == "jax":
        import jax

        derive = jax.jit(derive)
    return lambda x: tuple(map(keras.ops.convert_to_numpy, derive(x)))

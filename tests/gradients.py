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


def gradients_and_their_slopes(
    function: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    directions: Sequence[np.ndarray],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The gradient of a scalar function, and the derivative of it.

    Args:
        function: Of as many tensors as there are arrays.
        arrays: The point.
        directions: v, of the shapes of the arrays.

    Returns:
        The gradient g for each array, and the gradient of Σ v·g.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        numbers = tuple(range(len(arrays)))
        gradient = jax.grad(function, argnums=numbers)

        def slope(*tensors: Any) -> Any:
            pairs = zip(gradient(*tensors), directions, strict=True)
            return sum((g * v).sum() for g, v in pairs)

        first, second = jax.jit(
            lambda *tensors: (
                gradient(*tensors),
                jax.grad(slope, argnums=numbers)(*tensors),
            )
        )(*arrays)
    elif backend == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as outer:
            outer.watch(tensors)
            with tf.GradientTape() as inner:
                inner.watch(tensors)
                value = function(*tensors)
            first = inner.gradient(value, tensors, unconnected_gradients="zero")
            first = [tf.convert_to_tensor(g) for g in first]
            pairs = zip(first, directions, strict=True)
            total = sum(tf.reduce_sum(g * v) for g, v in pairs)
        second = outer.gradient(total, tensors, unconnected_gradients="zero")
        second = [tf.convert_to_tensor(g) for g in second]
    else:
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        first = torch.autograd.grad(
            function(*tensors),
            tensors,
            create_graph=True,
            materialize_grads=True,
        )
        pairs = zip(first, directions, strict=True)
        total = sum((g * torch.tensor(v)).sum() for g, v in pairs)
        second = [torch.zeros_like(t) for t in tensors]
        if total.requires_grad:
            second = torch.autograd.grad(total, tensors, materialize_grads=True)
        first = [g.detach() for g in first]
    return (
        [keras.ops.convert_to_numpy(g) for g in first],
        [keras.ops.convert_to_numpy(g) for g in second],
    )

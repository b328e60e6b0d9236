"""The gradient of a function of one tensor, on the backend in use."""

from collections.abc import Callable

import keras

from keras_finegrain._base.typing import Tensor


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Differentiates a function whose value is a scalar.

    Args:
        function: Takes a tensor, returns a scalar. It is called once and not
            compiled.
        at: Tensor of floats at which the gradient is taken.

    Returns:
        Tensor of the shape and dtype of `at`; zero where the function does
        not depend on it.

    Example:

    >>> slope = gradient(lambda x: ops.sum(x**2), ops.array([1.0, 3.0]))
    >>> ops.convert_to_numpy(slope).tolist()
    [2.0, 6.0]
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(at)
            value = function(at)
        return tape.gradient(value, at, unconnected_gradients="zero")
    if backend == "jax":
        import jax

        return jax.grad(function)(at)
    if backend == "torch":
        import torch

        with torch.enable_grad():
            at = at.detach().requires_grad_()
            value = function(at)
            if not value.requires_grad:
                return torch.zeros_like(at)
            return torch.autograd.grad(value, at, materialize_grads=True)[0]
    raise NotImplementedError(
        "gradient: the Keras backend must be tensorflow, jax or torch, "
        f"received {backend!r}. Set KERAS_BACKEND."
    )

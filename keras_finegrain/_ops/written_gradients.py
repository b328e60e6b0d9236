"""Functions whose gradient is written out, for every backend."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.typing import Tensor


def with_gradient(
    function: Callable[..., tuple[Tensor, Callable[[Tensor], Any]]],
) -> Callable[..., Tensor]:
    """A function that brings its own gradient.

    For where the gradient that a backend derives takes more passes over memory,
    or more products of matrices, than it has to. It can be derived again on
    TensorFlow and JAX, and there is no forward mode (`jax.jvp`).

    Args:
        function: Takes tensors, and returns one tensor and the function that
            turns its upstream gradient into those of the tensors, a tuple of as
            many. It may close over constants, but not over variables.

    Returns:
        A function of the same tensors that returns the one tensor.

    Example:

    >>> from keras_finegrain._ops.written_gradients import with_gradient
    >>> def square(x):
    ...     return x * x, lambda upstream: (2.0 * x * upstream,)
    >>> float(with_gradient(square)(ops.array(3.0)))
    9.0
    """

    def forward(*tensors: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        output, gradient = function(*tensors)

        def backward(*upstream: Tensor, **named: Tensor) -> Any:
            _refuse_second_derivative()
            # Keras names it on PyTorch, where the tensors come along too.
            gradients = gradient(named.get("upstream", upstream[0]))
            return gradients if len(tensors) > 1 else gradients[0]

        return output, backward

    return ops.custom_gradient(forward)


def _refuse_second_derivative() -> None:
    # What the gradient closes over was made outside of PyTorch's autograd: its
    # derivative would lack terms, and nobody would be told.
    if keras.backend.backend() != "torch":
        return
    import torch

    # Only under `create_graph=True`.
    if torch.is_grad_enabled():
        raise NotImplementedError(
            "keras_finegrain: this gradient is written out and cannot be "
            "derived again on PyTorch; received create_graph=True. Second "
            "derivatives need TensorFlow or JAX."
        )

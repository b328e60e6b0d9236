"""Functions whose gradient is written out, for every backend."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_finegrain._base.typing import Tensor


def with_gradient(
    function: Callable[..., tuple[Tensor, Callable[[Tensor], Any]]],
) -> Callable[..., Tensor]:
    """A function that brings its own gradient.

    For where the gradient that a backend derives takes more passes over memory,
    or more products of matrices, than it has to. It can be derived again. There
    is no forward mode (`jax.jvp`).

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

        def backward(*arguments: Tensor, **named: Tensor) -> Any:
            derive, upstream = gradient, arguments[0]
            if "upstream" in named:
                # Keras calls it so on PyTorch, with the tensors.
                upstream = named["upstream"]
                if _is_derived_again():
                    # What `gradient` closes over was made outside of autograd:
                    # its derivative would lack terms.
                    _, derive = function(*arguments)
            gradients = derive(upstream)
            return gradients if len(tensors) > 1 else gradients[0]

        return output, backward

    return ops.custom_gradient(forward)


def _is_derived_again() -> bool:
    """Whether PyTorch records this gradient: under `create_graph=True`."""
    import torch

    return bool(torch.is_grad_enabled())

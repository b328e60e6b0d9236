"""Functions whose gradient is written out, for every backend."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

from keras import ops

from keras_finegrain._base.typing import Tensor

_forward_only = contextvars.ContextVar("forward_only", default=False)


@contextlib.contextmanager
def forward_only() -> Iterator[None]:
    """Functions called inside leave their written gradients away.

    For graphs that are only run: TensorFlow would warn of each such gradient
    where an exported graph is loaded, and PyTorch's exporter to ONNX stops.
    """
    token = _forward_only.set(True)
    try:
        yield
    finally:
        _forward_only.reset(token)


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

    differentiable = ops.custom_gradient(forward)

    @functools.wraps(function)
    def call(*tensors: Tensor) -> Tensor:
        if _forward_only.get():
            return function(*tensors)[0]
        return differentiable(*tensors)

    return call


def _is_derived_again() -> bool:
    """Whether PyTorch records this gradient: under `create_graph=True`."""
    import torch

    return bool(torch.is_grad_enabled())

"""Cosines of centers whose unit vectors are never written down.

A copy of the centers at unit length is as large as they are, and its gradient
takes several passes over both. Here the centers enter the products as they
stand, and the products, which are few beside them, are divided by the lengths.
"""

from typing import Any

from keras import ops

from keras_finegrain._gradients import with_gradient
from keras_finegrain._math import inverse_length
from keras_finegrain._typing import Tensor

# The products within a class are taken over as many dimensions at a time. They
# are far smaller than what libraries for matrices are made for: measured with
# ten centers of 512 dimensions, a step in short pieces is faster in TensorFlow
# graphs and on JAX, and slower under TensorFlow's XLA.
BLOCK = 64


@with_gradient
def cosines_with_centers(
    embeddings: Tensor, centers: Tensor
) -> tuple[Tensor, Any]:
    """The cosine of each center with each embedding.

    Args:
        embeddings: x `(batch, dim)`, of unit length.
        centers: w `(num_classes, centers_per_class, dim)`, of any length.

    Returns:
        Tensor `(num_classes, centers_per_class, batch)`: the order in which
        the product is fastest, and sums over a class's centers run along whole
        batches. A zero center has the cosine 0 and the gradient 0.
    """
    shape = tuple(centers.shape)
    # As a matrix: with the class as an axis of its own some libraries make a
    # product for each class, which takes many times as long.
    centers = ops.reshape(centers, (-1, shape[-1]))
    # (Squares and a sum of them would write a copy of the centers.)
    squared = ops.einsum("nd,nd->n", centers, centers)
    inverse = inverse_length(squared)[:, None]
    products = ops.einsum("nd,bd->nb", centers, embeddings)

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
        # ∂cos/∂x = w / ‖w‖,  ∂cos/∂w = x / ‖w‖ − (x·w) w / ‖w‖³
        scaled = ops.reshape(upstream, ops.shape(products)) * inverse
        along = ops.sum(scaled * products, axis=-1, keepdims=True)
        along = along * inverse * inverse
        of_centers = ops.einsum("nb,bd->nd", scaled, embeddings)
        return (
            ops.einsum("nb,nd->bd", scaled, centers),
            ops.reshape(of_centers - along * centers, shape),
        )

    cosine = ops.reshape(products * inverse, (*shape[:-1], -1))
    return cosine, gradient


@with_gradient
def cosines_within_classes(centers: Tensor) -> tuple[Tensor, Any]:
    """The cosines of each class's centers with one another.

    Args:
        centers: w `(num_classes, centers_per_class, dim)`, of any length.

    Returns:
        Tensor `(num_classes, centers_per_class, centers_per_class)`. A zero
        center has the cosine 0 with all and the gradient 0.
    """
    products = _products_within_classes(centers)
    diagonal = ops.eye(centers.shape[1], dtype=centers.dtype)
    squared = ops.sum(products * diagonal, axis=-1, keepdims=True)
    inverse = inverse_length(squared)
    across = ops.swapaxes(inverse, 1, 2)
    cosine = products * inverse * across

    def gradient(upstream: Tensor) -> tuple[Tensor]:
        # A pair stands in both triangles: a_st = (u_st + u_ts) / (‖w_s‖ ‖w_t‖)
        # and dw_s = Σ_t a_st w_t − (Σ_t (u_st + u_ts) cos_st) w_s / ‖w_s‖².
        both = upstream + ops.swapaxes(upstream, 1, 2)
        along = ops.sum(both * cosine, axis=-1, keepdims=True)
        # The last term is the diagonal of a: one product gives them all.
        weights = (both - along * diagonal) * inverse * across
        return (ops.einsum("cst,ctd->csd", weights, centers),)

    return cosine, gradient


def read_centers(variable: Tensor) -> Tensor:
    """The value of a variable, or a tensor as it is.

    (On TensorFlow `ops.convert_to_tensor` leaves a variable a variable. Each
    operation would read it anew, and a written gradient takes tensors only.)

    Args:
        variable: Variable or tensor of a known shape.
    """
    return ops.reshape(variable, variable.shape)


def _products_within_classes(centers: Tensor) -> Tensor:
    """w_cs·w_ct `(num_classes, centers_per_class, centers_per_class)`.

    (The blocks are a copy of the centers in another order. It is let go before
    the gradient, which is as large, is made.)
    """
    num_classes, count, dim = tuple(centers.shape)
    if dim % BLOCK or dim == BLOCK:
        return ops.einsum("csd,ctd->cst", centers, centers)
    blocks = ops.swapaxes(
        ops.reshape(centers, (num_classes, count, dim // BLOCK, BLOCK)), 1, 2
    )
    return ops.sum(ops.einsum("cnsd,cntd->cnst", blocks, blocks), axis=1)

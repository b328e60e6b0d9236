"""Cosines of centers whose unit vectors are never written down.

A copy of the centers at unit length is as large as they are, and its gradient
takes several passes over both. Here the centers enter the products as they
stand, and the products, which are few beside them, are divided by the lengths.
"""

from typing import Any

from keras import ops

from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import inverse_length
from keras_finegrain._ops.written_gradients import with_gradient

# The products within a class are taken over as many dimensions at a time. They
# are far smaller than what libraries for matrices are made for: measured with
# ten centers of 512 dimensions, a step in short pieces is faster in TensorFlow
# graphs and on JAX, and slower under TensorFlow's XLA.
BLOCK = 64
# And for so few centers a product for each is faster everywhere.
FEW = 3


@with_gradient
def squared_lengths(centers: Tensor) -> tuple[Tensor, Any]:
    """‖w‖² `(num_classes, centers_per_class)`.

    Args:
        centers: w `(num_classes, centers_per_class, dim)`.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor]:
        return (2.0 * upstream[..., None] * centers,)

    # (Squares and a sum of them would write a copy of the centers.)
    return ops.einsum("ckd,ckd->ck", centers, centers), gradient


@with_gradient
def products_within_classes(centers: Tensor) -> tuple[Tensor, Any]:
    """w_cs·w_ct `(num_classes, centers_per_class, centers_per_class)`.

    ‖w‖² stands on the diagonal: what needs both reads the centers once.

    Args:
        centers: w `(num_classes, centers_per_class, dim)`.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor]:
        # dw_s = Σ_t (u_st + u_ts) w_t
        both = upstream + ops.swapaxes(upstream, 1, 2)
        if count == 1:
            return (both * centers,)
        return (ops.einsum("cst,ctd->csd", both, centers),)

    num_classes, count, dim = tuple(centers.shape)
    if count == 1:
        squared = ops.einsum("ckd,ckd->ck", centers, centers)
        return squared[..., None], gradient
    if count <= FEW:
        rows = [
            ops.einsum("cd,ctd->ct", centers[:, index], centers)
            for index in range(count)
        ]
        return ops.stack(rows, axis=1), gradient
    if dim % BLOCK or dim == BLOCK:
        return ops.einsum("csd,ctd->cst", centers, centers), gradient
    # (A copy of the centers in another order. It is let go before the
    # gradient, which is as large, is made.)
    blocks = ops.swapaxes(
        ops.reshape(centers, (num_classes, count, dim // BLOCK, BLOCK)), 1, 2
    )
    products = ops.einsum("cnsd,cntd->cnst", blocks, blocks)
    return ops.sum(products, axis=1), gradient


def lengths_on_diagonal(products: Tensor) -> Tensor:
    """‖w‖² `(num_classes, centers_per_class)` of products within classes."""
    diagonal = ops.eye(products.shape[-1], dtype=products.dtype)
    return ops.sum(products * diagonal, axis=-1)


def cosines_within_classes(products: Tensor) -> Tensor:
    """The cosines of each class's centers with one another.

    Args:
        products: Of `products_within_classes`.

    Returns:
        Tensor `(num_classes, centers_per_class, centers_per_class)`. A zero
        center has the cosine 0 with all and the gradient 0.
    """
    inverse = inverse_length(lengths_on_diagonal(products))
    return products * inverse[:, :, None] * inverse[:, None, :]


@with_gradient
def cosines_with_centers(
    embeddings: Tensor, centers: Tensor, squared: Tensor
) -> tuple[Tensor, Any]:
    """The cosine of each center with each embedding.

    Args:
        embeddings: x `(batch, dim)`, of unit length.
        centers: w `(num_classes, centers_per_class, dim)`, of any length.
        squared: ‖w‖² `(num_classes, centers_per_class)`.

    Returns:
        Tensor `(num_classes, centers_per_class, batch)`: the order in which
        the product is fastest, and sums over a class's centers run along whole
        batches. A zero center has the cosine 0 and the gradient 0.
    """
    shape = tuple(centers.shape)
    # As a matrix: with the class as an axis of its own some libraries make a
    # product for each class, which takes many times as long.
    centers = ops.reshape(centers, (-1, shape[-1]))
    inverse = ops.reshape(inverse_length(squared), (-1, 1))
    products = ops.einsum("nd,bd->nb", centers, embeddings)

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # ∂cos/∂x = w / ‖w‖,  ∂cos/∂w = x / ‖w‖,  ∂cos/∂‖w‖² = −(x·w) / 2‖w‖³
        scaled = ops.reshape(upstream, ops.shape(products)) * inverse
        along = ops.sum(scaled * products, axis=-1, keepdims=True)
        of_squared = -0.5 * along * inverse * inverse
        of_centers = ops.einsum("nb,bd->nd", scaled, embeddings)
        return (
            ops.einsum("nb,nd->bd", scaled, centers),
            ops.reshape(of_centers, shape),
            ops.reshape(of_squared, shape[:-1]),
        )

    cosine = ops.reshape(products * inverse, (*shape[:-1], -1))
    return cosine, gradient


def read_centers(variable: Tensor) -> Tensor:
    """The value of a variable, or a tensor as it is.

    (On TensorFlow `ops.convert_to_tensor` leaves a variable a variable. Each
    operation would read it anew, and a written gradient takes tensors only.)

    Args:
        variable: Variable or tensor of a known shape.
    """
    return ops.reshape(variable, variable.shape)

"""Regularizers of weights that hold several centers for each class."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number, refuse_no_floats
from keras_finegrain._base.representation import shown_with_arguments
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.center_cosines import (
    cosines_within_classes,
    products_within_classes,
    read_centers,
)
from keras_finegrain._ops.numerics import unit_distance

__all__ = [
    "CenterMerging",
    "center_spread",
]


def __dir__() -> list[str]:
    return __all__


def center_spread(centers: Tensor) -> Tensor:
    """Half the mean distance between the centers of one class.

    (Qian et al. 2019, equation 9, before τ:)

        Σ_c Σ_{s<t} √(2 − 2 w_cs·w_ct) / (C·K·(K−1))

    on centers w of unit length; √(2 − 2 w_s·w_t) is their Euclidean distance.
    As the sum runs over K(K−1)/2 pairs, this is half of the mean distance.

    Args:
        centers: Tensor `(num_classes, centers_per_class, dim)`.

    Returns:
        Scalar in [0, 1]; 0 with one center per class. Time O(C·K²·D), memory
        O(C·K·(K + D)). Where two centers coincide their distance has the
        gradient 0.

    Example:

    >>> centers = ops.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> print(round(float(
    ...     keras_finegrain.regularizers.center_spread(centers)), 4))
    0.7071
    """
    who = "center_spread"
    refuse_no_floats(who, "centers", centers)
    centers = centers if hasattr(centers, "shape") else ops.array(centers)
    if len(centers.shape) != 3:
        raise ValueError(
            f"{who}: centers must have the shape (num_classes, "
            f"centers_per_class, dim), received {tuple(centers.shape)}."
        )
    return spread_of_products(products_within_classes(read_centers(centers)))


def spread_of_products(products: Tensor) -> Tensor:
    """`center_spread` where the products of the centers are known.

    Args:
        products: w_cs·w_ct `(num_classes, centers_per_class,
            centers_per_class)`, of centers of any length.

    Returns:
        Scalar in [0, 1].

    Example:

    >>> products = ops.array([[[1.0, 0.0], [0.0, 4.0]]])
    >>> print(round(float(
    ...     keras_finegrain.regularizers.spread_of_products(products)), 4))
    0.7071
    """
    num_classes, count, _ = tuple(products.shape)
    if count == 1:
        return ops.zeros((), dtype=products.dtype)
    distance = unit_distance(cosines_within_classes(products))
    # Each pair stands in both triangles; the diagonal is 0 but for rounding.
    apart = 1.0 - ops.eye(count, dtype=products.dtype)
    pairs = 2 * num_classes * count * (count - 1)
    return ops.sum(apart * distance) / pairs


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CenterMerging(keras.regularizers.Regularizer):
    """Pulls the centers of one class together until the data holds them apart.

    The regularizer of SoftTriple (Qian et al. 2019, equation 9),

        R = tau · Σ_c Σ_{s<t} √(2 − 2 w_cs·w_ct) / (C·K·(K−1))

    on the centers scaled to unit length. As the distance enters by itself and
    not by its square, centers that the data does not need apart meet and stay
    together: a class ends with as many distinct centers as it has modes.

    The official code adds 1e-5 under the root; this one is exact, and gives
    centers that coincide the gradient 0.

    Args:
        tau: τ, at least 0. Default 0.2, the paper's.

    Raises:
        ValueError: If `tau` is negative, or if it is applied to a weight that
            is not of the shape `(num_classes, centers_per_class, dim)`.

    Example:

    >>> regularizer = keras_finegrain.regularizers.CenterMerging(tau=0.2)
    >>> float(regularizer(ops.ones((5, 3, 4))))
    0.0

    Reference:
        - [Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet
          Sampling", ICCV 2019](https://arxiv.org/abs/1909.05235)
    """

    def __init__(self, tau: float = 0.2) -> None:
        self.tau = number(type(self).__name__, "tau", tau, at_least=0)

    def __call__(self, centers: Tensor) -> Tensor:
        """R of centers `(num_classes, centers_per_class, dim)`, a scalar."""
        if len(centers.shape) != 3:
            raise ValueError(
                f"{type(self).__name__} needs centers of the shape "
                "(num_classes, centers_per_class, dim), received the shape "
                f"{tuple(centers.shape)}."
            )
        return self.tau * center_spread(centers)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"tau": self.tau}

    def __repr__(self) -> str:
        return shown_with_arguments(self)

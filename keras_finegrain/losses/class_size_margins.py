"""Margins for long tails: the smaller a class, the larger its margin."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.checks import number, real_array, shown


def class_size_margins(
    counts: Sequence[int],
    largest: float = 0.5,
    smallest: float = 0.0,
    power: float = 0.25,
) -> tuple[float, ...]:
    """Margins that grow as classes shrink, one for each class.

    A class of few samples is learned less well than its scores on them say; a
    larger margin keeps more room around it. With n_c samples of class c and n
    those of the smallest class,

        m_c = smallest + (largest − smallest) · (n / n_c)^power

    With `smallest=0` these are the margins of LDAM (label-distribution-aware
    margins): `CosFaceLoss` with them and the scale 30 is the authors' loss.
    With `smallest` above 0 they are the dynamic margins of the winners of the
    Google Landmark recognition of 2020, for `ArcFaceLoss` on a head with
    sub-centers.

    Args:
        counts: Samples of each class, at least 1 each.
        largest: The margin of the smallest class, at least `smallest`.
            Default 0.5, LDAM's.
        smallest: What the margin of a class approaches as it grows, at least
            0. Default 0.
        power: In (0, 1]. Default 1/4, both papers'.

    Returns:
        Margins, for the argument `margin` of a loss.

    Raises:
        ValueError: For an argument out of its range.

    Example:

    >>> margins = keras_finegrain.losses.class_size_margins([1, 16, 256])
    >>> margins
    (0.5, 0.25, 0.125)
    >>> loss = keras_finegrain.losses.CosFaceLoss(scale=30, margin=margins)

    Reference:
        - [Cao et al., "Learning Imbalanced Datasets with
          Label-Distribution-Aware Margin Loss", NeurIPS 2019, equation 11](
          https://arxiv.org/abs/1906.07413)
        - [Ha et al., "Google Landmark Recognition 2020 Competition Third
          Place Solution", 2020, section 3.2](
          https://arxiv.org/abs/2010.05350)
    """
    who = "class_size_margins"
    sizes = class_sizes(who, "counts", counts)
    smallest = number(who, "smallest", smallest, at_least=0)
    largest = number(who, "largest", largest, at_least=smallest)
    power = number(who, "power", power, above=0, at_most=1)
    shares = (sizes.min() / sizes) ** power
    margins = smallest + (largest - smallest) * shares
    return tuple(float(margin) for margin in np.minimum(margins, largest))


def class_sizes(who: str, name: str, counts: Any) -> np.ndarray:
    """The numbers of samples of the classes, float64 `(num_classes,)`.

    Args:
        who: What the counts were given to, for error messages.
        name: Name of the argument, for error messages.
        counts: A sequence or array.

    Raises:
        ValueError: If they are no finite numbers of at least 1.
    """
    sizes = real_array(who, name, counts)
    valid = sizes.ndim == 1 and sizes.size > 0
    if not valid or not ((sizes >= 1) & np.isfinite(sizes)).all():
        raise ValueError(
            f"{who}: {name} must be the number of samples of each class, at "
            f"least 1 each, received {shown(counts)}. Leave classes without "
            "samples out, or count them as 1."
        )
    return sizes.astype("float64")

"""How the score of a network changes when a part is deleted."""

from typing import Any

import numpy as np

from keras_finegrain.labels.forms import integer_labels
from keras_finegrain.metrics.map_cells import check_indices, finite_values


def part_deletion_drops(
    probabilities: Any, probabilities_without: Any, labels: Any
) -> np.ndarray:
    """How much the probability of the true class drops without each part.

    ```
    drop_ip = P(y_i | image i) − P(y_i | image i without part p)
    ```

    Its mean over the images, `drops.mean(axis=0)`, shows how much each part
    counts. It is negative where the class is more probable without the part.

    Args:
        probabilities: Array or tensor of any backend, `(images, classes)`, of
            the whole images.
        probabilities_without: `(images, parts, classes)`, of the images
            without each part: those of `draw(…, without=(part,))`.
        labels: Integers `(images,)` in [0, classes).

    Returns:
        Floats `(images, parts)` in [−1, 1].

    Raises:
        ValueError: If the shapes do not fit, a label is not in [0, classes),
            or a value lies outside [0, 1], as logits do.

    Example:
    >>> import numpy as np
    >>> whole = np.array([[0.75, 0.25]])
    >>> without = np.array([[[0.25, 0.75], [0.75, 0.25]]])
    >>> part_deletion_drops(whole, without, np.array([0]))
    array([[0.5, 0. ]])

    Reference:

    - [Hesse et al., FunnyBirds: a synthetic vision dataset for a part-based
      analysis of explainable AI methods, ICCV
      2023](https://arxiv.org/abs/2308.06248), where the drop is that of the
      logit.
    """
    who = "part_deletion_drops"
    whole = finite_values(who, "probabilities", probabilities, 2)
    without = finite_values(
        who, "probabilities_without", probabilities_without, 3
    )
    if without.shape[::2] != whole.shape:
        raise ValueError(
            f"{who}: probabilities_without must have the shape "
            f"({whole.shape[0]}, parts, {whole.shape[1]}) to fit "
            f"probabilities, received {without.shape}."
        )
    for argument, values in (
        ("probabilities", whole),
        ("probabilities_without", without),
    ):
        # Rounding can put a float32 softmax above 1.
        if values.min() < 0.0 or values.max() > 1.0 + 1e-5:
            raise ValueError(
                f"{who}: {argument} must lie in [0, 1], received values from "
                f"{values.min():.3g} to {values.max():.3g}. Take the softmax "
                "of logits first."
            )
    labels = integer_labels(who, labels, len(whole))
    check_indices(who, "labels", labels, whole.shape[1])
    images = np.arange(len(whole))
    return whole[images, labels][:, None] - without[images, :, labels]


def single_deletion_correlation(part_shares: Any, drops: Any) -> float:
    """Whether a map's mass lies on the parts whose deletion matters.

    ```
    ρ = mean_i Spearman_p(s_ip, drop_ip)
    ```

    FunnyBirds reports this as (1 + ρ) / 2, its "single deletion" score. Large
    parts hold more of any map and their deletion changes more: compare with
    the ρ of a flat map, `part_shares(np.ones_like(heat_maps), part_masks)`.

    Args:
        part_shares: s: Array or tensor of any backend `(images, parts)`, of
            the function of that name.
        drops: `(images, parts)`, of `part_deletion_drops`.

    Returns:
        ρ in [−1, 1]. Images whose parts all have the same share, or the same
        drop, have no rank correlation and are left out, as in FunnyBirds.

    Raises:
        ValueError: If the shapes disagree, a value is not finite, or no image
            has a rank correlation.

    Example:
    >>> import numpy as np
    >>> drops = np.array([[0.5, 0.1, 0.0]])
    >>> single_deletion_correlation(np.array([[0.3, 0.2, 0.1]]), drops)
    1.0

    Reference:

    - [Hesse et al., FunnyBirds, ICCV 2023](https://arxiv.org/abs/2308.06248)
    """
    who = "single_deletion_correlation"
    shares = finite_values(who, "part_shares", part_shares, 2)
    drops = finite_values(who, "drops", drops, 2)
    if shares.shape != drops.shape:
        raise ValueError(
            f"{who}: part_shares and drops must have the same shape (images, "
            f"parts), received {shares.shape} and {drops.shape}."
        )
    x, y = _centred_ranks(shares), _centred_ranks(drops)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    ordered = scale > 0.0
    if not ordered.any():
        raise ValueError(
            f"{who}: at least one image must have parts of different shares "
            f"and different drops, received {len(shares)} images without."
        )
    return float(((x * y).sum(axis=1)[ordered] / scale[ordered]).mean())


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks in each row, with mean ranks of ties, minus the row's mean."""
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    above = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    ranks: np.ndarray = 0.5 * (below - above)
    return ranks

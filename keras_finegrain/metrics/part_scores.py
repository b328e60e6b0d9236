"""Part scores: on which parts of an object the maps of a network lie.

After FunnyBirds (Hesse et al., ICCV 2023), for images with a mask of each
part, such as those of `keras_finegrain.datasets.synthetic_birds`.

A map is coarser than its image. Each of its cells stands for a rectangle of
pixels, so the height and width of the masks must be multiples of the map's.
"""

from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain.metrics.map_cells import (
    boolean_masks,
    cell_cover,
    check_indices,
    finite_values,
)


class PartDiversity(NamedTuple):
    """Result of `channel_part_diversity`.

    Attributes:
        distinct: Mean number of different parts over ξ, in [0, 1].
        chance: `distinct` of channels that peak at random in the image.
        chance_on_parts: `distinct` of channels that peak on a part as often as
            these, but at random on the parts.
        on_parts: Share of the channels that peak on a part, in [0, 1].
        parts: Integers `(images, ξ)`: the part of each channel, −1 for none.
    """

    distinct: float
    chance: float
    chance_on_parts: float
    on_parts: float
    parts: np.ndarray


class PartCoverage(NamedTuple):
    """Result of `deciding_part_coverage`.

    Attributes:
        share: Mean share of the map's mass on the mask, in [0, 1].
        area: Mean share of the image under the mask: `share` of a flat map.
        hits: Share of the maps that peak on the mask, in [0, 1].
        hit_chance: `hits` of maps that peak at random in the image.
    """

    share: float
    area: float
    hits: float
    hit_chance: float

    @property
    def ratio(self) -> float:
        """`share` over `area`: above 1 is better than a flat map."""
        return self.share / self.area


def channel_part_diversity(
    feature_maps: Any, part_masks: Any, channels: Any
) -> PartDiversity:
    """On how many different parts the channels of a class lie.

    ```
    part_ik  = argmax_p |M_ip ∩ cell(argmax_u F_ik(u))|
    distinct = mean_i |{part_ik : k = 1 … ξ}| / ξ
    chance   = mean_i Σ_p [1 − (1 − q_ip)^ξ] / ξ
    ```

    A channel k lies on the part that fills most of the cell where it peaks. It
    lies on no part if none touches that cell or the channel is flat. At 1 each
    channel lies on a part of its own; at 1/ξ all lie on the same part.

    q_ip is the share of cells whose part is p: the probability that a random
    peak hits p. Most of an image is no part, so `chance` is low;
    `chance_on_parts` takes r · q_ip / Σ_p q_ip in its place, with r the
    measured `on_parts`. A `distinct` above it comes from channels that avoid
    each other's parts, and not from channels that find the object.

    Args:
        feature_maps: Array or tensor of any backend, `(images, height, width,
            channels)`.
        part_masks: Booleans `(images, parts, H, W)`, from `part_masks` of the
            synthetic birds.
        channels: Integers `(images, ξ)`: the channels that stand for each
            image's class. Behind `MCLoss(channels_per_class=3)` they are
            `3 * labels[:, None] + np.arange(3)`.

    Returns:
        `distinct`, `chance`, `chance_on_parts`, `on_parts` and `parts`.

    Raises:
        ValueError: If the shapes do not fit, a channel is not in the maps, or
            a value is not finite.

    Example:
    >>> import numpy as np
    >>> part_masks = np.zeros((1, 2, 4, 4), bool)
    >>> part_masks[0, 0, :2, :2] = True  # One part in the upper left,
    >>> part_masks[0, 1, 2:, 2:] = True  # another in the lower right.
    >>> feature_maps = np.zeros((1, 2, 2, 3))
    >>> feature_maps[0, 0, 0, 0] = 1.0
    >>> feature_maps[0, 1, 1, 1] = 1.0
    >>> feature_maps[0, 0, 0, 2] = 1.0
    >>> scores = channel_part_diversity(
    ...     feature_maps, part_masks, np.array([[0, 1, 2]])
    ... )
    >>> scores.parts.tolist(), round(scores.distinct, 3)
    ([[0, 1, 0]], 0.667)
    """
    who = "channel_part_diversity"
    maps = finite_values(who, "feature_maps", feature_maps, 4)
    masks = boolean_masks(who, "part_masks", part_masks, 4)
    channels = to_numpy(channels)
    _check_channels(who, channels, maps)
    cover = cell_cover(who, "part_masks", masks, maps)
    cover = cover.reshape(*masks.shape[:2], -1)
    part_of_cell = np.where(cover.any(axis=1), cover.argmax(axis=1), -1)

    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    mine = np.take_along_axis(flat, channels[:, None, :], axis=2)
    parts = np.take_along_axis(part_of_cell, mine.argmax(axis=1), axis=1)
    parts = np.where(mine.max(axis=1) > mine.min(axis=1), parts, -1)

    every = np.arange(masks.shape[1])
    taken = (parts[:, :, None] == every).any(axis=1)
    by_chance = (part_of_cell[:, :, None] == every).mean(axis=1)
    on_some = by_chance.sum(axis=1, keepdims=True)
    of_parts = np.divide(
        by_chance, on_some, out=np.zeros_like(by_chance), where=on_some > 0
    )
    on_parts = float((parts >= 0).mean())
    group = channels.shape[1]
    return PartDiversity(
        distinct=float(taken.sum(axis=1).mean() / group),
        chance=_expected_distinct(by_chance, group),
        chance_on_parts=_expected_distinct(on_parts * of_parts, group),
        on_parts=on_parts,
        parts=parts,
    )


def deciding_part_coverage(heat_maps: Any, masks: Any) -> PartCoverage:
    """How much of a map lies on the parts that decide the class.

    ```
    share = mean_i Σ_{u ∈ D_i} h_i(u) / Σ_u h_i(u)
    area  = mean_i |D_i| / (H · W)
    hits  = mean_i [cell(argmax_u h_i(u)) ∩ D_i ≠ ∅]
    ```

    `hits` is the pointing game: a peak in a cell that the mask touches is a
    hit, and `hit_chance` is the share of such cells. Images with an empty
    mask, whose parts are hidden, are left out. A map of zeros covers nothing.

    Args:
        heat_maps: Array or tensor of any backend, `(images, height, width)`,
            not negative, such as class activation maps behind a ReLU.
        masks: D: booleans `(images, H, W)`, the pixels of the parts in which
            the image's class differs from its look-alike.

    Returns:
        `share`, `area`, `hits`, `hit_chance`, and `ratio` = share / area.

    Raises:
        ValueError: If the shapes do not fit, a value is negative or not
            finite, or every mask is empty.

    Example:
    >>> import numpy as np
    >>> masks = np.zeros((1, 4, 4), bool)
    >>> masks[0, :2, :2] = True
    >>> heat_maps = np.array([[[3.0, 1.0], [1.0, 1.0]]])
    >>> scores = deciding_part_coverage(heat_maps, masks)
    >>> scores.share, scores.area, scores.ratio, scores.hits
    (0.5, 0.25, 2.0, 1.0)

    Reference:

    - [Zhang et al., Top-down neural attention by excitation backprop, IJCV
      2018](https://arxiv.org/abs/1608.00507), for the pointing game.
    """
    who = "deciding_part_coverage"
    maps = _heat_maps(who, heat_maps)
    masks = boolean_masks(who, "masks", masks, 3)
    cover = cell_cover(who, "masks", masks[:, None], maps)[:, 0]
    seen = masks.any(axis=(1, 2))
    if not seen.any():
        raise ValueError(
            f"{who}: masks must mark a pixel in at least one image, received "
            f"{len(masks)} empty ones."
        )
    maps, cover = maps[seen], cover[seen]
    flat_cover = cover.reshape(len(cover), -1)
    flat = maps.reshape(len(maps), -1)
    peak = flat.argmax(axis=1)
    hit = flat_cover[np.arange(len(flat)), peak] > 0.0
    return PartCoverage(
        share=float((_unit_mass(maps) * cover).sum(axis=(1, 2)).mean()),
        area=float(cover.mean()),
        hits=float((hit & flat.any(axis=1)).mean()),
        hit_chance=float((cover > 0.0).mean()),
    )


def part_shares(heat_maps: Any, part_masks: Any) -> np.ndarray:
    """Share of each map's mass on each part.

    ```
    s_ip = Σ_{u ∈ M_ip} h_i(u) / Σ_u h_i(u)
    ```

    Args:
        heat_maps: Array or tensor of any backend, `(images, height, width)`,
            not negative.
        part_masks: M: booleans `(images, parts, H, W)`.

    Returns:
        Floats `(images, parts)` in [0, 1]; zeros for a map of zeros. The rest
        of the mass lies on no part.

    Raises:
        ValueError: If the shapes do not fit or a value is negative or not
            finite.

    Example:
    >>> import numpy as np
    >>> part_masks = np.zeros((1, 2, 4, 4), bool)
    >>> part_masks[0, 0, :2, :2] = True
    >>> part_masks[0, 1, :, 2:] = True
    >>> part_shares(np.array([[[3.0, 1.0], [1.0, 1.0]]]), part_masks)
    array([[0.5       , 0.33333333]])
    """
    who = "part_shares"
    maps = _heat_maps(who, heat_maps)
    masks = boolean_masks(who, "part_masks", part_masks, 4)
    cover = cell_cover(who, "part_masks", masks, maps)
    shares: np.ndarray = np.einsum("ihw,iphw->ip", _unit_mass(maps), cover)
    return shares


def _check_channels(who: str, channels: np.ndarray, maps: np.ndarray) -> None:
    images = len(maps)
    if (
        channels.ndim != 2
        or len(channels) != images
        or not channels.size
        or channels.dtype.kind not in "iu"
    ):
        raise ValueError(
            f"{who}: channels must be integers ({images}, ξ), the channels of "
            f"each image's class, received the shape {channels.shape} and "
            f"{channels.dtype}."
        )
    check_indices(who, "channels", channels, maps.shape[-1])


def _expected_distinct(probabilities: np.ndarray, group: int) -> float:
    """`distinct` of a group of channels with these probabilities of parts."""
    hit = 1.0 - (1.0 - probabilities) ** group
    return float(hit.sum(axis=1).mean() / group)


def _unit_mass(maps: np.ndarray) -> np.ndarray:
    """Scales each map to sum 1; a map of zeros stays zero."""
    mass = maps.sum(axis=(1, 2), keepdims=True)
    return np.divide(maps, mass, out=np.zeros_like(maps), where=mass > 0)


def _heat_maps(who: str, heat_maps: Any) -> np.ndarray:
    maps = finite_values(who, "heat_maps", heat_maps, 3)
    if maps.min() < 0.0:
        raise ValueError(
            f"{who}: heat_maps must not be negative, received a minimum of "
            f"{maps.min():.3g}. Keep the positive evidence with "
            "np.maximum(heat_maps, 0)."
        )
    return maps

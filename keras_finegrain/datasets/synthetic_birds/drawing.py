"""One photo of a bird, with its annotations, from a species and a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_finegrain.datasets.synthetic_birds.bird import (
    Plumage,
    Pose,
    draw_bird,
    part_points,
)
from keras_finegrain.datasets.synthetic_birds.raster import Layer, enlarge
from keras_finegrain.datasets.synthetic_birds.scene import (
    background,
    in_front,
    light,
    perch,
    sample_plumage,
    sample_pose,
)
from keras_finegrain.datasets.synthetic_birds.species import Species

#: An eye has about two pixels at this size: below it, species look the same.
MIN_SIZE = 32


@dataclass(frozen=True)
class PartPoint:
    """Where a part lies.

    Args:
        x: from the left, as a share of the width, in [0, 1].
        y: from the top, as a share of the height, in [0, 1].
        visible: no leaf and no other part of the bird hides it.
    """

    x: float
    y: float
    visible: bool


@dataclass(frozen=True)
class Annotations:
    """What is known of a photo.

    Args:
        mask: (height, width) bool, the pixels of which the bird, as far as
            nothing hides it, fills at least half. Never empty.
        bbox: (ymin, xmin, ymax, xmax) of `mask`, as shares of the size.
        parts: a point for each of `PART_POINTS`.
    """

    mask: np.ndarray
    bbox: tuple[float, float, float, float]
    parts: dict[str, PartPoint]


def draw(
    species: Species, seed: int | Sequence[int], size: int = 64
) -> tuple[np.ndarray, Annotations]:
    """Draws a photo of one bird.

    Pose, individual, background, leaves and light follow from `seed` and
    `size` alone: two species drawn with one seed differ in their parts and in
    nothing else.

    Args:
        species: the bird.
        seed: an integer in [0, 2**32), or several.
        size: height and width in pixels, at least 32. The default shows every
            part and leaves a small network trainable on a CPU.

    Returns:
        The image, (size, size, 3) uint8, and its annotations.

    Raises:
        ValueError: if `size` or `seed` is out of range.

    Example:

    >>> image, annotations = draw(Species((0, 1, 3, 2, 1, 0, 0)), seed=7)
    >>> image.shape, image.dtype.name, annotations.mask.shape
    ((64, 64, 3), 'uint8', (64, 64))
    """
    _check_size("draw", size)
    rng = _random_state(seed)
    pose = sample_pose(rng, size)
    plumage = sample_plumage(rng, size)
    photo = background(rng, size)
    perch(rng, photo, pose)
    leaves = in_front(rng, pose, size)

    bird = Layer(size, size)
    draw_bird(bird, species, pose, plumage)
    photo.blend(bird.rgb, bird.alpha)
    photo.blend(leaves.rgb, leaves.alpha)
    image = _to_bytes(light(rng, photo.rgb))

    mask = bird.alpha * (1.0 - leaves.alpha) >= 0.5
    parts = _parts(species, pose, leaves.alpha)
    return image, Annotations(mask, bounding_box(mask), parts)


def draw_portrait(species: Species, size: int = 192) -> np.ndarray:
    """Draws a species in a plain pose before a plain background.

    Args:
        species: the bird.
        size: height and width in pixels, at least 32.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ValueError: if `size` is below 32.

    Example:

    >>> draw_portrait(Species((0, 1, 3, 2, 1, 0, 0)), size=64).shape
    (64, 64, 3)
    """
    _check_size("draw_portrait", size)
    rng = _random_state(0)
    texture = enlarge(rng.uniform(-1.0, 1.0, (24, 24)), size, size)
    plumage = Plumage(
        back=np.array([0.56, 0.43, 0.31]),
        under=np.array([0.95, 0.90, 0.80]),
        texture=texture,
        jitter=rng.uniform(-1.0, 1.0, (60, 2)),
    )
    pose = Pose((0.54 * size, 0.52 * size), 0.54 * size, tilt=-17.0, head=8.0)
    sheet = Layer(size, size, background=(0.95, 0.94, 0.90))
    bird = Layer(size, size)
    draw_bird(bird, species, pose, plumage)
    sheet.blend(bird.rgb, bird.alpha)
    return _to_bytes(sheet.rgb)


def bounding_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The tight box around a mask: (ymin, xmin, ymax, xmax) in [0, 1].

    Args:
        mask: (height, width) bool with at least one pixel set.

    Raises:
        ValueError: if no pixel is set.

    Example:

    >>> mask = np.zeros((4, 8), dtype=bool)
    >>> mask[1:3, 2:6] = True
    >>> bounding_box(mask)
    (0.25, 0.25, 0.75, 0.75)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise ValueError(
            "bounding_box: mask must have at least one pixel set, received "
            f"an empty one of shape {mask.shape}."
        )
    height, width = mask.shape
    return (
        float(rows[0] / height),
        float(columns[0] / width),
        float((rows[-1] + 1) / height),
        float((columns[-1] + 1) / width),
    )


def _parts(
    species: Species, pose: Pose, hidden: np.ndarray
) -> dict[str, PartPoint]:
    height, width = hidden.shape
    parts = {}
    for name, ((x, y), facing) in part_points(species, pose).items():
        inside = 0.0 <= x < width and 0.0 <= y < height
        seen = facing and inside and hidden[int(y), int(x)] < 0.5
        parts[name] = PartPoint(
            min(max(x / width, 0.0), 1.0),
            min(max(y / height, 0.0), 1.0),
            bool(seen),
        )
    return parts


def _random_state(seed: int | Sequence[int]) -> np.random.RandomState:
    # Unlike Generator, RandomState promises the same stream for ever (NEP 19).
    try:
        return np.random.RandomState(seed)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "draw: seed must be an integer in [0, 2**32) or several of them, "
            f"received {seed!r}."
        ) from error


def _check_size(function: str, size: int) -> None:
    if size < MIN_SIZE:
        raise ValueError(
            f"{function}: size must be at least {MIN_SIZE} pixels, or the "
            f"parts cannot be told apart; received {size}."
        )


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)

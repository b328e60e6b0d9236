"""One photo of a bird, with its annotations, from a species and a seed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from keras_finegrain.datasets.synthetic_birds import scene
from keras_finegrain.datasets.synthetic_birds.bird import (
    Plumage,
    Pose,
    draw_bird,
    part_points,
)
from keras_finegrain.datasets.synthetic_birds.raster import Layer, enlarge
from keras_finegrain.datasets.synthetic_birds.species import PARTS, Species

# An eye has about two pixels at this size: below it, species look the same.
_MIN_SIZE = 32


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
    species: Species,
    seed: int | Sequence[int],
    size: int = 64,
    without: Collection[str] = (),
) -> tuple[np.ndarray, Annotations]:
    """Draws a photo of one bird.

    Pose, individual, background, leaves and light follow from `seed` and
    `size` alone: two species drawn with one seed differ in their parts and in
    nothing else.

    A part that is left out takes with it whatever its state was: species that
    differ in that part alone become one photo.

    - Beak, eye, wing, tail and legs are not there, and what lies behind them
      shows: head, flank or background. The wing goes as a whole, for a wing
      with no bar is a state; the legs go with their thighs.
    - The feathers of crown and breast are not there, nor is a crest: the
      region is one flat tone half way between the colours of back and belly,
      for a plain crown or breast is a state.

    Args:
        species: the bird.
        seed: an integer in [0, 2**32), or several.
        size: height and width in pixels, at least 32. The default shows every
            part and leaves a small network trainable on a CPU.
        without: names of `PARTS` that are left out. By default the bird is
            whole. Pixels where none of them can be seen do not change.

    Returns:
        The image, (size, size, 3) uint8, and its annotations: the mask and the
        box are those of what is drawn, and the points of a part that is left
        out keep their place and are not visible.

    Raises:
        ValueError: if `size` or `seed` is out of range or there is no such
            part.

    Example:

    >>> bird = Species((0, 1, 3, 2, 1, 0, 0))
    >>> image, annotations = draw(bird, seed=7)
    >>> image.shape, image.dtype.name, annotations.mask.shape
    ((64, 64, 3), 'uint8', (64, 64))
    >>> tailless, annotations = draw(bird, seed=7, without=("tail",))
    >>> annotations.parts["tail"].visible
    False
    """
    check_size("draw", size)
    # A name by itself is a collection of letters.
    if isinstance(without, str) or not set(without) <= set(PARTS):
        raise ValueError(
            "draw: without must hold names of parts, any of "
            f"{', '.join(PARTS)}; received {without!r}. Pass for instance "
            "without=('tail',)."
        )
    rng = _random_state(seed)
    pose = scene.sample_pose(rng, size)
    plumage = scene.sample_plumage(rng, size)
    photo = scene.background(rng, size)
    scene.perch(rng, photo, pose)
    leaves = scene.in_front(rng, pose, size)

    bird = Layer(size, size)
    draw_bird(bird, species, pose, plumage, without)
    photo.blend(bird.rgb, bird.alpha)
    photo.blend(leaves.rgb, leaves.alpha)
    image = _to_bytes(scene.light(rng, photo.rgb))

    mask = bird.alpha * (1.0 - leaves.alpha) >= 0.5
    parts = _parts(species, pose, leaves.alpha, without)
    return image, Annotations(mask, bounding_box(mask), parts)


def part_masks(
    species: Species, seed: int | Sequence[int], size: int = 64
) -> np.ndarray:
    """The pixels of a photo that show each part.

    M_p = {u : photo(u) ≠ photo without p(u)}

    where the photo is `draw(species, seed, size)`: the pixels by which the
    part can be known, and the ones that its deletion changes. What a leaf, the
    dark or another part of the bird hides is not in it; the eye on the crown's
    edge or the near leg before the wing is in its own mask alone, but pixels
    on the seam of two parts are in both. Costs as much as eight photos.

    Args:
        species: the bird.
        seed: as in `draw`.
        size: as in `draw`.

    Returns:
        (7, size, size) bool, a mask for each of `PARTS` in its order. One is
        empty where nothing of the part can be seen.

    Raises:
        ValueError: as in `draw`.

    Example:

    >>> bird = Species((0, 1, 3, 2, 1, 0, 0))
    >>> masks = dict(zip(PARTS, part_masks(bird, seed=7), strict=True))
    >>> bool(masks["wing"].sum() > masks["eye"].sum() > 0)
    True
    """
    photo, _ = draw(species, seed, size)
    without = [draw(species, seed, size, without=(p,))[0] for p in PARTS]
    return (photo != np.stack(without)).any(axis=-1)


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
    check_size("draw_portrait", size)
    rng = _random_state(0)
    plumage = Plumage(
        back=np.array([0.56, 0.43, 0.31]),
        under=np.array([0.95, 0.90, 0.80]),
        texture=enlarge(rng.uniform(-1.0, 1.0, (24, 24)), size, size),
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
    species: Species, pose: Pose, hidden: np.ndarray, without: Collection[str]
) -> dict[str, PartPoint]:
    height, width = hidden.shape
    # The points of the part "legs" are "left leg" and "right leg".
    missing = {part.removesuffix("s") for part in without}
    parts = {}
    for name, ((x, y), facing) in part_points(species, pose).items():
        inside = 0.0 <= x < width and 0.0 <= y < height
        seen = facing and inside and hidden[int(y), int(x)] < 0.5
        seen = seen and name.split()[-1] not in missing
        x, y = np.clip([x / width, y / height], 0.0, 1.0).tolist()
        parts[name] = PartPoint(x, y, bool(seen))
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


def check_size(who: str, size: int, name: str = "size") -> None:
    """Raises if a photo of `size` pixels is too small to show the parts."""
    if size < _MIN_SIZE:
        raise ValueError(
            f"{who}: {name} must be at least {_MIN_SIZE} pixels, or the "
            f"parts cannot be told apart; received {size}."
        )


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)

"""The boxes that crops take, for photos of given sizes.

NumPy alone draws them, for `transforms`, which cuts photos in a `tf.data`
pipeline, and for those that are cut on the device.

A box is top, left, bottom, right in pixels: the edges of the crop, not the
centers of its outermost pixels. A photo of `(height, width)` as a whole is
`(0, 0, height, width)`.
"""

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.errors import one_line

# The share of the short side that evaluation sees: 224 of 256 pixels, usual
# since AlexNet, and 448 of 512 in fine-grained work.
EVALUATION_SIDE = 0.875

# A random crop keeps at least half of the image. ImageNet training goes down
# to 8 %, which here would often cut away the one part that tells two classes
# apart. The usual 448 × 448 crop of a 600 × 600 image keeps 56 %.
TRAINING_AREA = (0.5, 1.0)
TRAINING_ASPECT = (3 / 4, 4 / 3)

# No crop has a shorter side than this share of the photo's short side.
LEAST_SIDE = (TRAINING_AREA[0] * TRAINING_ASPECT[0]) ** 0.5

Boxes = npt.NDArray[np.float32]


def evaluation_boxes(sizes: npt.ArrayLike) -> Boxes:
    """Returns the central squares, as `transforms.evaluation_crop` cuts them.

    Args:
        sizes: `(photos, 2)` integers: height and width.

    Returns:
        `(photos, 4)` boxes of whole pixels. The side is 87.5 % of the short
        side.

    Raises:
        ValueError: If `sizes` is not of that form.

    Example:
        >>> evaluation_boxes([(64, 96)])
        array([[ 4., 20., 60., 76.]], dtype=float32)
    """
    sizes = _checked_sizes("evaluation_boxes", sizes)
    # NumPy rounds halves to even, as TensorFlow does.
    sides = np.rint(sizes.min(axis=1) * EVALUATION_SIDE).astype(np.int64)
    sides = np.maximum(sides, 1)[:, None]
    corners = (sizes - sides) // 2
    return np.concatenate([corners, corners + sides], axis=1, dtype=np.float32)


def training_boxes(sizes: npt.ArrayLike, rng: np.random.Generator) -> Boxes:
    """Draws random parts, distributed as TensorFlow draws them.

    `tf.image.stateless_sample_distorted_bounding_box` draws an aspect ratio
    a, uniform in `TRAINING_ASPECT`, and again where no part of this aspect
    has the area that it should; then the height h, uniform among those that
    fit; then the place. With A the area of a photo of H × W pixels and
    (p, q) = `TRAINING_AREA`, a part fits where

        √(p·A/a) ≤ h ≤ min(√(q·A/a), H, W/a),

    and some do where p·W/H ≤ a ≤ W/(p·H). So nothing has to be drawn twice:
    a is uniform where both intervals overlap. A photo so long that they do
    not is taken as a whole.

    Args:
        sizes: `(photos, 2)` integers: height and width.
        rng: What draws: four numbers a photo, whatever its size.

    Returns:
        `(photos, 4)` boxes, not rounded to whole pixels as there.

    Raises:
        ValueError: If `sizes` is not of that form.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> box = training_boxes([(64, 96)], rng)[0]
        >>> bool(0.5 <= (box[2] - box[0]) * (box[3] - box[1]) / (64 * 96) <= 1)
        True
    """
    sizes = _checked_sizes("training_boxes", sizes)
    height, width = sizes.T.astype(np.float64)
    area = height * width
    least, most = TRAINING_AREA
    random = rng.random((4, len(sizes)))
    narrowest = np.maximum(TRAINING_ASPECT[0], least * width / height)
    widest = np.minimum(TRAINING_ASPECT[1], width / height / least)
    aspect = narrowest + random[0] * (widest - narrowest)
    lowest = np.sqrt(least * area / aspect)
    highest = np.minimum(np.sqrt(most * area / aspect), height)
    highest = np.minimum(highest, width / aspect)
    extent = lowest + random[1] * (highest - lowest)
    fits = narrowest <= widest
    extents = np.stack(
        [
            np.where(fits, extent, height),
            np.where(fits, extent * aspect, width),
        ],
        axis=1,
    )
    corners = random[2:].T * (sizes - extents)
    boxes = np.concatenate([corners, corners + extents], axis=1)
    return boxes.astype(np.float32)


def mirrored(boxes: npt.ArrayLike, rng: np.random.Generator) -> Boxes:
    """Exchanges left and right of each box with a chance of one half.

    A box whose left lies to the right of its right is read from right to
    left: its crop is the mirror image.

    Args:
        boxes: `(photos, 4)` boxes.
        rng: What draws: one number a photo.

    Returns:
        `(photos, 4)` boxes.

    Raises:
        ValueError: If `boxes` is not of that form.

    Example:
        >>> mirrored([(0, 0, 6, 8)] * 3, np.random.default_rng(1))
        array([[0., 0., 6., 8.],
               [0., 0., 6., 8.],
               [0., 8., 6., 0.]], dtype=float32)
    """
    checked = np.asarray(boxes, np.float32)
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise ValueError(
            "mirrored: boxes must have the shape (photos, 4), received "
            f"{checked.shape}. Pass what training_boxes gives"
        )
    swapped = rng.random(len(checked)) < 0.5
    return np.where(swapped[:, None], checked[:, [0, 3, 2, 1]], checked)


def squares_around(boxes: npt.ArrayLike, sizes: npt.ArrayLike) -> Boxes:
    """Returns the squares around bounding boxes, as `crop_to_box` cuts them.

    Args:
        boxes: `(photos, 4)` ymin, xmin, ymax, xmax as shares of height and
            width, as in TFDS.
        sizes: `(photos, 2)` integers: height and width.

    Returns:
        `(photos, 4)` boxes of whole pixels, at least one. The side is that of
        the bounding box divided by `EVALUATION_SIDE`, so that
        `evaluation_boxes` of the square holds the whole bounding box; where
        the photo is smaller, it ends at its borders.

    Raises:
        ValueError: If `boxes` or `sizes` is not of that form.

    Example:
        >>> squares_around([(0.5, 0.25, 1.0, 0.75)], [(6, 8)])
        array([[1., 1., 6., 6.]], dtype=float32)
    """
    size = _checked_sizes("squares_around", sizes).astype(np.float32)
    relative = np.asarray(boxes, np.float32)
    if relative.shape != (len(size), 4):
        raise ValueError(
            "squares_around: boxes must hold four numbers for each of the "
            f"{len(size)} sizes, received the shape {relative.shape}"
        )
    # In float32 as there: a side of 8.0000001 pixels would be rounded to 9.
    relative = np.clip(relative, 0.0, 1.0)
    start, end = relative[:, :2] * size, relative[:, 2:] * size
    longest = (end - start).max(axis=1, keepdims=True)
    sides = np.maximum(np.ceil(longest / np.float32(EVALUATION_SIDE)), 1)
    extents = np.minimum(sides, size)
    corners = np.floor((start + end - extents) / 2)
    corners = np.clip(corners, 0, size - extents)
    return np.concatenate([corners, corners + extents], axis=1)


def _checked_sizes(who: str, sizes: npt.ArrayLike) -> npt.NDArray[np.int64]:
    checked = np.asarray(sizes)
    if (
        checked.ndim != 2
        or checked.shape[1] != 2
        or not np.issubdtype(checked.dtype, np.integer)
        or (checked < 1).any()
    ):
        raise ValueError(
            f"{who}: sizes must hold the height and width of each photo, "
            "(photos, 2) integers of at least 1, received "
            f"{one_line(sizes, 60)}. Of decoded photos: "
            "[image.shape[:2] for image in images]"
        )
    return checked.astype(np.int64)

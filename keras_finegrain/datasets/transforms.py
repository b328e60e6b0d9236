"""From an image of any size to the square that a network takes.

Every function takes one image `(height, width, channels)`; the random ones
take a seed and give the same result for the same seed.
"""

from typing import Any

from keras_finegrain.datasets.requirements import import_tensorflow

# The share of the short side that evaluation sees: 224 of 256 pixels, usual
# since AlexNet, and 448 of 512 in fine-grained work.
EVALUATION_SIDE = 0.875

# A random crop keeps at least half of the image. ImageNet training goes down
# to 8 %, which here would often cut away the one part that tells two classes
# apart. The usual 448 × 448 crop of a 600 × 600 image keeps 56 %.
TRAINING_AREA = (0.5, 1.0)
TRAINING_ASPECT = (3 / 4, 4 / 3)


def evaluation_crop(image: Any, size: int) -> Any:
    """Cuts the central square and resizes it, the same every time.

    It equals a resize that keeps the aspect, short side `size / 0.875`,
    followed by a central crop, and never resizes the whole of a long image.

    Args:
        image: `(height, width, channels)`, any dtype.
        size: Side of the result, in pixels.

    Returns:
        A float32 tensor `(size, size, channels)` on the scale of the input.
    """
    tf = import_tensorflow()
    shape = tf.shape(image)
    short = tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
    side = tf.cast(tf.math.round(short * EVALUATION_SIDE), tf.int32)
    side = tf.maximum(side, 1)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    return resize(image[top : top + side, left : left + side], size)


def random_resized_crop(image: Any, size: int, seed: Any) -> Any:
    """Cuts a random part of the image and resizes it to a square.

    The part has 50 % to 100 % of the image's area and an aspect ratio of 3/4
    to 4/3 (Szegedy et al., "Going deeper with convolutions", CVPR 2015,
    section 6, with more of the image kept); where none fits, it is the
    whole image.

    Args:
        image: `(height, width, channels)`, any dtype.
        size: Side of the result, in pixels.
        seed: `(2,)` integers.

    Returns:
        A float32 tensor `(size, size, channels)` on the scale of the input.
    """
    tf = import_tensorflow()
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=TRAINING_ASPECT,
        area_range=TRAINING_AREA,
        use_image_if_no_bounding_boxes=True,
    )
    top, left = begin[0], begin[1]
    crop = image[top : top + extent[0], left : left + extent[1]]
    return resize(crop, size)


def random_flip(image: Any, seed: Any) -> Any:
    """Mirrors every second image, left to right.

    Args:
        image: `(height, width, channels)`.
        seed: `(2,)` integers.
    """
    tf = import_tensorflow()
    return tf.image.stateless_random_flip_left_right(image, seed)


def resize(image: Any, size: int) -> Any:
    """Resizes to `(size, size)`, bilinear, smoothed where it shrinks."""
    tf = import_tensorflow()
    resized = tf.image.resize(image, (size, size), antialias=True)
    resized.set_shape((size, size, image.shape[-1]))
    return resized

"""Image files to pixels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.image_files import damaged, needs_pillow, opened
from keras_finegrain.datasets.requirements import import_tensorflow
from keras_finegrain.datasets.transforms import EVALUATION_SIDE


def decode(encoded: Any, origin: Any) -> Any:
    """Decodes one image file to RGB, the right way up.

    Grayscale is repeated over the three channels, an alpha channel is
    dropped, and of an animation the first frame is taken. The image is turned
    and mirrored as its EXIF orientation says.

    TensorFlow decodes JPEG and PNG, Pillow what TensorFlow would not show as
    it should be: those with an orientation, and every other format.

    Args:
        encoded: The bytes of the file, a string scalar.
        origin: The file or record that they come from, a string scalar.

    Returns:
        A uint8 tensor `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: When the image is read, if it is
            damaged; the message names `origin`.
    """
    tf = import_tensorflow()
    by_pillow = tf.numpy_function(
        needs_pillow, [encoded], tf.bool, stateful=False
    )
    image, problem = tf.cond(
        tf.ensure_shape(by_pillow, ()),
        lambda: tuple(
            tf.numpy_function(
                _decoded_by_pillow,
                [encoded, origin],
                (tf.uint8, tf.string),
                stateful=False,
            )
        ),
        lambda: _decoded_by_tensorflow(encoded, origin),
    )
    # Without the traceback that an error in Python would carry.
    with tf.control_dependencies(
        [tf.debugging.Assert(tf.size(image) > 0, [problem])]
    ):
        return tf.ensure_shape(image, (None, None, 3))


def _decoded_by_pillow(
    encoded: bytes, origin: bytes
) -> tuple[npt.NDArray[np.uint8], bytes]:
    """Returns the image, or nothing and why."""
    try:
        return np.array(opened(encoded, origin.decode())), b""
    except DatasetError as error:
        return np.zeros((0, 0, 3), np.uint8), str(error).encode()


def _decoded_by_tensorflow(encoded: Any, origin: Any) -> tuple[Any, Any]:
    """Returns the image, or nothing, and what to say in that case."""
    tf = import_tensorflow()
    # The decoder's error does not name the file, and a graph cannot catch an
    # error. A data set can skip it: this one holds the image, or nothing if
    # the decoder fails. No Python runs for an image.
    decoded = tf.data.Dataset.from_tensors(encoded).map(
        lambda file: tf.io.decode_image(
            file, channels=3, expand_animations=False
        )
    )
    nothing = tf.data.Dataset.from_tensors(tf.zeros((0, 0, 3), tf.uint8))
    image = (
        decoded.ignore_errors()
        .concatenate(nothing)
        .take(1)
        .get_single_element()
    )
    message = damaged("|").split("|")
    message.insert(1, origin)
    return image, tf.strings.join(message)


def crop_to_box(image: Any, box: Any) -> Any:
    """Cuts out the square around a box that testing will not cut into.

    Its side is that of the box divided by `EVALUATION_SIDE`: the central
    crop for testing then holds the whole box. The box alone, twice as long as
    wide, would lose a bird's head and tail there. The square is moved to lie
    inside the image, and ends at its borders where it is larger.

    Args:
        image: `(height, width, channels)`.
        box: `(4,)` ymin, xmin, ymax, xmax in [0, 1], as in TFDS.

    Returns:
        A part of the image, at least one pixel.
    """
    tf = import_tensorflow()
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    box = tf.clip_by_value(tf.cast(box, tf.float32), 0.0, 1.0)
    start, end = box[:2] * size, box[2:] * size
    side = tf.math.ceil(tf.reduce_max(end - start) / EVALUATION_SIDE)
    extent = tf.minimum(tf.maximum(side, 1.0), size)
    corner = tf.floor((start + end - extent) / 2)
    corner = tf.clip_by_value(corner, 0.0, size - extent)
    top, left = tf.unstack(tf.cast(corner, tf.int32))
    height, width = tf.unstack(tf.cast(extent, tf.int32))
    return image[top : top + height, left : left + width]

"""Image files to pixels."""

from typing import Any

from keras_finegrain.datasets.errors import DatasetError

# The formats that `tf.io.decode_image` reads.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def decode(encoded: Any, origin: Any) -> Any:
    """Decodes one image file to RGB.

    Grayscale is repeated over the three channels, an alpha channel is
    dropped, and of an animation the first frame is taken.

    Args:
        encoded: The bytes of the file, a string scalar.
        origin: The file or record that they come from, a string scalar.

    Returns:
        A uint8 tensor `(height, width, 3)`.

    Raises:
        DatasetError: Where the image is read, if it is damaged; it names
            `origin`. Inside a `tf.data` pipeline it arrives as a
            `tf.errors.InvalidArgumentError` with that message.
    """
    import tensorflow as tf

    # The decoder's own error does not say which file it met, and a graph
    # cannot catch it. The call through Python costs about 0.2 ms an image.
    image = tf.py_function(_decode_eagerly, [encoded, origin], tf.uint8)
    image.set_shape((None, None, 3))
    return image


def crop_to_box(image: Any, box: Any) -> Any:
    """Cuts a relative box out of an image.

    Args:
        image: `(height, width, channels)`.
        box: `(4,)` ymin, xmin, ymax, xmax in [0, 1], as in TFDS.

    Returns:
        The pixels that the box touches, at least one.
    """
    import tensorflow as tf

    size = tf.shape(image)[:2]
    scale = tf.cast(size, tf.float32)
    box = tf.clip_by_value(tf.cast(box, tf.float32), 0.0, 1.0)
    start = tf.cast(tf.floor(box[:2] * scale), tf.int32)
    start = tf.minimum(start, size - 1)
    end = tf.cast(tf.math.ceil(box[2:] * scale), tf.int32)
    end = tf.maximum(end, start + 1)
    return image[start[0] : end[0], start[1] : end[1]]


def _decode_eagerly(encoded: Any, origin: Any) -> Any:
    import tensorflow as tf

    try:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError:
        raise DatasetError(damaged(origin.numpy().decode())) from None


def damaged(origin: str) -> str:
    """Returns the message for an image that cannot be decoded."""
    return (
        f"The image {origin!r} cannot be decoded: the file is damaged or not "
        "an image. Replace it or take it out"
    )

"""Image files to pixels."""

from typing import Any

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
        tf.errors.InvalidArgumentError: When the image is read, if it is
            damaged; the message names `origin`.
    """
    import tensorflow as tf

    # The decoder's own error does not say which file it met, and a graph
    # cannot catch it. The call through Python costs about 0.2 ms an image.
    # What it raised would arrive with its traceback: so it returns what is
    # wrong, and the graph raises that one line.
    image, problem = tf.py_function(
        _decode_eagerly, [encoded, origin], (tf.uint8, tf.string)
    )
    with tf.control_dependencies(
        [tf.debugging.Assert(tf.equal(problem, ""), [problem])]
    ):
        image = tf.identity(image)
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


def _decode_eagerly(encoded: Any, origin: Any) -> tuple[Any, str]:
    """Returns the image and what is wrong with it, nothing if all is well."""
    import tensorflow as tf

    try:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError:
        nothing = tf.zeros((0, 0, 3), tf.uint8)
        return nothing, damaged(origin.numpy().decode())
    return image, ""


def damaged(origin: str) -> str:
    """Returns the message for an image that cannot be decoded."""
    return (
        f"The image {origin!r} cannot be decoded: the file is damaged or not "
        "an image. Replace it or take it out"
    )

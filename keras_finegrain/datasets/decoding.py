"""Image files to pixels, in a `tf.data` pipeline."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.crops import LEAST_SIDE
from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.image_files import decoded
from keras_finegrain.datasets.requirements import import_tensorflow
from keras_finegrain.datasets.transforms import crop_to_box

# An undecoded image: `encoded`, the bytes of its file, `origin`, what to call
# it in a message, and maybe `bbox`, (4,) as in TFDS, to which it is cut.
File = dict[str, Any]

# The operation by whose name an error tells that an image is at fault.
_CHECK = "readable_image"


def decode(file: File) -> Any:
    """Decodes one image file to RGB, the right way up.

    Grayscale is repeated over the three channels, an alpha channel is
    dropped, and of an animation the first frame is taken. The image is turned
    and mirrored as its EXIF orientation says, then cut to the square around
    its bounding box, if the file has one.

    Args:
        file: A file, of scalar string tensors.

    Returns:
        A uint8 tensor `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: When the image is read, if it is
            damaged; the message names `origin`.
    """
    tf = import_tensorflow()
    return tf.ensure_shape(computed(_decoded_file, file), (None, None, 3))


def decoded_for(file: File, size: int) -> npt.NDArray[np.uint8]:
    """Decodes a file for crops that are resized to a side of `size` pixels.

    A large JPEG is decoded at a half, a quarter or an eighth of its size,
    which takes less time, as long as no crop has to be enlarged for it.
    """
    box = file.get("bbox")
    share = LEAST_SIDE if box is None else LEAST_SIDE * _longest_side(box)
    return _decoded_file(file, size / max(share, 1e-6))


def computed(function: Callable[..., Any], *inputs: Any) -> Any:
    """Images that a function of NumPy arrays computes, in a graph.

    Args:
        function: Returns uint8, or raises a `DatasetError`.
        *inputs: Its arguments: tensors and dictionaries of them.

    Raises:
        tf.errors.InvalidArgumentError: When they are read, for a
            `DatasetError`.
    """
    tf = import_tensorflow()

    @tf.autograph.experimental.do_not_convert
    def images_or_why_not(*arrays: Any) -> tuple[Any, bytes]:
        try:
            return function(*tf.nest.pack_sequence_as(inputs, arrays)), b""
        except DatasetError as error:
            return np.zeros((0, 0, 3), np.uint8), str(error).encode()

    images, problem = tf.numpy_function(
        images_or_why_not,
        tf.nest.flatten(inputs),
        (tf.uint8, tf.string),
        stateful=False,
    )
    # Without the traceback that an error in Python would carry.
    with tf.control_dependencies(
        [tf.debugging.Assert(tf.size(images) > 0, [problem], name=_CHECK)]
    ):
        return tf.identity(images)


def problem_of(error: Exception) -> str | None:
    """What an error of TensorFlow says of an image, if it is at fault.

    Args:
        error: What a loop over images raised, or Keras in `fit`.

    Returns:
        The message of the `DatasetError` in `computed`, or that a file cannot
        be read; None for another error.
    """
    text = str(error)
    found = re.search(
        rf"assertion failed: \[(.*?)\]\s+\[\[{{{{node {_CHECK}",
        text,
        re.DOTALL,
    )
    if found is not None:
        # TensorFlow escapes it as C does.
        escaped = found[1].encode("latin-1", "backslashreplace")
        return escaped.decode("unicode_escape")
    found = re.search(
        r"Iterator::\S+: (.*); ([^;]*?)\s+\[\[{{node ReadFile", text, re.DOTALL
    )
    if found is not None:
        return f"The image {found[1]!r} cannot be read: {found[2]}"
    return None


def _decoded_file(
    file: File, least_side: float | None = None
) -> npt.NDArray[np.uint8]:
    image = decoded(file["encoded"], file["origin"].decode(), least_side)
    return crop_to_box(image, file["bbox"]) if "bbox" in file else image


def _longest_side(box: npt.NDArray[np.float32]) -> float:
    top, left, bottom, right = np.clip(box, 0.0, 1.0)
    return float(max(bottom - top, right - left))

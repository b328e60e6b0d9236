"""Decoded images kept for access in any order."""

import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt


def keep_in_memory(dataset: Any) -> tuple[list[npt.NDArray], npt.NDArray]:
    """Reads a data set once and keeps its images in memory.

    Args:
        dataset: A `tf.data.Dataset` of single `(image, label)` pairs.

    Returns:
        The images, in their own sizes, and the labels `(size,)`.
    """
    pairs = list(dataset.as_numpy_iterator())
    return [image for image, _ in pairs], np.array(
        [label for _, label in pairs]
    )


def keep_in_file(
    dataset: Any, path: str
) -> tuple[list[npt.NDArray], npt.NDArray]:
    """Reads a data set once and keeps its images in one file.

    The file holds the pixels of one image after the other. The system reads
    the parts that are asked for, and keeps them in memory as long as nothing
    else needs it. A file of that name is replaced when the new one is whole:
    processes that use the old one go on with it.

    Args:
        dataset: A `tf.data.Dataset` of single `(image, label)` pairs.
        path: The file, in a folder that exists.

    Returns:
        The images, in their own sizes, as views into the file, and the
        labels `(size,)`.

    Raises:
        OSError: If the file cannot be written.
    """
    shapes: list[tuple[int, ...]] = []
    labels: list[Any] = []
    target = pathlib.Path(path).expanduser()
    descriptor, partial = tempfile.mkstemp(
        prefix=f"{target.name}.", dir=target.parent
    )
    try:
        with open(descriptor, "wb") as file:
            for image, label in dataset.as_numpy_iterator():
                file.write(image.tobytes())
                shapes.append(image.shape)
                labels.append(label)
        os.replace(partial, target)
    except BaseException:
        os.unlink(partial)
        raise
    if not shapes:
        return [], np.array([])
    dtype = dataset.element_spec[0].dtype.as_numpy_dtype
    # An array of its own class: `np.memmap` makes slow views.
    pixels = np.asarray(np.memmap(target, dtype, "r"))
    return list(_split(pixels, shapes)), np.array(labels)


def _split(
    pixels: npt.NDArray, shapes: list[tuple[int, ...]]
) -> Iterator[npt.NDArray]:
    start = 0
    for shape in shapes:
        end = start + int(np.prod(shape))
        yield pixels[start:end].reshape(shape)
        start = end

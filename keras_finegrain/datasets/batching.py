"""Single images of any size to batches for `model.fit`."""

from typing import TYPE_CHECKING, Any

from keras_finegrain._base import checks
from keras_finegrain.datasets import transforms
from keras_finegrain.datasets.pipeline import (
    Augmentation,
    augmented,
    batched,
    check_pipeline,
    rounded,
)
from keras_finegrain.datasets.requirements import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

# Resized images that wait to be drawn in random order: 154 MB at 224 pixels.
# Data sets are stored in a random order already, so larger ones mix too.
_SHUFFLE_BUFFER = 1024


def batches(
    dataset: "tf.data.Dataset",
    *,
    image_size: int,
    batch_size: int,
    training: bool,
    augment: Augmentation = "flip_crop",
    seed: int = 0,
    cache: bool | str = False,
    drop_remainder: bool = False,
) -> "tf.data.Dataset":
    """Makes batches of square images for `fit`, `evaluate` and `predict`.

    For training, each epoch has its own order, crops and flips; the same
    seed gives the same epochs again. For testing the order is that of the
    data set and every image is its central crop. Pixels are rounded to whole
    numbers, as in an image file. The pipeline is the same under every Keras
    backend: Keras hands its batches to JAX and PyTorch.

    Args:
        dataset: Single `(image, label)` pairs as in `ImageDataset.train`:
            uint8 `(height, width, 3)` of any size, integer scalar.
        image_size: Side of the images in the batch, in pixels.
        batch_size: Images in a batch; the last one may have fewer.
        training: Whether to shuffle and augment.
        augment: `"flip_crop"` (the default) cuts a random half or more of
            the image and mirrors every second one; `"flip"` only mirrors the
            central crop, where parts near the border decide; `"none"` only
            shuffles. Without `training` it has no effect.
        seed: Seed of order, crops and flips.
        cache: True keeps what does not change in memory after the first
            epoch: for training the decoded images in their own size
            (height · width · 3 bytes each), for testing the crops
            (image_size² · 3 bytes each). A path keeps it in that file. Read
            the first epoch to its end, or nothing is kept.
        drop_remainder: Leaves out a last batch that is not full: for models
            that need a fixed batch size, as under some distribution.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`: float32 `(batch,
        image_size, image_size, 3)` in [0, 255], int32 `(batch,)`.

    Raises:
        ValueError: If an argument is out of its range or `dataset` does not
            hold single pairs.

    Example:
        >>> import numpy as np
        >>> import tensorflow as tf
        >>> from keras_finegrain import datasets
        >>> pairs = tf.data.Dataset.from_tensor_slices(
        ...     (np.zeros((10, 48, 64, 3), "uint8"), np.arange(10))
        ... )
        >>> train = datasets.batches(
        ...     pairs, image_size=32, batch_size=4, training=True
        ... )
        >>> [images.shape[0] for images, labels in train]
        [4, 4, 2]
    """
    tf = import_tensorflow()
    checks.positive_integer("batches", "batch_size", batch_size)
    check_pipeline("batches", dataset, image_size, augment)
    if training:
        # Shuffled after the crop: the buffer then holds images of a known,
        # small size, whatever the size of the photos.
        dataset = augmented(_kept(dataset, cache), image_size, augment, seed)
        dataset = dataset.shuffle(_SHUFFLE_BUFFER, seed=seed)
    else:
        dataset = dataset.map(
            lambda image, label: (
                rounded(transforms.evaluation_crop(image, image_size)),
                label,
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        dataset = _kept(dataset, cache)
    return batched(dataset, batch_size, drop_remainder)


def _kept(dataset: Any, cache: bool | str) -> Any:
    if cache is False:
        return dataset
    return dataset.cache("" if cache is True else cache)

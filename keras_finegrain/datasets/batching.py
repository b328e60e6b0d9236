"""Single images of any size to batches for `model.fit`."""

import functools
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from keras_finegrain._base import checks
from keras_finegrain.datasets import transforms
from keras_finegrain.datasets.decoding import computed, decoded_for
from keras_finegrain.datasets.requirements import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

Augmentation = Literal["flip_crop", "flip", "none"]

_TO_UINT8 = (
    "Convert them by their range: dataset.map(lambda image, label: "
    "(tf.image.convert_image_dtype(image, tf.uint8, saturate=True), label)) "
    "takes floats in [0, 1] and integers that use all of their range. Divide "
    "floats in [0, 255] by 255 before, and take (image + 1) / 2 of [-1, 1]"
)

# Resized images that wait to be drawn in random order: 154 MB at 224 pixels.
# Data sets are stored in a random order already, so larger ones mix too.
_SHUFFLE_BUFFER = 1024
# Files that one call of Python decodes: a call waits for others, and for
# TensorFlow to hand over what it takes and gives.
_FILES_A_CALL = 16


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
            uint8 `(height, width, 3)` of any size, integer scalar. The image
            may be a file instead, as `load(decode=False)` gives them: a
            dictionary of scalar strings, `encoded` (its bytes) and `origin`
            (its name for messages), and with `bbox`, `(4,)` float32, cut to
            the square around that. Of a large JPEG only as many pixels are
            decoded as the crops need.
        image_size: Side of the images in the batch, in pixels.
        batch_size: Images in a batch; the last one may have fewer.
        training: Whether to shuffle and augment.
        augment: `"flip_crop"` (the default) cuts a random half or more of
            the image and mirrors every second one; `"flip"` only mirrors the
            central crop, where parts near the border decide; `"none"` only
            shuffles. Without `training` it has no effect.
        seed: Seed of order, crops and flips.
        cache: True keeps what does not change in memory after the first
            epoch: for training what `dataset` holds, images in their own size
            (height · width · 3 bytes each, not decoded again) or files (a
            tenth of that, decoded in every epoch); for testing the crops
            (image_size² · 3 bytes each). A path keeps it in that file. Read
            the first epoch to its end, or nothing is kept.
        drop_remainder: Leaves out a last batch that is not full: for models
            that need a fixed batch size, as under some distribution.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`: float32 `(batch,
        image_size, image_size, 3)` in [0, 255], int32 `(batch,)`.

    Raises:
        ValueError: If an argument is out of its range, `dataset` does not
            hold single pairs, its images are neither uint8 (the range of
            others is unknown; the message says how to convert them) nor
            files, or its labels no integers.

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
    checks.positive_integer("batches", "batch_size", batch_size)
    checks.boolean("batches", "training", training)
    checks.boolean("batches", "drop_remainder", drop_remainder)
    check_pipeline("batches", dataset, image_size, augment, seed)
    if not isinstance(cache, (bool, str)) or cache == "":
        raise ValueError(
            "batches: cache must be True, False or the path of a file, "
            f"received {cache!r}."
        )
    if training:
        kept = _kept(dataset, cache)
        pairs = squares(kept, image_size, augment, seed, shuffled=True)
    else:
        pairs = _kept(squares(dataset, image_size, "none", seed), cache)
    return batched(pairs, batch_size, drop_remainder)


def _kept(dataset: Any, cache: bool | str) -> Any:
    if cache is False:
        return dataset
    return dataset.cache("" if cache is True else cache)


def squares(
    dataset: Any,
    image_size: int,
    augment: Augmentation,
    seed: int,
    shuffled: bool = False,
) -> Any:
    """Cuts single `(image, label)` pairs to squares, anew in every epoch.

    Args:
        dataset: A `tf.data.Dataset` of pairs, as in `batches`.
        image_size: Side of the result, in pixels.
        augment: As in `batches`; `"none"` is the crop for testing.
        seed: Seed of crops, flips and order.
        shuffled: Whether to mix the pairs.

    Returns:
        A `tf.data.Dataset` of pairs, images uint8
        `(image_size, image_size, 3)`.
    """
    tf = import_tensorflow()
    # A new pair of numbers for every image and epoch, from one seed.
    seeds = tf.data.Dataset.random(
        seed=seed, rerandomize_each_iteration=True
    ).batch(2, drop_remainder=True)
    holds_files = isinstance(dataset.element_spec[0], dict)
    pairs = tf.data.Dataset.zip((dataset, seeds))
    count = pairs.cardinality()
    # In the buffer files are smaller than what they show, and images of any
    # size larger than their crops.
    if shuffled and holds_files:
        pairs = pairs.shuffle(_SHUFFLE_BUFFER, seed=seed)
    cut = functools.partial(_squares_of, size=image_size, augment=augment)
    shape = (None, image_size, image_size, 3)

    def cut_each(pairs: Any, seeds: Any) -> Any:
        images, labels = pairs
        return tf.ensure_shape(computed(cut, images, seeds), shape), labels

    pairs = (
        # Images differ in size, so that there can be no two in an array.
        pairs.batch(_FILES_A_CALL if holds_files else 1)
        .map(cut_each, num_parallel_calls=tf.data.AUTOTUNE)
        .unbatch()
    )
    if count != tf.data.UNKNOWN_CARDINALITY:
        pairs = pairs.apply(tf.data.experimental.assert_cardinality(count))
    if shuffled and not holds_files:
        pairs = pairs.shuffle(_SHUFFLE_BUFFER, seed=seed)
    return pairs


def _squares_of(
    images: Any,
    seeds: npt.NDArray[np.int64],
    size: int,
    augment: Augmentation,
) -> npt.NDArray[np.uint8]:
    """The parts of images or files that a network sees.

    Args:
        images: `(images, height, width, 3)` or a dictionary of the files'
            parts, `(images, ...)` each.
        seeds: `(images, 2)`.
        size: Side of the result.
        augment: As in `batches`.

    Returns:
        `(images, size, size, 3)`.
    """
    found = np.empty((len(seeds), size, size, 3), np.uint8)
    for number, seed in enumerate(seeds):
        if isinstance(images, dict):
            file = {name: part[number] for name, part in images.items()}
            image = decoded_for(file, size)
        else:
            image = images[number]
        found[number] = _square_of(image, tuple(seed), size, augment)
    return found


def _square_of(
    image: npt.NDArray[np.uint8],
    seed: tuple[int, ...],
    size: int,
    augment: Augmentation,
) -> npt.NDArray[np.uint8]:
    if augment == "flip_crop":
        image = transforms.random_resized_crop(image, size, seed)
    else:
        image = transforms.evaluation_crop(image, size)
    if augment != "none":
        # Not the crop's seed, or flips would depend on crops.
        image = transforms.random_flip(image, (*seed, 1))
    return image


def batched(dataset: Any, batch_size: int, drop_remainder: bool) -> Any:
    """Joins pairs to batches, float32 images and int32 labels."""
    tf = import_tensorflow()
    # Workers of `tf.distribute` share each batch instead of the files, so
    # that together they train on the batches of one device.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return (
        dataset.batch(batch_size, drop_remainder=drop_remainder)
        .map(
            lambda images, labels: (
                tf.cast(images, tf.float32),
                tf.cast(labels, tf.int32),
            )
        )
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def check_pipeline(
    who: str, dataset: Any, image_size: int, augment: str, seed: int
) -> None:
    """Raises unless `dataset` holds pairs that can be made to batches."""
    checks.positive_integer(who, "image_size", image_size)
    checks.one_of(who, "augment", augment, get_args(Augmentation))
    checks.seed(who, "seed", seed)
    tf = import_tensorflow()
    spec = getattr(dataset, "element_spec", None)
    if (
        not isinstance(spec, tuple)
        or len(spec) != 2
        or not isinstance(spec[0], (tf.TensorSpec, dict))
        or not isinstance(spec[1], tf.TensorSpec)
        or spec[1].shape.rank not in (None, 0)
        or (
            isinstance(spec[0], tf.TensorSpec)
            and spec[0].shape.rank not in (None, 3)
        )
    ):
        raise ValueError(
            f"{who}: dataset must hold single (image, label) pairs, image "
            "(height, width, 3) and label a scalar, as ImageDataset.train "
            f"and .test do; received elements {spec}. Is it batched already, "
            "or an ImageDataset as a whole?"
        )
    image, label = spec
    if isinstance(image, dict):
        _check_file(who, image)
    elif image.dtype != "uint8":
        # Ranges differ, and the dtype does not tell: a dark photo in
        # [0, 255] may look like one in [0, 1], and uint16 may hold 8 bits.
        raise ValueError(
            f"{who}: images must be uint8, in [0, 255], received "
            f"{image.dtype.name}. {_TO_UINT8}"
        )
    if not label.dtype.is_integer:
        raise ValueError(
            f"{who}: labels must be integers, the numbers of the classes from "
            f"0, received {label.dtype.name}. Convert them with dataset.map"
        )


def _check_file(who: str, spec: dict[str, Any]) -> None:
    tf = import_tensorflow()
    kinds = {"encoded": ("string", 0), "origin": ("string", 0)}
    if "bbox" in spec:
        kinds["bbox"] = ("float32", 1)
    if spec.keys() != kinds.keys() or not all(
        isinstance(spec[part], tf.TensorSpec)
        and spec[part].dtype == dtype
        and spec[part].shape.rank in (None, rank)
        for part, (dtype, rank) in kinds.items()
    ):
        raise ValueError(
            f"{who}: an image that is a dictionary must be a file, of scalar "
            "strings: encoded, its bytes, and origin, its name for messages "
            f"(and bbox, 4 float32, to cut it), received {spec}. For files of "
            'your own: dataset.map(lambda path, label: ({"encoded": '
            'tf.io.read_file(path), "origin": path}, label))'
        )

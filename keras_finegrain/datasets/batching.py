"""Single images of any size to batches for `model.fit`."""

from typing import TYPE_CHECKING, Any, Literal, get_args

from keras_finegrain._base import checks
from keras_finegrain.datasets import transforms
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
        ValueError: If an argument is out of its range, `dataset` does not
            hold single pairs, its images are not uint8 (the range of others
            is unknown; the message says how to convert them) or its labels
            no integers.

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
    checks.boolean("batches", "training", training)
    checks.boolean("batches", "drop_remainder", drop_remainder)
    check_pipeline("batches", dataset, image_size, augment, seed)
    if not isinstance(cache, (bool, str)) or cache == "":
        raise ValueError(
            "batches: cache must be True, False or the path of a file, "
            f"received {cache!r}."
        )
    if training:
        # Shuffled after the crop: the buffer then holds images of a known,
        # small size, whatever the size of the photos.
        dataset = augmented(_kept(dataset, cache), image_size, augment, seed)
        dataset = dataset.shuffle(_SHUFFLE_BUFFER, seed=seed)
    else:
        dataset = dataset.map(
            lambda image, label: (
                _rounded(transforms.evaluation_crop(image, image_size)),
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


def augmented(
    dataset: Any, image_size: int, augment: Augmentation, seed: int
) -> Any:
    """Crops and mirrors single `(image, label)` pairs, anew in every epoch.

    Args:
        dataset: A `tf.data.Dataset` of pairs, images of any size.
        image_size: Side of the result, in pixels.
        augment: As in `batches`.
        seed: Seed of crops and flips.

    Returns:
        A `tf.data.Dataset` of pairs, images uint8
        `(image_size, image_size, 3)`.
    """
    tf = import_tensorflow()
    # A new pair of numbers for every image and epoch, from one seed.
    seeds = tf.data.Dataset.random(
        seed=seed, rerandomize_each_iteration=True
    ).batch(2, drop_remainder=True)

    def augmented_pair(
        pair: tuple[Any, Any], pair_seed: Any
    ) -> tuple[Any, Any]:
        image, label = pair
        if augment == "flip_crop":
            image = transforms.random_resized_crop(image, image_size, pair_seed)
        else:
            image = transforms.evaluation_crop(image, image_size)
        # Before the flip: bytes are faster to mirror than floats.
        image = _rounded(image)
        if augment != "none":
            # Not the crop's seed, or flips would depend on crops.
            flip_seed = pair_seed + tf.constant([0, 1], tf.int64)
            image = transforms.random_flip(image, flip_seed)
        return image, label

    return tf.data.Dataset.zip((dataset, seeds)).map(
        augmented_pair, num_parallel_calls=tf.data.AUTOTUNE
    )


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


def _rounded(image: Any) -> Any:
    """Rounds pixels to whole numbers, uint8, as in an image file."""
    tf = import_tensorflow()
    return tf.saturate_cast(tf.math.round(image), tf.uint8)


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
        or not all(isinstance(part, tf.TensorSpec) for part in spec)
        or spec[0].shape.rank not in (None, 3)
        or spec[1].shape.rank not in (None, 0)
    ):
        raise ValueError(
            f"{who}: dataset must hold single (image, label) pairs, image "
            "(height, width, 3) and label a scalar, as ImageDataset.train "
            f"and .test do; received elements {spec}. Is it batched already, "
            "or an ImageDataset as a whole?"
        )
    image, label = spec
    if image.dtype != "uint8":
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

"""The steps that all pipelines of training images share."""

from typing import Any, Literal, get_args

from keras_finegrain._base import checks
from keras_finegrain.datasets import transforms
from keras_finegrain.datasets.requirements import import_tensorflow

Augmentation = Literal["flip_crop", "flip", "none"]


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
        image = rounded(image)
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


def rounded(image: Any) -> Any:
    """Rounds pixels to whole numbers, uint8, as in an image file."""
    tf = import_tensorflow()
    return tf.saturate_cast(tf.math.round(image), tf.uint8)


def check_pipeline(
    who: str, dataset: Any, image_size: int, augment: str
) -> None:
    """Raises unless `dataset` holds pairs that can be made to batches."""
    checks.positive_integer(who, "image_size", image_size)
    checks.one_of(who, "augment", augment, get_args(Augmentation))
    spec = getattr(dataset, "element_spec", None)
    if (
        not isinstance(spec, tuple)
        or len(spec) != 2
        or spec[0].shape.rank not in (None, 3)
        or spec[1].shape.rank not in (None, 0)
    ):
        raise ValueError(
            f"{who}: dataset must hold single (image, label) pairs, image "
            "(height, width, 3) and label a scalar, as ImageDataset.train "
            f"and .test do; received elements {spec}. Is it batched already, "
            "or an ImageDataset as a whole?"
        )

"""Batches with several images of each of their classes, for pair losses."""

import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_finegrain._base import checks
from keras_finegrain._base.files import replacing
from keras_finegrain.datasets.balanced_plan import (
    number_of_batches,
    plan_epoch,
)
from keras_finegrain.datasets.batching import (
    Augmentation,
    batched,
    check_pipeline,
    squares,
)
from keras_finegrain.datasets.requirements import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

_WHO = "balanced_batches"


def balanced_batches(
    dataset: "tf.data.Dataset",
    *,
    image_size: int,
    classes_per_batch: int,
    images_per_class: int,
    augment: Augmentation = "flip_crop",
    seed: int = 0,
    cache: bool | str = True,
) -> "tf.data.Dataset":
    """Makes training batches of P classes with M images each.

    Losses over the pairs of a batch (triplet, N-pair, multi-similarity) need
    images of the same class and of others. In a random batch from many
    classes, most images are the only one of their class.

    In an epoch each class shuffles its images and deals them out in groups
    of M, and every batch takes groups of P different classes. All batches
    are full, so some images are drawn a second time: to fill up the last
    group of a class (images of that class; one with fewer than M images
    repeats them), and to fill up batches where too few groups are left
    (groups of other classes, drawn by chance). Every image is seen at least
    once, in the least number of batches that makes this possible: with n_c
    images in class c, an epoch has

        max(max over c of ⌈n_c / M⌉, ⌈Σ_c ⌈n_c / M⌉ / P⌉)

    batches. The first term counts only for a class with more than about one
    in P of all images: it is in every batch, and the others are repeated.

    Each epoch has its own groups, order, crops and flips, and the same seed
    gives the same epochs again. The pipeline is the same under every Keras
    backend.

    Args:
        dataset: Single `(image, label)` pairs as in `batches`: an image of
            any size or a file, integer scalar. It is read once, by this call:
            planning an epoch takes all labels, and drawing a class all
            images.
        image_size: Side of the images in the batch, in pixels.
        classes_per_batch: P, at least 2 and at most the number of classes.
            Usually what the memory allows: more classes make harder
            negatives.
        images_per_class: M, at least 2. For N-pair losses 2, an anchor and
            its positive. For triplets 4 is usual (Hermans et al. take
            P = 18, M = 4).
        augment: As in `batches`: `"flip_crop"` (the default), `"flip"` or
            `"none"`.
        seed: Seed of groups, order, crops and flips.
        cache: Where what `dataset` holds is kept, images in their own size
            (height · width · 3 bytes each) or files (a tenth of that, decoded
            in every epoch): True for memory, a path for one file there, which
            this call writes anew and the system reads as needed. Let it be on
            a fast disk, and delete it afterwards.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`: float32 `(P · M,
        image_size, image_size, 3)` in [0, 255], int32 `(P · M,)`, of static
        shape. The M images of a class stand together,
        the classes in an order drawn by chance. Its cardinality is the number
        of batches above, the same in every epoch.

    Raises:
        ValueError: If an argument is out of its range, `dataset` does not
            hold single pairs of uint8 images and integers, is empty or never
            ends, or has fewer than P classes.
        OSError: If the file of `cache` cannot be written.

    Example:
        >>> import numpy as np
        >>> import tensorflow as tf
        >>> from keras_finegrain import datasets
        >>> pairs = tf.data.Dataset.from_tensor_slices(
        ...     (np.zeros((12, 48, 64, 3), "uint8"), np.arange(12) % 3)
        ... )
        >>> train = datasets.balanced_batches(
        ...     pairs, image_size=32, classes_per_batch=3, images_per_class=2
        ... )
        >>> [np.bincount(labels).tolist() for images, labels in train]
        [[2, 2, 2], [2, 2, 2]]

    Reference:
        - [Hermans et al., "In Defense of the Triplet Loss for Person
          Re-Identification", 2017](https://arxiv.org/abs/1703.07737),
          section 2: batches of P classes with K images
        - [Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss
          Objective", NeurIPS 2016](https://papers.nips.cc/paper/6200),
          section 3.2: two images of each class
    """
    tf = import_tensorflow()
    check_pipeline(_WHO, dataset, image_size, augment, seed)
    for name, value, why in (
        ("classes_per_batch", classes_per_batch, "different classes"),
        ("images_per_class", images_per_class, "one class"),
    ):
        if checks.positive_integer(_WHO, name, value) == 1:
            raise ValueError(
                f"{_WHO}: {name} must be at least 2 (pairs of {why} take "
                f"two), received {name}=1"
            )
    if cache is not True and not (isinstance(cache, str) and cache):
        raise ValueError(
            f"{_WHO}: cache must be True (memory) or the path of a file: "
            "images are drawn in any order and have to be kept; received "
            f"cache={cache!r}"
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{_WHO}: dataset must end: it is read once through, and this "
            "one is infinite. Leave out its repeat()"
        )
    draw, labels = _kept(dataset, cache)
    _check_classes(labels, classes_per_batch)
    epoch = _epoch_indices(labels, classes_per_batch, images_per_class, seed)
    image_spec, _ = dataset.element_spec
    all_labels = tf.constant(labels)

    def pair(index: Any) -> tuple[Any, Any]:
        specs = tf.nest.flatten(image_spec)
        parts = tf.numpy_function(
            tf.autograph.experimental.do_not_convert(draw),
            [index],
            [spec.dtype for spec in specs],
            stateful=False,
        )
        for part, spec in zip(parts, specs, strict=True):
            part.set_shape(spec.shape)
        image = tf.nest.pack_sequence_as(image_spec, parts)
        return image, tf.gather(all_labels, index)

    pairs_of_epoch = epoch.map(pair, num_parallel_calls=tf.data.AUTOTUNE)
    return batched(
        squares(pairs_of_epoch, image_size, augment, seed),
        classes_per_batch * images_per_class,
        drop_remainder=True,  # Drops nothing: it makes the shape static.
    )


def _epoch_indices(
    labels: npt.NDArray,
    classes_per_batch: int,
    images_per_class: int,
    seed: int,
) -> Any:
    """Returns a `tf.data.Dataset` of the indices of an epoch, in order."""
    tf = import_tensorflow()
    size = number_of_batches(labels, classes_per_batch, images_per_class)
    size *= classes_per_batch * images_per_class

    def plan(epoch_seed: np.int64) -> npt.NDArray[np.int64]:
        generator = np.random.default_rng(epoch_seed)
        return plan_epoch(
            labels, classes_per_batch, images_per_class, generator
        ).ravel()

    def planned(epoch_seed: Any) -> Any:
        indices = tf.numpy_function(plan, [epoch_seed], tf.int64)
        return tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(indices, (size,))
        )

    # A new number for every epoch, from one seed.
    return (
        tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        .take(1)
        .flat_map(planned)
        .apply(tf.data.experimental.assert_cardinality(size))
    )


def _kept(
    dataset: Any, cache: bool | str
) -> tuple[Callable[[int], list[Any]], npt.NDArray]:
    """Reads a data set once and keeps its images.

    Returns:
        What gives an image by its number, as a list of its parts: pixels, or
        those of a file; and the labels `(size,)`.
    """
    tf = import_tensorflow()
    pairs = (
        (tf.nest.flatten(image), label)
        for image, label in dataset.as_numpy_iterator()
    )
    if isinstance(cache, str):
        return _kept_in_file(pairs, cache)
    kept = list(pairs)
    return lambda i: kept[i][0], np.array([label for _, label in kept])


def _kept_in_file(
    pairs: Iterable[tuple[list[Any], Any]], path: str
) -> tuple[Callable[[int], list[Any]], npt.NDArray]:
    """`_kept`, in one file with the bytes of one part after the other.

    The system reads those that are asked for, and keeps them in memory as
    long as nothing else needs it.
    """
    places: list[list[tuple[slice, Any]]] = []
    labels: list[Any] = []
    target = pathlib.Path(path).expanduser()
    with replacing(target) as file:
        for parts, label in pairs:
            places.append([])
            for part in parts:
                is_text = isinstance(part, bytes)
                start = file.tell()
                file.write(part if is_text else part.tobytes())
                form = None if is_text else (part.dtype, part.shape)
                places[-1].append((slice(start, file.tell()), form))
            labels.append(label)
    if not labels:
        return places.__getitem__, np.array([])
    # An array of its own class: `np.memmap` makes slow views.
    content = np.asarray(np.memmap(target, np.uint8, "r"))

    def draw(index: int) -> list[Any]:
        return [
            content[place].tobytes()
            if form is None
            else content[place].view(form[0]).reshape(form[1])
            for place, form in places[index]
        ]

    return draw, np.array(labels)


def _check_classes(labels: npt.NDArray, classes_per_batch: int) -> None:
    if labels.size == 0:
        raise ValueError(
            f"{_WHO}: dataset must hold at least one pair, and is empty"
        )
    num_classes = np.unique(labels).size
    if classes_per_batch > num_classes:
        raise ValueError(
            f"{_WHO}: classes_per_batch must be at most the number of "
            f"classes in dataset, {num_classes}, received "
            f"classes_per_batch={classes_per_batch}. Take fewer classes, and "
            "more images of each for the same batch size"
        )

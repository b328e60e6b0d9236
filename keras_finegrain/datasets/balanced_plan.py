"""Which images go into which batch of an epoch, for pair losses.

Below, n_c is the number of images of class c, P the classes of a batch and M
the images of each of them.
"""

import numpy as np
import numpy.typing as npt


def plan_epoch(
    labels: npt.NDArray[np.integer],
    classes_per_batch: int,
    images_per_class: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Draws batches of P classes with M images each that hold every image.

    Every class shuffles its images and deals them out in groups of M, in a
    batch of its own each. Two things have to be filled up: the last group of
    a class, and batches for which there are too few groups. Both get images
    that their class deals out a second time. They are spread: over all
    batches, evenly over the classes that have room (no class is in a batch
    twice), and evenly over the images of a class, also within a group. So an
    image is in a group twice only where n_c < M.

    Args:
        labels: `(size,)` class of each image.
        classes_per_batch: P, at most the number of classes.
        images_per_class: M.
        generator: What draws; the same state gives the same plan.

    Returns:
        `(number_of_batches(labels, P, M), P, M)` indices into `labels`.
    """
    _, class_of_image, sizes = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    members = np.split(
        np.argsort(class_of_image, kind="stable"), np.cumsum(sizes)[:-1]
    )
    groups = _fill_batches(
        _groups(sizes, images_per_class),
        number_of_batches(labels, classes_per_batch, images_per_class),
        classes_per_batch,
        generator,
    )
    classes = _arrange(groups, classes_per_batch, generator)
    plan = np.empty((classes.size, images_per_class), np.int64)
    # The places of the first class in all batches, then of the second, …
    places = np.argsort(classes, axis=None, kind="stable")
    plan[places] = np.concatenate(
        [
            _deal(images, num_groups, images_per_class, generator)
            for images, num_groups in zip(members, groups, strict=True)
        ]
    )
    # Without this, large classes would be more frequent towards the end of
    # the epoch: by chance even the largest is not in every earlier batch.
    return generator.permutation(
        plan.reshape(-1, classes_per_batch, images_per_class)
    )


def number_of_batches(
    labels: npt.NDArray[np.integer],
    classes_per_batch: int,
    images_per_class: int,
) -> int:
    """Returns the least number of balanced batches that hold every image.

        max(max over c of ⌈n_c / M⌉, ⌈Σ_c ⌈n_c / M⌉ / P⌉)

    Each class needs ⌈n_c / M⌉ groups, no two of them in one batch, and a
    batch has room for P.
    """
    _, sizes = np.unique(labels, return_counts=True)
    groups = _groups(sizes, images_per_class)
    return int(max(groups.max(), -(-groups.sum() // classes_per_batch)))


def _groups(
    sizes: npt.NDArray[np.int64], images_per_class: int
) -> npt.NDArray[np.int64]:
    return -(-sizes // images_per_class)


def _fill_batches(
    groups: npt.NDArray[np.int64],
    num_batches: int,
    classes_per_batch: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Adds groups to classes by chance, until all batches can be full."""
    groups = groups.copy()
    missing = num_batches * classes_per_batch - groups.sum()
    while missing:
        with_room = np.flatnonzero(groups < num_batches)
        # All of them once before any of them twice.
        chosen = generator.permutation(with_room)[:missing]
        groups[chosen] += 1
        missing -= chosen.size
    return groups


def _arrange(
    groups: npt.NDArray[np.int64],
    classes_per_batch: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Returns the classes `(batches, P)`, each as often as it has groups.

    While r batches remain, P · r groups do, and no class has more than r. A
    class with r must go into each of them; with those in, any choice of the
    others keeps both true.
    """
    left = groups.copy()
    batches = []
    for remaining in range(left.sum() // classes_per_batch, 0, -1):
        waiting = np.flatnonzero(left)
        # A class comes first with a probability in proportion to its groups
        # that are left: the least of exponential variables.
        finish = generator.exponential(size=waiting.size) / left[waiting]
        finish[left[waiting] == remaining] = -1.0
        first = np.argsort(finish, kind="stable")[:classes_per_batch]
        left[waiting[first]] -= 1
        batches.append(generator.permutation(waiting[first]))
    return np.stack(batches)


def _deal(
    images: npt.NDArray[np.int64],
    num_groups: int,
    images_per_class: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Returns groups `(num_groups, M)` of a class's images.

    All images are dealt out once before any is dealt out twice, and so on.
    """
    dealt = generator.permutation(images)
    while dealt.size < num_groups * images_per_class:
        again = generator.permutation(images)
        # Those that are in the group already begun come last.
        begun = dealt[dealt.size // images_per_class * images_per_class :]
        uses = np.count_nonzero(again[:, None] == begun, axis=1)
        again = again[np.argsort(uses, kind="stable")]
        dealt = np.concatenate([dealt, again])
    return dealt[: num_groups * images_per_class].reshape(-1, images_per_class)

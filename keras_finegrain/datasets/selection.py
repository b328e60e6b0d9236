"""Choosing classes by name, and what is trained and tested on."""

import dataclasses
import difflib
import fnmatch
import os
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from keras_finegrain._base import checks
from keras_finegrain.datasets.errors import DatasetError, listed
from keras_finegrain.datasets.sources import Records, Source

MissingTestClasses = Literal["error", "allow"]
SingleImages = Literal["error", "train", "drop"]


@dataclasses.dataclass(frozen=True)
class Division:
    """How a source is divided; the attributes are arguments of `load`.

    Raises:
        ValueError: If one of them is out of its range.
    """

    test_fraction: float = 0.2
    seed: int = 0
    split_by_class: float | None = None
    missing_test_classes: MissingTestClasses = "error"
    single_images: SingleImages = "error"

    def __post_init__(self) -> None:
        who = "load"
        checks.number(
            who, "test_fraction", self.test_fraction, above=0, below=1
        )
        checks.seed(who, "seed", self.seed)
        if self.split_by_class is not None:
            checks.number(
                who, "split_by_class", self.split_by_class, above=0, below=1
            )
        checks.one_of(
            who,
            "missing_test_classes",
            self.missing_test_classes,
            get_args(MissingTestClasses),
        )
        checks.one_of(
            who, "single_images", self.single_images, get_args(SingleImages)
        )


@dataclasses.dataclass(frozen=True)
class Splits:
    """What is trained and tested on.

    Attributes:
        class_names: The names of the selected classes.
        train: The records to train on, with labels numbered anew.
        test: Those to test on.
        num_train_classes: Labels of `train` lie in [0, num_train_classes).
    """

    class_names: tuple[str, ...]
    train: Records
    test: Records
    num_train_classes: int


def divided(
    source: Source,
    classes: str | None,
    data_dir: str | os.PathLike[str] | None,
    division: Division,
) -> Splits:
    """Selects classes and divides their images; decodes none.

    Args:
        source: What was found.
        classes: As in `load`.
        data_dir: As in `load`, for the messages.
        division: How to divide it.

    Raises:
        DatasetError: If the classes or their images do not allow it.
    """
    selected = selected_labels(source, classes, data_dir, division)
    names = source.class_names

    def renumbered(records: Records, kept: list[int]) -> Records:
        new = np.full(len(names), -1, np.int64)
        new[kept] = np.searchsorted(selected, kept)
        return records.relabeled(new[records.labels])

    trained = selected
    if division.split_by_class is not None:
        count = first_classes(len(selected), division.split_by_class)
        trained = selected[:count]
        every = source.train
        if source.test is not None:
            every = every.joined(source.test)
        train = renumbered(every, trained)
        test = renumbered(every, selected[count:])
    elif source.test is None:
        every = renumbered(source.train, selected)
        is_test = stratified_split(
            every.labels, division.test_fraction, division.seed
        )
        train = every.relabeled(np.where(is_test, -1, every.labels))
        test = every.relabeled(np.where(is_test, every.labels, -1))
    else:
        train = renumbered(source.train, selected)
        test = renumbered(source.test, selected)
    return Splits(
        tuple(names[label] for label in selected), train, test, len(trained)
    )


def first_classes(num_classes: int, share: float) -> int:
    """Returns how many classes to train on, of a share of them.

    Raises:
        DatasetError: If that leaves less than two to train or to test on.
    """
    # Not 56 of 0.57 · 100, which is 56.99999999999999.
    count = int(num_classes * share + 1e-9)
    if not 2 <= count <= num_classes - 2:
        raise DatasetError(
            f"split_by_class={share:g} of {num_classes} classes leaves "
            f"{count} to train on and {num_classes - count} to test on, and "
            "each takes at least 2: take more classes or another share"
        )
    return count


def selected_labels(
    source: Source,
    classes: str | None,
    data_dir: str | os.PathLike[str] | None,
    division: Division,
) -> list[int]:
    """Returns the original labels of the selected classes, in order.

    Args:
        source: Where the classes are.
        classes: As in `load`.
        data_dir: As in `load`, for the messages.
        division: How their images will be divided.

    Raises:
        DatasetError: If no class matches, fewer than two do, or one of them
            has no images where it must have some.
    """
    names = source.class_names
    every = np.arange(len(names))
    in_train = in_test = np.isin(every, source.train.labels)
    if source.test is not None:
        in_test = np.isin(every, source.test.labels)
    is_empty = ~(in_train | in_test)
    if classes is None:
        labels = every.tolist()
    else:
        labels = [
            label
            for label in matching_classes(classes, names)
            if source.is_complete or not is_empty[label]
        ]
    empty = [names[label] for label in labels if is_empty[label]]
    if empty and not source.is_complete:
        where = f" in data_dir={str(data_dir)!r}" if data_dir else ""
        raise DatasetError(
            f"{len(empty)} of the {len(names)} classes of "
            f"{source.name!r}{where} have no images ({listed(empty)}): only "
            "a part of it was prepared. Pass classes='*' for the classes "
            "that have images, or a pattern that selects among them"
        )
    allows = division.missing_test_classes == "allow"
    for split, present, option in (
        ("train", in_train, ""),
        ("test", in_test | allows, ", or missing_test_classes='allow'"),
    ):
        missing = [names[label] for label in labels if not present[label]]
        if missing and division.split_by_class is None:
            raise DatasetError(
                f"{source.name!r}: no images of {listed(missing)} to {split} "
                "on: add some, remove the class, or pass a pattern as classes "
                f"that leaves it out{option}"
            )
    if source.test is None and division.split_by_class is None:
        labels = _with_two_images(source, labels, division.single_images)
    if len(labels) < 2:
        chosen = listed([names[label] for label in labels]) or "none"
        raise DatasetError(
            f"Telling classes apart takes at least two with images, and "
            f"classes={classes!r} selects {chosen} of {source.name!r}"
        )
    return labels


def _with_two_images(
    source: Source, labels: list[int], single_images: SingleImages
) -> list[int]:
    counts = np.bincount(source.train.labels, minlength=len(source.class_names))
    single = [label for label in labels if counts[label] == 1]
    if not single or single_images == "train":
        return labels
    if single_images == "drop":
        return [label for label in labels if counts[label] != 1]
    names = [source.class_names[label] for label in single]
    raise DatasetError(
        f"{source.name!r}: {len(names)} of {len(labels)} classes have one "
        f"image ({listed(names)}), and splitting off a test set takes two: "
        "add images, give train/ and test/ folders, or pass "
        "single_images='train' to train on these classes without testing "
        "them or 'drop' to leave them out"
    )


def matching_classes(pattern: str, class_names: tuple[str, ...]) -> list[int]:
    """Returns the labels of the classes whose name matches `pattern`.

    Case does not count, and `_` equals a space. A pattern with a wildcard
    (`*`, `?` or `[`) must match the whole name as in a shell; any other is
    looked for anywhere in the name.

    Args:
        pattern: What to look for, not empty.
        class_names: The names, in the order of the labels.

    Raises:
        DatasetError: If no class matches; near names are suggested.

    Example:
        >>> names = ("house_sparrow", "song_sparrow", "winter_wren")
        >>> matching_classes("Sparrow", names)
        [0, 1]
        >>> matching_classes("*wren", names)
        [2]
    """
    if not isinstance(pattern, str) or not pattern:
        raise DatasetError(
            "classes must be a non-empty pattern, such as 'sparrow', or None "
            f"for all classes, received {pattern!r}"
        )
    wanted = _normalized(pattern)
    wildcard = any(character in wanted for character in "*?[")
    found = [
        label
        for label, name in enumerate(map(_normalized, class_names))
        if (fnmatch.fnmatchcase(name, wanted) if wildcard else wanted in name)
    ]
    if not found:
        raise DatasetError(
            f"No class matches classes={pattern!r}: "
            f"{_suggestion(pattern, class_names)}"
        )
    return found


def stratified_split(
    labels: npt.NDArray[np.int64],
    test_fraction: float,
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Draws the same share of every class for testing.

    Args:
        labels: `(size,)` labels; a negative label is in neither split.
        test_fraction: Share of each class that is tested on, in (0, 1). At
            least one image of a class, and never all, whatever the share;
            none of a class with a single image.
        seed: Seed of the draw: the same seed gives the same split.

    Returns:
        `(size,)` bool, True where a record belongs to the test split.
    """
    generator = np.random.default_rng(seed)
    is_test = np.zeros(labels.shape, bool)
    for label in np.unique(labels[labels >= 0]):
        members = np.flatnonzero(labels == label)
        count = round(members.size * test_fraction)
        count = min(max(count, 1), members.size - 1)
        is_test[generator.permutation(members)[:count]] = True
    return is_test


def _suggestion(pattern: str, class_names: tuple[str, ...]) -> str:
    by_word = {
        word: name
        for name in reversed(class_names)
        for word in (_normalized(name), *_normalized(name).split())
    }
    near = difflib.get_close_matches(_normalized(pattern), list(by_word), n=3)
    if near:
        names = list(dict.fromkeys(by_word[word] for word in near))
        return f"did you mean {listed(names)}?"
    return f"the classes are {listed(class_names)}"


def _normalized(name: str) -> str:
    return name.casefold().replace("_", " ")

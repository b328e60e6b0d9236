"""Choosing classes by name, and a test split where none is given."""

import difflib
import fnmatch
import os

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.errors import DatasetError, listed
from keras_finegrain.datasets.sources import Source


def selected_labels(
    source: Source,
    classes: str | None,
    data_dir: str | os.PathLike[str] | None,
) -> list[int]:
    """Returns the original labels of the selected classes, in order.

    Args:
        source: Where the classes are.
        classes: As in `load`.
        data_dir: As in `load`, for the messages.

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
    for split, present, is_required in (
        ("train", in_train, True),
        ("test", in_test, source.is_complete),
    ):
        missing = [names[label] for label in labels if not present[label]]
        if missing and is_required:
            raise DatasetError(
                f"{source.name!r}: no images of {listed(missing)} to {split} "
                "on: add some, remove the class, or pass a pattern as classes "
                "that leaves it out"
            )
    if len(labels) < 2:
        chosen = listed([names[label] for label in labels]) or "none"
        raise DatasetError(
            f"Telling classes apart takes at least two with images, and "
            f"classes={classes!r} selects {chosen} of {source.name!r}"
        )
    return labels


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
    class_names: tuple[str, ...],
    test_fraction: float,
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Draws the same share of every class for testing.

    Args:
        labels: `(size,)` labels; a negative label is in neither split.
        class_names: Names for the message, the index is the label.
        test_fraction: Share of each class that is tested on, in (0, 1). At
            least one image of a class, and never all, whatever the share.
        seed: Seed of the draw: the same seed gives the same split.

    Returns:
        `(size,)` bool, True where a record belongs to the test split.

    Raises:
        DatasetError: If a class has a single image.
    """
    generator = np.random.default_rng(seed)
    is_test = np.zeros(labels.shape, bool)
    for label in np.unique(labels[labels >= 0]):
        members = np.flatnonzero(labels == label)
        if members.size < 2:
            raise DatasetError(
                f"The class {class_names[label]!r} has one image, and "
                "splitting off a test set takes two: add images or give "
                "train/ and test/ folders"
            )
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

"""Choosing classes by name, and a test split where none is given."""

import difflib
import fnmatch

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.errors import DatasetError

_MAX_NAMES = 5


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
    if not pattern:
        raise DatasetError(
            "classes must be a non-empty pattern or None for all classes, "
            "received ''"
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
    if not 0 < test_fraction < 1:
        raise ValueError(
            "test_fraction must lie in (0, 1), received "
            f"test_fraction={test_fraction}"
        )
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


def listed(names: list[str]) -> str:
    """Returns the first few names, as they stand in a message."""
    shown = ", ".join(repr(name) for name in names[:_MAX_NAMES])
    more = len(names) - _MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


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
    return f"the classes are {listed(list(class_names))}"


def _normalized(name: str) -> str:
    return name.casefold().replace("_", " ")

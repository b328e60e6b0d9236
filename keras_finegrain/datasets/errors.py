"""Errors of data sets, each with a message that a script can print."""

from collections.abc import Sequence

_MAX_NAMES = 5


class DatasetError(ValueError):
    """A data set cannot be loaded as asked.

    The message is one line that names the data set, class or file at fault
    and says what to do, so that a script can print it and stop. Several files
    that cannot be read have a line each.

    Example:
        >>> from keras_finegrain import datasets
        >>> try:
        ...     datasets.load("./no_such_folder")
        ... except datasets.DatasetError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        './no_such_folder' does not exist as a folder: pass one that holds ...
    """


class MissingPackageError(DatasetError, ImportError):
    """A package that the data set needs is not installed."""


def one_line(text: object, limit: int = 300) -> str:
    """Returns the text without line breaks, cut where it gets long."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def listed(names: Sequence[str]) -> str:
    """Returns the first few names, as they stand in a message."""
    shown = ", ".join(repr(name) for name in names[:_MAX_NAMES])
    more = len(names) - _MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown

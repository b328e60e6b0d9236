"""What goes wrong with a data set, said in one line."""


class DatasetError(ValueError):
    """A data set cannot be loaded as asked.

    The message is one line that names the data set, class or file at fault
    and says what to do, so that a script can print it and stop.

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

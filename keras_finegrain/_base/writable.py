"""Whether results can be written, asked before they are computed."""

import pathlib
import tempfile


def check_writable(folder: pathlib.Path) -> None:
    """Raises an OSError if a folder, there or not, can take no file.

    It is not made, so that what fails later leaves nothing.
    """
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass

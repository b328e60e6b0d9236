"""The folder of the results, and files that are never half written."""

import pathlib
import tempfile

from keras_finegrain._base.files import remove_partial, replacing
from keras_finegrain.cli.output import CommandError


def writable_folder(
    path: str, may_hold_results: bool, option: str
) -> pathlib.Path:
    """Makes the folder for the results.

    Args:
        path: The folder.
        may_hold_results: Whether it may hold the results of an earlier run.
        option: The option that allows this, for the message.

    Raises:
        CommandError: If it cannot be written to, or holds an earlier run.
    """
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CommandError(
            f"--output {path}: cannot be written to ({error.strerror})"
        ) from error
    if (folder / "results.json").exists() and not may_hold_results:
        raise CommandError(
            f"--output {path}: holds the results of an earlier run; choose "
            f"another folder or pass {option}"
        )
    return folder


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a file in one step: a run that stops here keeps the old one."""
    with replacing(path) as file:
        file.write(text.encode())


def remove_unfinished(folder: pathlib.Path) -> None:
    """Removes what a killed process left half written."""
    for each in (folder, *folder.iterdir()):
        if each.is_dir():
            remove_partial(each)
    # The names that earlier versions wrote under.
    for name in ("results.json", "results.md", "history.csv"):
        (folder / f"{name}.partial").unlink(missing_ok=True)

"""The folder of the results, and files that are never half written."""

import pathlib

from keras_finegrain._base.files import remove_partial, replacing
from keras_finegrain._base.writable import check_writable
from keras_finegrain.cli.output import CommandError


def writable_folder(
    path: str, data: str, may_hold_results: bool, option: str
) -> pathlib.Path:
    """Checks the folder for the results, which need not be there.

    Args:
        path: The folder.
        data: The photos.
        may_hold_results: Whether it may hold the results of an earlier run.
        option: The option that allows this, for the message.

    Raises:
        CommandError: If it cannot be written to, holds an earlier run, or lies
            among the photos.
    """
    folder = pathlib.Path(path)
    photos = pathlib.Path(data)
    if photos.is_dir() and folder.resolve().is_relative_to(photos.resolve()):
        raise CommandError(
            f"--output {path}: lies in {data}, whose folders are classes: its "
            "pictures would be taken for photos. Name a folder outside with "
            "--output"
        )
    try:
        check_writable(folder)
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

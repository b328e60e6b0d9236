"""Files that are whole or not there."""

import contextlib
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

_PARTIAL = ".partial-"


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Opens a file to write; it replaces `path` when it is whole.

    If the block raises, what was at `path` stays. A process that has the old
    file open goes on with it.
    """
    with replacing_path(path) as partial, open(partial, "wb") as file:
        yield file


@contextlib.contextmanager
def replacing_path(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """As `replacing`, for writers that open the file themselves.

    Yields:
        Where to write: beside `path`, with the same ending.
    """
    # Behind a link, as if the file were written in its place.
    path = pathlib.Path(os.path.realpath(path))
    partial = path.with_name(f"{_PARTIAL}{uuid.uuid4().hex}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """As `replacing_path`, for writers of a folder.

    No system exchanges two folders that hold files in one step: a process
    that is killed between the two steps leaves the older one beside `path`.
    """
    path = pathlib.Path(os.path.realpath(path))
    name = f"{_PARTIAL}{uuid.uuid4().hex}-{path.name}"
    partial, older = path.with_name(name), path.with_name(f"{name}-older")
    try:
        yield partial
        if path.exists():
            path.rename(older)
        try:
            partial.rename(path)
        except OSError:
            if older.exists():
                older.rename(path)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(older, ignore_errors=True)


def remove_partial(folder: pathlib.Path, unchanged_for: float = 0) -> None:
    """Removes what writers left in a folder whose processes were killed.

    Args:
        folder: The folder.
        unchanged_for: Seconds. Where other processes may write, what they
            have changed since is theirs and stays.
    """
    for partial in folder.glob(f"{_PARTIAL}*"):
        # (Its writer may finish in between.)
        with contextlib.suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime < unchanged_for:
                continue
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink()


def as_path(who: str, name: str, value: Any) -> pathlib.Path:
    """The path of a file, with `~` expanded; raises for anything else."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(
            f"{who}: {name} must be the path of a file, received {value!r:.80}."
        )
    return pathlib.Path(value).expanduser()

"""What lies in a folder, each folder once."""

import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Iterator
from typing import Literal

from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.image_files import (
    readable_extensions,
    unread_extensions,
)

# Thumbnails and copies that file servers and archives leave behind.
_SYSTEM_FOLDERS = ("@eaDir", "#recycle", "__MACOSX", "$RECYCLE.BIN")


@dataclasses.dataclass(eq=False)
class Folder:
    """A folder and all that is in it, in alphabetical order.

    Attributes:
        path: Where it is.
        folders: The folders in it.
        images: Paths of the image files in it, not deeper.
        unread: Paths of images of formats that cannot be read here.
        hidden: Paths of images that are hidden or thumbnails.
    """

    path: str
    folders: list["Folder"] = dataclasses.field(default_factory=list)
    images: list[str] = dataclasses.field(default_factory=list)
    unread: list[str] = dataclasses.field(default_factory=list)
    hidden: list[str] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name, spelled in one way of those that Unicode has."""
        name = os.path.basename(self.path)
        text = os.fsencode(name).decode(errors="backslashreplace")
        return unicodedata.normalize("NFC", text)

    def all_images(self) -> list[str]:
        """Paths of the image files in it and in the folders below."""
        return sorted(self.all("images"), key=lambda p: p.split(os.sep))

    def all(self, kind: Literal["images", "unread", "hidden"]) -> Iterator[str]:
        """One of the lists of it and of the folders below."""
        yield from getattr(self, kind)
        for folder in self.folders:
            yield from folder.all(kind)

    def with_images(self) -> list["Folder"]:
        """The folders in it that hold images, at any depth."""
        return [f for f in self.folders if any(True for _ in f.all("images"))]


def scan(
    path: str | pathlib.Path, seen: dict[str, str] | None = None
) -> Folder:
    """Lists a folder and those below. Links are followed.

    Args:
        path: The folder.
        seen: Real paths of the folders that were listed before, and the paths
            that led there.

    Raises:
        DatasetError: If two paths lead to one folder, or one cannot be read.
    """
    seen = {} if seen is None else seen
    folder = Folder(str(path))
    first = seen.setdefault(os.path.realpath(path), folder.path)
    if first != folder.path:
        raise DatasetError(
            f"{folder.path!r} and {first!r} are one folder (a link), whose "
            "images would be read twice: remove one of them"
        )
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(
            f"The folder {folder.path!r} cannot be read: {error.strerror}"
        ) from error
    for entry in entries:
        extension = pathlib.PurePath(entry.name).suffix.lower()
        if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
            folder.hidden += _hidden_images(entry)
        elif entry.is_dir():
            folder.folders.append(scan(entry.path, seen))
        elif extension in readable_extensions():
            folder.images.append(entry.path)
        elif extension in unread_extensions():
            folder.unread.append(entry.path)
    return folder


def _hidden_images(entry: "os.DirEntry[str]") -> list[str]:
    paths = [entry.path]
    if entry.is_dir(follow_symlinks=False):
        paths = [
            os.path.join(folder, file)
            for folder, _, files in os.walk(entry.path)
            for file in files
        ]
    known = readable_extensions() | unread_extensions()
    return sorted(
        path for path in paths if pathlib.PurePath(path).suffix.lower() in known
    )

"""`add`: a class by a few photos, without training."""

import argparse
import os
import pathlib
import unicodedata
from typing import TYPE_CHECKING

from keras_finegrain.cli.output import DONE, CommandError, Output
from keras_finegrain.cli.trained import (
    add_photos,
    add_run,
    data_of,
    folder_of,
    paths_of,
)

if TYPE_CHECKING:
    from keras_finegrain.bundle import Bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_run(parser)
    parser.add_argument(
        "class_name",
        metavar="CLASS",
        help="name of the class; one that is there gets more photos",
    )
    add_photos(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    """Adds the photos that are not there yet to the gallery of the bundle."""
    from keras_finegrain.bundle import GALLERY, Bundle

    folder = folder_of(options, out)
    before = _state_of(folder / GALLERY)
    bundle = Bundle.load(folder)
    paths = paths_of(options.photos)
    new = _not_known(paths, bundle)
    known = len(paths) - len(new)
    # As the names of folders are spelled.
    name = unicodedata.normalize("NFC", options.class_name)
    is_new = name not in getattr(bundle.gallery, "class_names", ())
    if new:
        bundle.add(new, name, keys=list(map(_key, new)))
        if _state_of(folder / GALLERY) != before:
            raise CommandError(
                f"{folder / GALLERY}: another process has changed it in the "
                "meantime, and nothing was added. Run the same command again"
            )
        bundle.gallery.save(folder / GALLERY)
    elif is_new:
        raise CommandError(
            f"{name}: the {known} photos are known already, as "
            "photos of other classes. Pass other photos"
        )
    count = len(bundle.gallery.class_names)
    out.answer(
        f"{'new' if is_new else 'known'} class {name}: "
        f"{len(new)} photos added"
        + (f", {known} known already" if known else "")
        + f"; {count} classes in {folder}"
    )
    out.result(
        {
            "model": str(folder),
            "class_name": name,
            "is_new": is_new,
            "added": new,
            "known_already": known,
            "classes": list(bundle.gallery.class_names),
        }
    )
    if is_new:
        out.say(
            "identify and similar know it from now on. The scores of an "
            "exported model do not: for those, train with its photos"
        )
    return DONE


def _not_known(paths: list[str], bundle: "Bundle") -> list[str]:
    """Those of the photos, each once, that are not in the gallery."""
    # The keys of training photos are paths within the data.
    data = os.path.realpath(data_of(bundle) or "")
    keys = getattr(bundle.gallery, "keys", ())
    known = {pathlib.Path(data, key).as_posix() for key in keys}
    new = {
        _key(path): path
        for path in paths
        if known.isdisjoint((_key(path), _key(os.path.realpath(path))))
    }
    return list(new.values())


def _state_of(path: pathlib.Path) -> tuple[int, ...]:
    """Other numbers when a file has been replaced."""
    if not path.exists():
        return ()
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _key(path: str) -> str:
    """What a photo is known by, wherever the command is started."""
    return pathlib.Path(os.path.abspath(path)).as_posix()

"""`add`: a class by a few photos, without training."""

import argparse

from keras_finegrain.cli.output import DONE, Output
from keras_finegrain.cli.trained import add_photos, add_run, load, paths_of


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
    """Adds the photos to the gallery of the bundle."""
    from keras_finegrain.bundle import GALLERY

    bundle, folder = load(options, out)
    paths = paths_of(options.photos)
    is_new = options.class_name not in getattr(
        bundle.gallery, "class_names", ()
    )
    bundle.add(paths, options.class_name)
    bundle.gallery.save(folder / GALLERY)
    count = len(bundle.gallery.class_names)
    out.answer(
        f"{'new' if is_new else 'known'} class {options.class_name}: "
        f"{len(paths)} photos added; {count} classes in {folder}"
    )
    out.result(
        {
            "model": str(folder),
            "class_name": options.class_name,
            "is_new": is_new,
            "added": paths,
            "classes": list(bundle.gallery.class_names),
        }
    )
    if is_new:
        out.say(
            "identify and similar know it from now on. The scores of an "
            "exported model do not: for those, train with its photos"
        )
    return DONE

"""`similar`: the known photos that a photo looks like most."""

import argparse

from keras_finegrain.cli.output import DONE, Output
from keras_finegrain.cli.parsing import integer
from keras_finegrain.cli.trained import (
    BATCH_SIZE,
    add_photos,
    add_run,
    load,
    paths_of,
    place_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_run(parser)
    add_photos(parser)
    parser.add_argument(
        "--k",
        type=integer(1),
        default=5,
        metavar="K",
        help="how many known photos for each photo (default: 5)",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    """Lists the nearest known photos of each photo, nearest first."""
    bundle, folder = load(options, out)
    paths = paths_of(options.photos)
    documents = []
    for start in range(0, len(paths), BATCH_SIZE):
        some = paths[start : start + BATCH_SIZE]
        found = bundle.similar(some, k=options.k)
        for path, matches in zip(some, found, strict=True):
            out.answer(path)
            known = []
            for key, class_name, similarity in matches:
                place = place_of(key, bundle)
                out.answer(f"  {similarity:.3f}  {class_name}  {place}")
                known.append(
                    {
                        "photo": place,
                        "class_name": class_name,
                        "similarity": similarity,
                    }
                )
            documents.append({"photo": path, "similar": known})
    out.result({"model": str(folder), "photos": documents})
    return DONE

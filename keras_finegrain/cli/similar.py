"""`similar`: the known photos that a photo looks like most."""

import argparse
import functools
from typing import Any

from keras_finegrain.cli.output import DONE, WRONG_USE, Output
from keras_finegrain.cli.parsing import integer
from keras_finegrain.cli.trained import (
    add_photos,
    add_run,
    answers,
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
        help="how many known photos for each photo",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    """Lists the nearest known photos of each photo, nearest first.

    The status is 2 if there was a photo that cannot be read.
    """
    bundle, folder = load(options, out)
    documents: list[dict[str, Any]] = []
    nearest = functools.partial(bundle.similar, k=options.k)
    for path, matches in answers(nearest, paths_of(options.photos)):
        if isinstance(matches, Exception):
            out.warn(f"{path}: {matches}")
            documents.append({"photo": path, "error": str(matches)})
            continue
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
    failed = any("error" in document for document in documents)
    return WRONG_USE if failed else DONE

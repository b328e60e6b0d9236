"""`report`: a page that shows what a model confuses, and why."""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_finegrain.cli.output import DONE, Output
from keras_finegrain.cli.parsing import expanded
from keras_finegrain.cli.trained import add_data, add_run, model_and_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_run(parser, or_model=True)
    add_data(parser)
    parser.add_argument(
        "--output",
        type=expanded,
        default="report.html",
        metavar="FILE",
        help="the page",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    """Writes the page."""
    import keras_finegrain

    bundle, folder, photos = model_and_data(options, out)
    known = photos.known
    settings = dict(bundle.about.get("settings", {}))
    # (1 leaves the scores as they are.)
    temperature = 1.0 if bundle.temperature is None else bundle.temperature
    method = bundle.about.get("method", bundle.model.name)
    out.say(f"looking at the photos and writing {options.output} …")
    path = keras_finegrain.report(
        bundle.model,
        photos.batches(bundle.image_size),
        options.output,
        bundle.class_names,
        keys=photos.keys,
        known=None if known is None else known.batches(bundle.image_size),
        known_keys=None if known is None else known.keys,
        # Photos of other data may have the same names.
        compare=None if known is None else _other_methods(folder, photos.keys),
        settings=settings or None,
        title=f"{method} on {photos.name}",
        temperature=temperature,
    )
    out.answer(str(path))
    out.result({"page": str(path), "photos": len(photos.keys)})
    return DONE


def _other_methods(
    folder: pathlib.Path | None, keys: Sequence[str]
) -> dict[str, np.ndarray]:
    """What the run's other methods say of the same photos."""
    from keras_finegrain.bundle import TESTED, bundles_in

    others: dict[str, np.ndarray] = {}
    if folder is None:
        return others
    folder = folder.resolve()
    for other in bundles_in(folder.parent):
        if other == folder or not (other / TESTED).is_file():
            continue
        with np.load(other / TESTED, allow_pickle=False) as tested:
            rows = {key: row for row, key in enumerate(tested["keys"].tolist())}
            if rows.keys() >= set(keys):
                others[other.name] = tested["scores"][[rows[k] for k in keys]]
    return others

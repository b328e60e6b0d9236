"""`export`: the model for an app."""

import argparse
import pathlib
from typing import Any

import numpy as np

from keras_finegrain.cli.output import DONE, CommandError, Output
from keras_finegrain.cli.parsing import expanded
from keras_finegrain.cli.trained import add_run, load, own_data

# Each with the name of its file in the bundle's folder.
FORMATS = {
    "saved_model": "saved_model",
    "onnx": "model.onnx",
    "litert": "model.tflite",
}
# Training photos that tell the ranges of values in 8 bits.
_REPRESENTATIVE = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_run(parser)
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        required=True,
        help="saved_model for TensorFlow, onnx for ONNX Runtime, litert for "
        "phones",
    )
    parser.add_argument(
        "--embedding",
        action="store_true",
        help="give the embedding beside the probabilities",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="8 bits, for onnx and litert; the ranges come from training "
        "photos of the run's data, where that is still there",
    )
    parser.add_argument(
        "--output",
        type=expanded,
        metavar="PATH",
        help="where to write (default: into the model's folder)",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    """Writes the file; it gives probabilities from images in [0, 255]."""
    bundle, folder = load(options, out)
    path = options.output or folder / FORMATS[options.format]
    known = () if bundle.gallery is None else bundle.gallery.class_names
    added = [name for name in known if name not in bundle.class_names]
    if added:
        out.warn(
            f"the file has no score for what was added to the gallery: "
            f"{', '.join(added)}. For those, train with their photos"
        )
    written = bundle.export(
        path,
        options.format,
        embedding=options.embedding,
        quantize=options.quantize,
        representative_data=_representative(
            bundle, folder, options.quantize, out
        ),
    )
    size = sum(
        each.stat().st_size
        for each in [written, *written.rglob("*")]
        if each.is_file()
    )
    out.answer(f"{written}  {size / 1e6:.1f} MB")
    out.result(
        {
            "path": str(written),
            "format": options.format,
            "bytes": size,
            "class_names": list(bundle.class_names),
            "image_size": bundle.image_size,
        }
    )
    side = bundle.image_size
    outputs = "scores and embedding" if options.embedding else "scores"
    out.say(
        f'It takes "images", {side} x {side} pixels in [0, 255], and gives '
        f"{outputs}; the scores are probabilities. The lines of code that run "
        "it stand in the project's docs/export.md"
    )
    return DONE


def _representative(
    bundle: Any, folder: pathlib.Path, quantize: str | None, out: Output
) -> np.ndarray | None:
    """Some of the photos that the model was trained on, of all classes."""
    from keras_finegrain import datasets

    if quantize is None:
        return None
    try:
        _, known = own_data(bundle, folder, out)
    except (CommandError, datasets.DatasetError) as error:
        out.warn(
            f"only the weights have 8 bits, since the training photos that "
            f"tell the ranges of the rest are not there: {error}"
        )
        return None
    # They are ordered by class.
    step = -(-len(known.keys) // _REPRESENTATIVE)
    some = known.pairs.shard(step, 0)
    batches = datasets.batches(
        some, image_size=bundle.image_size, batch_size=32, training=False
    )
    images = np.concatenate([images for images, _ in batches])
    out.say(f"ranges of 8 bits from {len(images)} training photos")
    return images

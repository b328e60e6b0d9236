"""`export`: one file that an app runs without Keras."""

import importlib.util
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base import checks
from keras_finegrain._base.files import as_path
from keras_finegrain._version import __version__
from keras_finegrain.exporting import formats
from keras_finegrain.exporting.graph import gives_embeddings, inference_graph

_FORMATS = {
    "saved_model": formats.save_saved_model,
    "onnx": formats.save_onnx,
    "litert": formats.save_litert,
}
_ENDINGS = {"onnx": ".onnx", "litert": ".tflite"}
# What Keras writes from where; the package that it needs there, if any.
_BACKENDS: dict[str, dict[str, str | None]] = {
    "saved_model": {"tensorflow": None, "jax": None},
    "onnx": {"tensorflow": None, "jax": "jax2onnx", "torch": None},
    "litert": {"tensorflow": None, "torch": "litert_torch"},
}


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str,
    *,
    embedding: bool | str = False,
    temperature: float | None = None,
    class_names: Sequence[str] | None = None,
    layer: str | keras.layers.Layer | None = None,
    image_size: int | tuple[int, int] | None = None,
    crop: float | None = 0.875,
    metadata: Mapping[str, Any] | None = None,
    quantize: str | None = None,
    representative_data: Any = None,
) -> pathlib.Path:
    """Writes a model as a file that an app runs without Keras.

    The file takes any number of images at once, `images` `(batch, height,
    width, channels)`, float32 in the range that the model was trained on
    ([0, 255] for those of this package), and gives outputs by name:

    - `scores` `(batch, classes)`: the model's own outputs (logits of a dense
      head, cosines of a cosine head), or with `temperature` probabilities,
      softmax(outputs / temperature), that add up to 1.
    - `embedding` `(batch, dim)`, if asked for, as `embedding_model` gives it.

    It computes what the model computes, in float32, and nothing of what serves
    training alone: no loss, no dropping, no labels. A model of mixed precision
    is written in float32.

    What an app needs besides travels along: the class names in the order of
    the scores, the shape of the images, the crop and the temperature.

    - "saved_model": a folder for TensorFlow and TensorFlow Serving, with
      `labels.txt` (one name on each line) and `metadata.json` in it.
    - "onnx": one file for ONNX Runtime, which runs on servers, in browsers and
      on phones. Its `metadata_props` hold the rest, as JSON by key.
    - "litert": a file for Android, iOS and small devices, `bird.tflite`, with
      `bird.labels.txt` and `bird.json` beside it.

    Args:
        model: A functional or sequential model, built, with one input of
            images. An input of labels for the layers of this package is left
            away.
        path: Where to write. A missing folder is made; what an earlier export
            wrote is replaced when the new one is complete.
        format: "saved_model", "onnx" or "litert".
        embedding: Whether to give the embedding as well; "only" for the
            embedding alone. A model that is compiled with a loss on pairs has
            no scores: it gives the embedding alone.
        temperature: What the model's outputs are divided by before the
            softmax, above 0. Default `None`: no softmax.
        class_names: Name of each class, on one line each. Default `None`: no
            names are written.
        layer: The layer whose output is the embedding, as in
            `embedding_model`.
        image_size: Height and width, or the side of a square, for a model
            whose input leaves them open. Default `None`: the model's own.
        crop: For the app, as a part of the metadata: the side of the central
            square that is cut from a photo and resized, as a share of the
            photo's short side, in (0, 1]. Default 0.875, that of `datasets`.
            `None` for models that were trained on something else.
        metadata: More for the app, such as a threshold: values of JSON by
            their names.
        quantize: "int8" for 8 bits, with "onnx" and "litert": less than a
            third of the size. Scores are then no longer equal to the model's:
            measure them, and calibrate on them. Default `None`.
        representative_data: With `quantize`, some hundred images as the app
            will see them, `(samples, height, width, channels)`: products are
            computed in 8 bits, with ranges from these images. Default `None`:
            weights of 8 bits alone, which ONNX Runtime computes slowly with.

    Returns:
        The path.

    Raises:
        ImportError: If a package that writes the format is missing.
        TypeError: If an argument is of another type.
        ValueError: If the model has no such graph, an argument does not fit
            it, the path cannot be written or holds something else, or Keras
            does not write the format from the backend in use.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras_finegrain.SoftTriple(num_classes=2),
    ... ])
    >>> export(model, "bird.onnx", "tflite")
    Traceback (most recent call last):
    ValueError: export: format must be one of 'saved_model', 'onnx', 'litert',
    received 'tflite'.
    >>> path = export(  # doctest: +SKIP
    ...     model, "bird.onnx", "onnx", class_names=["wren", "robin"]
    ... )
    """
    who = "export"
    checks.one_of(who, "format", format, tuple(_FORMATS))
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{who}: model must be a Keras model, received {model!r:.80}."
        )
    if embedding != "only":
        embedding = checks.boolean(who, "embedding", embedding)
    if temperature is not None:
        temperature = checks.number(who, "temperature", temperature, above=0)
        if embedding == "only" or gives_embeddings(model):
            raise ValueError(
                f"{who}: temperature must be None where there are no scores, "
                f"received {temperature:g}. Leave it away."
            )
    if crop is not None:
        crop = checks.number(who, "crop", crop, above=0, at_most=1)
    size = _size(image_size)
    _check_backend(format)
    images, outputs = inference_graph(
        model, embedding, layer, temperature, size
    )
    names = _names(class_names, outputs.get("scores"))
    about = _about(images, outputs, temperature, names, crop, metadata)
    samples = _samples(quantize, representative_data, format, images)
    path = _target(path, format)
    _FORMATS[format](path, images, outputs, about, samples, quantize)
    return path


def _check_backend(format: str) -> None:
    """Raises where Keras does not write a format from the backend in use."""
    backend = keras.backend.backend()
    way_out = (
        "Save the model with model.save('model.keras'), and export that file "
        "where KERAS_BACKEND=tensorflow is set before Python starts"
    )
    if backend not in _BACKENDS[format]:
        raise ValueError(
            f"export: format must be one that Keras writes from {backend}, "
            f"received {format!r}. {way_out}."
        )
    package = _BACKENDS[format][backend]
    if package is not None and importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise ImportError(
            f"export: format {format!r} needs {name} on {backend}, which is "
            f"not installed. {way_out}, or run: pip install {name}"
        )


def _size(image_size: Any) -> tuple[int, int] | None:
    """Height and width."""
    if image_size is None:
        return None
    sides = image_size
    if not isinstance(image_size, (tuple, list)):
        sides = (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(
            "export: image_size must be one side or height and width, "
            f"received {image_size!r:.80}."
        )
    height, width = (
        checks.positive_integer("export", "image_size", side) for side in sides
    )
    return height, width


def _names(
    class_names: Any, scores: keras.KerasTensor | None
) -> list[str] | None:
    """The class names, which fit the scores and lines of a file."""
    names = checks.names_or_none("export", "class_names", class_names)
    if names is None:
        return None
    if scores is not None and len(names) != scores.shape[-1]:
        raise ValueError(
            "export: class_names must have one name for each score, received "
            f"{len(names)} names for {scores.shape[-1]} scores."
        )
    for name in names:
        if len(name.splitlines()) != 1:
            raise ValueError(
                "export: class_names must be of one line each, received "
                f"{name!r:.80}."
            )
    return list(names)


def _about(
    images: keras.KerasTensor,
    outputs: Mapping[str, keras.KerasTensor],
    temperature: float | None,
    class_names: list[str] | None,
    crop: float | None,
    metadata: Any,
) -> dict[str, Any]:
    """What an app has to know, as values of JSON."""
    about = {
        "class_names": class_names,
        "images": ["batch", *images.shape[1:]],
        "outputs": {
            name: ["batch", *output.shape[1:]]
            for name, output in outputs.items()
        },
        "scores": "probabilities" if temperature else "outputs of the head",
        "temperature": temperature,
        "crop": crop,
        "written_by": f"keras_finegrain {__version__}",
    }
    if "scores" not in outputs:
        del about["scores"]
    more = {} if metadata is None else metadata
    if not isinstance(more, Mapping):
        raise TypeError(
            "export: metadata must be a dict of values of JSON, received "
            f"{metadata!r:.80}."
        )
    taken = sorted(map(str, set(more) & set(about)))
    if taken:
        raise ValueError(
            "export: metadata must have names of its own, received "
            f"{taken}, which export writes itself."
        )
    about.update(more)
    try:
        json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "export: metadata must hold values of JSON (strings, finite "
            f"numbers, lists, dicts), received {metadata!r:.80}: {error}."
        ) from None
    return about


def _samples(
    quantize: Any, data: Any, format: str, images: keras.KerasTensor
) -> np.ndarray | None:
    """Checks how to quantize; the images that give the ranges."""
    if quantize is None:
        if data is not None:
            raise ValueError(
                "export: representative_data must be None without quantize, "
                "received some. Pass quantize='int8', or leave it away."
            )
        return None
    checks.one_of("export", "quantize", quantize, ("int8",))
    if format == "saved_model":
        raise ValueError(
            "export: quantize must be None for 'saved_model', received "
            f"{quantize!r}. TensorFlow runs it in float32: choose 'litert' or "
            "'onnx'."
        )
    if format == "litert" and keras.backend.backend() != "tensorflow":
        raise ValueError(
            "export: quantize must be None for 'litert' from "
            f"{keras.backend.backend()}, received {quantize!r}. Export where "
            "KERAS_BACKEND=tensorflow is set."
        )
    if data is None:
        return None
    samples = checks.real_array("export", "representative_data", data)
    if samples.ndim != len(images.shape) or (
        samples.shape[1:] != tuple(images.shape[1:]) or not len(samples)
    ):
        raise ValueError(
            "export: representative_data must be images of the shape (samples,"
            f" {', '.join(map(str, images.shape[1:]))}), received "
            f"{samples.shape}."
        )
    return samples.astype("float32")


def _target(path: Any, format: str) -> pathlib.Path:
    """Where to write: nothing else stands there, and a folder is there."""
    path = as_path("export", "path", path)
    ending = _ENDINGS.get(format)
    if ending is not None and path.suffix != ending:
        raise ValueError(
            f"export: path must end in '{ending}' for format {format!r}, "
            f"received '{path}'."
        )
    if ending is not None and path.is_dir():
        raise ValueError(
            f"export: path must be that of a file for format {format!r}, "
            f"received the folder '{path}'. Remove it or choose another."
        )
    if ending is None and path.exists():
        is_older = (path / "saved_model.pb").is_file()
        if not is_older and not (path.is_dir() and not any(path.iterdir())):
            raise ValueError(
                "export: path must be new, an empty folder or an earlier "
                f"SavedModel, received '{path}', which holds something else. "
                "Choose another."
            )
    folder = path.absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"export: path must lie in a folder, received '{path}': "
            f"{error.strerror}. Choose another."
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(
            "export: path must lie in a folder that you may write to, "
            f"received '{path}'. Choose another."
        )
    return path

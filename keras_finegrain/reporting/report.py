"""The report: everything that the package can show, in one file."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.optional import import_optional
from keras_finegrain._version import __version__
from keras_finegrain.reporting import page, sections
from keras_finegrain.reporting.evidence import Evidence, collect


def report(
    model: keras.Model,
    data: Any,
    output: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    layer: str | keras.layers.Layer | None = None,
    to_photo: Callable[[np.ndarray], np.ndarray] | None = None,
    title: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> pathlib.Path:
    """Writes one HTML page on what a model tells apart and what it confuses.

    The page holds its pictures and needs no network and no server: it can be
    sent by mail. In it stand the figures of `metrics.embedding_metrics` with
    their intervals (and top-1 and top-5 accuracy, where the model gives
    scores), the embedding in two dimensions, the worst confusions with the
    photos behind them, the confusion matrix among look-alikes, nearest
    neighbours, the class centers where the model has some, what the channels
    of `MCLoss` look at, and photos of the classes.

    The data is read twice: for the figures, and for the photos that the page
    shows. Memory holds the embeddings, the scores and those photos.

    Args:
        model: A functional or sequential model, of Keras or of this package.
        data: Arrays `(x, y)`, or anything that gives batches `(x, y)` each
            time it is iterated, in the same order each time: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch
            `DataLoader`.
        output: The file, such as `"report.html"`. A missing folder is made,
            an existing file replaced when the new one is whole.
        class_names: Name of each class. Defaults to "class 0", "class 1", …
        layer: The layer whose output is the embedding, or its name. Defaults
            to what goes into the head, as in `embedding_model`.
        to_photo: Gives the photo, in [0, 255] or [0, 1], of one input. For
            models that take preprocessed images: `lambda x: (x + 1) / 2`.
            Defaults to the input itself.
        title: Title of the page. Defaults to the model's name.
        batch_size: Samples in a batch, for arrays. Defaults to 32.
        seed: Seed of k-means and t-SNE. Defaults to 0.

    Returns:
        The path.

    Raises:
        ImportError: If matplotlib, scikit-learn or Pillow is missing.
        ValueError: If the model has no embedding (name a layer), the data no
            labels or another order each time, an image is out of its range
            (pass `to_photo`), or a class has no name.

    Example:

    >>> import tempfile
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(4, 3, activation="relu"),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> x = np.random.default_rng(0).uniform(size=(12, 8, 8, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = report(model, (x, np.arange(12) % 2), f"{folder}/r.html")
    ...     print(path.name, "Worst confusions" in path.read_text("utf-8"))
    r.html True
    """
    batch_size = positive_integer("report", "batch_size", batch_size)
    for module in ("matplotlib", "sklearn", "PIL"):
        import_optional(module, "report")
    path = pathlib.Path(output).expanduser()
    evidence = collect(model, data, layer, class_names, to_photo, batch_size)
    with_photos: list[Callable[[Evidence], str]] = [
        sections.worst_confusions,
        sections.retrieval,
        sections.centers,
        sections.channels,
        sections.classes,
    ]
    if evidence.photos is None:
        with_photos = [sections.worst_confusions, sections.centers]
    else:
        # Drawn with blank photos first: that tells which ones to read.
        for draw in with_photos:
            draw(evidence)
        evidence.read_photos()
    confusions, *others = (draw(evidence) for draw in with_photos)
    title = title or model.name
    text = page.page(
        title,
        [
            *_heading(title, evidence),
            sections.figures(evidence, seed),
            confusions,
            sections.confusion_matrix(evidence),
            sections.scatter(evidence, seed),
            *others,
            _footer(),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _heading(title: str, evidence: Evidence) -> list[str]:
    model = evidence.model
    present = len(np.unique(evidence.labels))
    return [
        page.heading(title),
        page.paragraph(
            f"{len(evidence.labels):,} samples of {present} classes; an "
            f"embedding of {evidence.embeddings.shape[1]} dimensions; a model "
            f"of {model.count_params():,} parameters, whose last layer is "
            f"{type(model.layers[-1]).__name__}."
        ),
    ]


def _footer() -> str:
    return page.footer(
        f"Written by keras_finegrain {__version__} with Keras "
        f"{keras.__version__} on {keras.backend.backend()}."
    )

"""The report: what a model tells apart and what it confuses, on one page."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base import checks
from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.files import replacing
from keras_finegrain._base.optional import import_optional
from keras_finegrain._version import __version__
from keras_finegrain.reporting import page, sections
from keras_finegrain.reporting.choose import choose
from keras_finegrain.reporting.read import measure, read_photos
from keras_finegrain.visualization.checks import as_path


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
    sent by mail. It shows the metrics of `metrics.embedding_metrics` with
    their intervals (and top-1 and top-5 accuracy, if the model gives scores),
    the worst confusions with photos, the confusion matrix among look-alikes,
    the embedding in two dimensions, nearest neighbours, the class centers if
    the model has some, what the channels of `MCLoss` look at, and photos of
    the classes.

    The data is read twice: for the metrics, and for the photos that the page
    shows. Memory holds the embeddings, the scores and these photos.

    Args:
        model: A functional or sequential model, of Keras or of this package.
        data: Arrays `(x, y)`, or anything that gives batches `(x, y)` each
            time it is iterated, in the same order each time: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch
            `DataLoader`.
        output: The file, such as `"report.html"`. A missing folder is made;
            an existing file is replaced when the new one is complete.
        class_names: Name of each class. Defaults to "class 0", "class 1", …
        layer: The layer whose output is the embedding, or its name. Defaults
            to the input of the head, as in `embedding_model`.
        to_photo: Turns one input into a photo in [0, 255] or [0, 1], for
            models that take preprocessed images: `lambda x: (x + 1) / 2`.
            Defaults to the input itself.
        title: Title of the page. Defaults to the model's name.
        batch_size: Samples in a batch, for arrays. Defaults to 32.
        seed: Seed of k-means and t-SNE. Defaults to 0.

    Returns:
        The path.

    Raises:
        ImportError: If matplotlib, scikit-learn or Pillow is missing.
        TypeError: If an argument is of another type.
        ValueError: If the model has no embedding (name a layer), the data has
            no labels or another order each time, an image is out of its range
            (pass `to_photo`), or a class has no name or no score.

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
    who = "report"
    batch_size = positive_integer(who, "batch_size", batch_size)
    seed = checks.seed(who, "seed", seed)
    class_names = checks.names_or_none(who, "class_names", class_names)
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{who}: model must be a Keras model, received {model!r:.80}."
        )
    if not (to_photo is None or callable(to_photo)):
        raise TypeError(
            f"{who}: to_photo must be a function from one input to a photo, "
            f"received {to_photo!r:.80}."
        )
    if not (title is None or isinstance(title, str)):
        raise TypeError(
            f"{who}: title must be a string, received {title!r:.80}."
        )
    path = as_path(who, "output", output)
    # Before the data is read, which may take long.
    for module in ("matplotlib", "sklearn", "PIL"):
        import_optional(module, "report")
    results = measure(model, data, layer, class_names, batch_size)
    chosen = choose(results)
    photos = read_photos(
        data, batch_size, to_photo, results.labels, chosen.samples
    )
    title = title or model.name
    body = [
        page.element(title, "h1"),
        sections.subject(results),
        sections.metrics(results, seed),
        sections.worst_confusions(results, chosen.confusions, photos),
        sections.confusion_matrix(results),
        sections.scatter(results, seed),
    ]
    if photos is not None:
        body.append(sections.retrieval(results, chosen.retrieval, photos))
    body.append(sections.centers(results, chosen.centers, photos))
    if photos is not None:
        body.append(sections.channels(results, chosen.channels, photos))
        body.append(sections.classes(results, chosen.grid, photos))
    versions = (
        f"Written by keras_finegrain {__version__} with Keras "
        f"{keras.__version__} on {keras.backend.backend()}."
    )
    text = page.page(title, [*body, page.element(versions, "footer")])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())
    return path

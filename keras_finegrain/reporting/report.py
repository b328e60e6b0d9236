"""The report: what a model tells apart and what it confuses, on one page."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base import checks
from keras_finegrain._base.checks import positive_integer
from keras_finegrain._base.files import as_path, replacing
from keras_finegrain._base.optional import import_optional
from keras_finegrain._base.writable import check_writable
from keras_finegrain._version import __version__
from keras_finegrain.reporting import details, page, sections
from keras_finegrain.reporting.choose import choose
from keras_finegrain.reporting.read import (
    answers_of,
    measure,
    read_photos,
)
from keras_finegrain.reporting.second_look import find_copies, suspected


def report(
    model: keras.Model,
    data: Any,
    output: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    keys: Sequence[str] | None = None,
    known: Any = None,
    known_keys: Sequence[str] | None = None,
    compare: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
    layer: str | keras.layers.Layer | None = None,
    to_photo: Callable[[np.ndarray], np.ndarray] | None = None,
    title: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> pathlib.Path:
    """Writes one HTML page on what a model tells apart and what it confuses.

    The page says in two sentences how good the model is, and shows the photos
    that it gets wrong with what spoke for the wrong answer; then every error
    and every class in tables that are sorted and filtered by a click; how
    often it is right if it answers only where it is sure; suspected wrong
    labels and photos that are there twice; other methods on the same photos;
    the confusion matrix among look-alikes, the most similar photos, a map of
    the embedding, the class centers if the model has some, what the channels
    of `MCLoss` look at, photos of the classes; and the metrics of
    `metrics.embedding_metrics` with their intervals.

    It is one file that needs no network and no server and can be sent by
    mail. Its policy allows no script but its own. All errors are written
    beside it, too: `report_errors.csv` beside `report.html`.

    The data is read twice: for the outputs of the model, and for the photos
    that the page shows (and once more for each model in `compare`). Memory
    holds the embeddings, the scores and these photos.

    Args:
        model: A functional or sequential model, of Keras or of this package.
        data: Arrays `(x, y)`, or anything that gives batches `(x, y)` each
            time it is iterated, in the same order each time: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch
            `DataLoader`.
        output: The file, such as `"report.html"`. A missing folder is made;
            an existing file is replaced when the new one is complete.
        class_names: Name of each class. Defaults to "class 0", "class 1", …
        keys: Name of each sample of `data`, such as its file: `test_keys` of
            the data set. It stands under each photo. Defaults to "sample 0",
            "sample 1", …
        known: The data that the model was trained on, as `data`, for photos
            that are in both. Read three times at most. Defaults to none.
        known_keys: Name of each sample of `known`.
        compare: Other methods on the same samples, by name: a model that
            gives scores, or its scores `(samples, classes)` for `data`.
        settings: What the model was trained with, by name.
        temperature: Number above 0 that the scores are divided by before they
            become probabilities. Defaults to 1.
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
            (pass `to_photo`), a class has no name or no score, `keys` or
            scores in `compare` are not as many as the samples, or `output`
            cannot be written.

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
    ...     print(path.name, "Every error" in path.read_text("utf-8"))
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
    for name, mapping in (("compare", compare), ("settings", settings)):
        is_named = isinstance(mapping, Mapping) and all(
            isinstance(key, str) for key in mapping
        )
        if not (mapping is None or is_named):
            raise TypeError(
                f"{who}: {name} must be a dict with a name for each entry, "
                f"received {checks.shown(mapping)}."
            )
    temperature = checks.number(who, "temperature", temperature, above=0)
    keys = _keys(who, "keys", keys)
    known_keys = _keys(who, "known_keys", known_keys)
    # Before the data is read, which may take long.
    path = as_path(who, "output", output)
    try:
        check_writable(path.parent)
        reason = "it is a folder" if path.is_dir() else ""
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ValueError(
            f"{who}: output must be a file that can be written, such as "
            f'"report.html", received {str(path)!r} ({reason}).'
        )
    for module in ("matplotlib", "sklearn", "PIL"):
        import_optional(module, "report")
    results = measure(
        model, data, layer, class_names, batch_size, keys, temperature
    )
    chosen = choose(results)
    others = {
        name: answers_of(name, other, results, data, batch_size)
        for name, other in (compare or {}).items()
    }
    suspects, note = suspected(results)
    small = [error.sample for error in sections.ordered_errors(results)]
    small += sections.disagreements(results, others)
    photos = read_photos(
        data,
        batch_size,
        to_photo,
        results.labels,
        chosen.samples | set((suspects or [])[: sections.MOST_SUSPECTS]),
        set(small[: sections.MOST_SMALL]),
    )
    within, between, known_labels = None, None, None
    if photos is not None:
        within, between, known_labels = find_copies(
            results, photos, data, known, known_keys, layer, batch_size
        )
    errors_path = path.with_name(f"{path.stem}_errors.csv")
    title = title or model.name
    parts: list[page.Section | None] = [
        sections.verdict(results, chosen.confusions),
        sections.to_do(
            results, chosen.confusions, suspects, within, between, known_labels
        ),
        sections.errors_with_photos(results, chosen.confusions, photos),
        sections.every_error(results, photos, errors_path.name),
        sections.by_class(results),
        sections.answered(results),
    ]
    parts.append(sections.wrong_labels(results, photos, suspects, note))
    if within is not None:
        parts.append(sections.copies(results, within, between))
    if others:
        parts.append(sections.methods(results, photos, others))
    parts.append(details.confusion_matrix(results))
    if photos is not None:
        parts.append(details.retrieval(results, chosen.retrieval, photos))
    parts.append(details.scatter(results, seed))
    parts.append(details.centers(results, chosen.centers, photos))
    if photos is not None:
        parts.append(details.channels(results, chosen.channels, photos))
        parts.append(details.classes(results, chosen.grid, photos))
    parts.append(details.metrics(results, seed))
    if settings is not None:
        parts.append(details.settings(settings))
    versions = (
        f"Written by keras_finegrain {__version__} with Keras "
        f"{keras.__version__} on {keras.backend.backend()}."
    )
    text = page.page(title, [part for part in parts if part], versions)
    path.parent.mkdir(parents=True, exist_ok=True)
    for file_path, content in (
        (errors_path, sections.errors_csv(results)),
        (path, text),
    ):
        with replacing(file_path) as file:
            file.write(content.encode())
    return path


def _keys(who: str, name: str, keys: Any) -> tuple[str, ...] | None:
    """The names of samples as a tuple, or `None`."""
    if keys is None:
        return None
    if isinstance(keys, str) or not (
        isinstance(keys, (Sequence, np.ndarray))
        and all(isinstance(key, str) for key in keys)
    ):
        raise TypeError(
            f"{who}: {name} must be a list of strings, one for each sample, "
            f"received {checks.shown(keys)}."
        )
    return tuple(map(str, keys))

"""Two passes over the data: for the model's outputs, and for photos to show."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.arrays import softmax
from keras_finegrain._base.checks import real_array
from keras_finegrain.distribution import scope_of
from keras_finegrain.embedding import (
    embed,
    embedding_model,
    images_of,
    labelled_batches,
)
from keras_finegrain.labels.forms import range_error
from keras_finegrain.layers.centers import layers_with_centers
from keras_finegrain.metrics.confusions import nearest_classes
from keras_finegrain.metrics.embedding_set import CHUNK_SIZE, retrieval_set
from keras_finegrain.reporting.data_faults import difference_hash
from keras_finegrain.reporting.page import jpeg
from keras_finegrain.visualization.photo import as_photo

SMALL = 96  # Pixels of a photo in a table, shown on 64.


@dataclasses.dataclass(frozen=True)
class Results:
    """What a model gives for a data set.

    Attributes:
        model: The model.
        class_names: Name of each class, without underscores.
        keys: Name of each sample, such as its file.
        embeddings: float64 `(samples, dim)`.
        labels: Integers `(samples,)`.
        scores: `(samples, classes)`, or `None` if the model has no classes.
        taken_for: The class that each sample was taken for: the class of the
            highest score or, without scores, of the nearest other sample (-1
            for a sample that is alone in its class).
        temperature: What the scores are divided by before softmax makes
            probabilities of them.
    """

    model: keras.Model
    class_names: Sequence[str]
    keys: Sequence[str]
    embeddings: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None
    taken_for: np.ndarray
    temperature: float = 1.0

    @property
    def is_error(self) -> np.ndarray:
        """Which samples were taken for another class."""
        return (self.taken_for >= 0) & (self.taken_for != self.labels)

    def name_of(self, sample: int) -> str:
        """The name of a sample's own class."""
        return self.class_names[self.labels[sample]]

    @functools.cached_property
    def probabilities(self) -> np.ndarray | None:
        """The scores as probabilities `(samples, classes)`."""
        if self.scores is None:
            return None
        return as_probabilities(self.scores, self.temperature)


def as_probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Scores as probabilities.

    Args:
        scores: Logits, or probabilities already (a model that ends in softmax
            gives those), `(samples, classes)`.
        temperature: Logits are divided by it.

    Returns:
        float64 `(samples, classes)`, whose rows sum to 1.
    """
    scores = scores.astype(np.float64)
    sums = scores.sum(axis=1)
    if scores.min() >= 0 and np.allclose(sums, 1.0, atol=1e-3):
        scores = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
    return softmax(scores / temperature)


@dataclasses.dataclass(frozen=True)
class Photos(Sequence[Any]):
    """The photos of the chosen samples, floats `(height, width, 3)` in [0, 1].

    Attributes:
        inputs: The images as the model takes them, by index of the sample.
        small: A small JPEG file of each sample that a table shows.
        hashes: The difference hash of each sample.
        samples: The number of samples in the data.
        to_photo: Turns an input into an image in [0, 255] or [0, 1]; `None`
            if it is one.
    """

    inputs: dict[int, np.ndarray]
    small: dict[int, bytes]
    hashes: list[np.ndarray]
    samples: int
    to_photo: Callable[[np.ndarray], np.ndarray] | None

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, sample: Any) -> Any:
        return self.of(self.inputs[int(sample)])

    def of(self, image: np.ndarray) -> np.ndarray:
        """An input of the model as a photo."""
        if self.to_photo is not None:
            image = self.to_photo(image)
        return as_photo("report", image)


def measure(
    model: keras.Model,
    data: Any,
    layer: str | keras.layers.Layer | None,
    class_names: Sequence[str] | None,
    batch_size: int,
    keys: Sequence[str] | None = None,
    temperature: float = 1.0,
) -> Results:
    """Reads the data once and computes the outputs of the model.

    Raises:
        ValueError: If the model has no embedding, a class has no name or no
            score, or there is another number of keys than of samples.
    """
    to_embedding = embedding_model(model, layer)
    embedding, output = to_embedding.outputs[0], model.outputs[0]
    outputs = {"embedding": embedding}
    if output is not embedding and len(output.shape) == 2:
        outputs["scores"] = output
    with scope_of(model):
        both = keras.Model(model.inputs, outputs)
    given, labels = embed(both, data, batch_size)
    embeddings, scores = given["embedding"], given.get("scores")
    if keys is None:
        keys = [f"sample {index}" for index in range(len(labels))]
    if len(keys) != len(labels):
        raise ValueError(
            "report: keys must have one entry for each sample of data, "
            f"received {len(keys)} and {len(labels)} samples. Pass the "
            "test_keys of the data set that the batches were made of."
        )
    low, high = int(labels.min()), int(labels.max())
    sizes = [high + 1, 0 if scores is None else scores.shape[1]]
    sizes += [layer.num_classes for layer in layers_with_centers(model)]
    names = class_names
    if names is None:
        names = [f"class {label}" for label in range(max(sizes))]
    if low < 0 or len(names) < max(sizes):
        raise ValueError(
            "report: class_names must have one entry a class, received "
            f"{len(names)}, labels from {low} to {high} and {max(sizes)} "
            "classes in all."
        )
    if scores is None:
        taken_for = _nearest_classes(embeddings, labels)
    elif error := range_error("report", scores.shape[1], low, high):
        raise error
    else:
        taken_for = scores.argmax(axis=1)
    return Results(
        model,
        [str(name).replace("_", " ") for name in names],
        keys,
        embeddings.astype(np.float64),
        labels.astype(np.int64),
        scores,
        taken_for,
        temperature,
    )


def _nearest_classes(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class of each sample's nearest other, -1 if it is alone."""
    found = retrieval_set("report", embeddings, labels, None, None, "cosine")
    nearest = nearest_classes(found, CHUNK_SIZE)
    return np.where(nearest < 0, -1, found.classes[nearest])


def read_photos(
    data: Any,
    batch_size: int,
    to_photo: Callable[[np.ndarray], np.ndarray] | None,
    labels: np.ndarray,
    chosen: Collection[int],
    small: Collection[int] = (),
) -> Photos | None:
    """Reads the data again and keeps the images of the chosen samples.

    Args:
        data: As in `measure`.
        batch_size: As in `measure`.
        to_photo: As in `Photos`.
        labels: The labels of the first pass.
        chosen: Samples to keep whole.
        small: Samples to keep small.

    Returns:
        The photos, or `None` if the inputs are not images.

    Raises:
        ValueError: If the labels differ from those of the first pass.
    """
    kept: dict[int, np.ndarray] = {}
    made: dict[int, bytes] = {}
    hashes: list[np.ndarray] = []
    photos = Photos(kept, made, hashes, len(labels), to_photo)
    seen: list[int] = []
    for x, y in labelled_batches(data, batch_size):
        images = images_of(x)
        if images is None:
            return None
        for sample, image in enumerate(images, start=len(seen)):
            if sample in chosen:
                # A view would keep its whole batch.
                kept[sample] = image.copy()
            photo = photos.of(image)
            hashes.append(difference_hash(photo))
            if sample in small:
                made[sample] = jpeg(photo, SMALL)
        seen.extend(y)
    if not np.array_equal(seen, labels):
        raise ValueError(
            "report: data must come in the same order each time, received "
            "labels in another order than before. Leave out its shuffling."
        )
    return photos


def answers_of(
    name: str, other: Any, results: Results, data: Any, batch_size: int
) -> np.ndarray:
    """The answers of another method for the same samples.

    Args:
        name: Its name.
        other: Its scores `(samples, classes)`, or its model.
        results: What the page's own model gave.
        data: As in `measure`.
        batch_size: As in `measure`.

    Raises:
        ValueError: If the scores are for other samples or classes.
    """
    if isinstance(other, keras.Model):
        other, _ = embed(other, data, batch_size)
    scores = real_array("report", f"compare[{name!r}]", other)
    samples, classes = len(results.labels), len(results.class_names)
    if scores.ndim != 2 or len(scores) != samples or scores.shape[1] > classes:
        raise ValueError(
            f"report: compare[{name!r}] must be a model that gives scores, or "
            f"scores ({samples}, classes) for the samples of data and at most "
            f"{classes} classes, received {scores.shape}. Predict them on the "
            "same data in the same order."
        )
    return scores.argmax(axis=1)

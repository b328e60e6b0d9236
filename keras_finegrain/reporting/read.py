"""Two passes over the data: for the model's outputs, and for photos to show."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np

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
from keras_finegrain.visualization.photo import as_photo


@dataclasses.dataclass(frozen=True)
class Results:
    """What a model gives for a data set.

    Attributes:
        model: The model.
        class_names: Name of each class, without underscores.
        embeddings: float64 `(samples, dim)`.
        labels: Integers `(samples,)`.
        scores: `(samples, classes)`, or `None` if the model has no classes.
        taken_for: The class that each sample was taken for: the class of the
            highest score or, without scores, of the nearest other sample (-1
            for a sample that is alone in its class).
    """

    model: keras.Model
    class_names: Sequence[str]
    embeddings: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None
    taken_for: np.ndarray


@dataclasses.dataclass(frozen=True)
class Photos(Sequence[Any]):
    """The photos of the chosen samples, floats `(height, width, 3)` in [0, 1].

    Attributes:
        inputs: The images as the model takes them, by index of the sample.
        samples: The number of samples in the data.
        to_photo: Turns an input into an image in [0, 255] or [0, 1]; `None`
            if it is one.
    """

    inputs: dict[int, np.ndarray]
    samples: int
    to_photo: Callable[[np.ndarray], np.ndarray] | None

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, sample: Any) -> Any:
        image = self.inputs[int(sample)]
        if self.to_photo is not None:
            image = self.to_photo(image)
        return as_photo("report", image)


def measure(
    model: keras.Model,
    data: Any,
    layer: str | keras.layers.Layer | None,
    class_names: Sequence[str] | None,
    batch_size: int,
) -> Results:
    """Reads the data once and computes the outputs of the model.

    Raises:
        ValueError: If the model has no embedding, or a class has no name or
            no score.
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
        embeddings.astype(np.float64),
        labels.astype(np.int64),
        scores,
        taken_for,
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
) -> Photos | None:
    """Reads the data again and keeps the images of the chosen samples.

    Returns:
        The photos, or `None` if the inputs are not images.

    Raises:
        ValueError: If the labels differ from those of the first pass.
    """
    kept: dict[int, np.ndarray] = {}
    seen: list[int] = []
    for x, y in labelled_batches(data, batch_size):
        images = images_of(x)
        if images is None:
            return None
        for sample, image in enumerate(images, start=len(seen)):
            if sample in chosen:
                # A view would keep its whole batch.
                kept[sample] = image.copy()
        seen.extend(y)
    if not np.array_equal(seen, labels):
        raise ValueError(
            "report: data must come in the same order each time, received "
            "labels in another order than before. Leave out its shuffling."
        )
    return Photos(kept, len(labels), to_photo)

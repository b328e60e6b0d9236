"""What a report is about: one pass over the data, and one for its photos."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
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
from keras_finegrain.layers.centers import layers_with_centers
from keras_finegrain.metrics.confusions import Confusions, nearest_classes
from keras_finegrain.metrics.embedding_set import (
    CHUNK_SIZE,
    retrieval_set,
    squared_distances,
    unit_rows,
)
from keras_finegrain.visualization.photo import as_photo


class Photos:
    """The inputs of a data set, of which only those asked for are kept.

    A data set can be too large for memory and be read in its order alone. So
    everything is drawn twice: first with blank photos, which tells the ones
    that are wanted, then with these.

    Args:
        like: One input; blank ones have its shape.

    Attributes:
        wanted: Which ones were asked for.
        are_read: Whether these are no longer blank.
    """

    def __init__(self, like: np.ndarray) -> None:
        self._blank = np.zeros_like(like)
        self._kept: dict[int, np.ndarray] = {}
        self.wanted: set[int] = set()
        self.are_read = False

    def __getitem__(self, index: int) -> np.ndarray:
        self.wanted.add(int(index))
        return self._kept.get(int(index), self._blank)

    def read(self, inputs: Iterator[np.ndarray]) -> None:
        """Keeps the wanted ones of all inputs in their order."""
        for index, photo in enumerate(inputs):
            if index in self.wanted:
                # A view would keep its whole batch.
                self._kept[index] = photo.copy()
        self.are_read = True


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was measured, and what it was measured on.

    Attributes:
        model: The model.
        data: The data set, to be read again for photos.
        batch_size: Samples in a batch, for arrays.
        class_names: Name of each class.
        embeddings: `(samples, dim)`.
        labels: `(samples,)`.
        scores: `(samples, classes)`, or `None` of a model without classes.
        taken_for: The class that each sample was taken for: that of the
            highest score, or of the nearest other sample; -1 for a sample
            that is alone in its class and has no scores.
        photos: The samples' photos, or `None` where the input is no image.
        to_photo: From an input to an image in [0, 255] or [0, 1].
    """

    model: keras.Model
    data: Any
    batch_size: int
    class_names: Sequence[str]
    embeddings: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None
    taken_for: np.ndarray
    photos: Photos | None
    to_photo: Callable[[np.ndarray], np.ndarray] | None

    @property
    def judged(self) -> np.ndarray:
        """Which samples were taken for a class, bool `(samples,)`."""
        return self.taken_for >= 0

    @property
    def confusions(self) -> Confusions:
        """True classes against those that samples were taken for."""
        pairs = np.stack([self.labels, self.taken_for])[:, self.judged]
        # Of the classes that occur: there may be very many others.
        classes, numbers = np.unique(pairs, return_inverse=True)
        counts = np.zeros((len(classes),) * 2, np.int64)
        np.add.at(counts, tuple(numbers.reshape(pairs.shape)), 1)
        return Confusions(classes, counts)

    def photo(self, index: int) -> np.ndarray:
        """The photo of one sample, floats `(height, width, 3)` in [0, 1]."""
        assert self.photos is not None
        image = self.photos[index]
        if self.to_photo is not None:
            image = self.to_photo(image)
        return as_photo("report", image)

    def name(self, label: int) -> str:
        """The name of a class, to be read."""
        return str(self.class_names[label]).replace("_", " ")

    def read_photos(self) -> None:
        """Reads the photos that were asked for."""
        assert self.photos is not None
        labels = []

        def inputs() -> Iterator[np.ndarray]:
            for x, y in labelled_batches(self.data, self.batch_size):
                labels.append(y)
                images = images_of(x)
                assert images is not None
                yield from images

        self.photos.read(inputs())
        if not np.array_equal(np.concatenate(labels), self.labels):
            raise ValueError(
                "report: data must come in the same order each time, received "
                "labels in another order than before. Leave out its shuffling."
            )

    def nearest_of(self, label: int, index: int) -> int:
        """The sample of a class that lies nearest to a sample (cosine)."""
        members = np.flatnonzero(self.labels == label)
        members = members[members != index]
        vectors = unit_rows(self.embeddings[members])
        own = unit_rows(self.embeddings[[index]])
        return int(members[squared_distances(own, vectors)[0].argmin()])


def collect(
    model: keras.Model,
    data: Any,
    layer: str | keras.layers.Layer | None,
    class_names: Sequence[str] | None,
    to_photo: Callable[[np.ndarray], np.ndarray] | None,
    batch_size: int,
) -> Evidence:
    """Reads the data once and measures.

    Raises:
        ValueError: If the model has no embedding, or `class_names` not one
            entry a class.
    """
    to_embedding = embedding_model(model, layer)
    embedding, scores = to_embedding.outputs[0], model.outputs[0]
    classifies = scores is not embedding and len(scores.shape) == 2
    outputs = {"embedding": embedding}
    if classifies:
        outputs["scores"] = scores
    with scope_of(model):
        measured = keras.Model(model.inputs, outputs)
    results, labels = embed(measured, data, batch_size)
    embeddings = results["embedding"].astype(np.float64)
    all_scores = results.get("scores")
    classes = max(
        [
            int(labels.max()) + 1,
            0 if all_scores is None else all_scores.shape[1],
            *(layer.num_classes for layer in layers_with_centers(model)),
        ]
    )
    names = class_names
    if names is None:
        names = [f"class {label}" for label in range(classes)]
    if labels.min() < 0 or len(names) < classes:
        raise ValueError(
            "report: class_names must have one entry a class, received "
            f"{len(names)}, labels from {labels.min()} to {labels.max()} and "
            f"{classes} classes in all."
        )
    if all_scores is not None:
        taken_for = all_scores.argmax(axis=1)
    else:
        taken_for = _nearest_classes(embeddings, labels)
    first, _ = next(iter(labelled_batches(data, batch_size)))
    images = images_of(first)
    return Evidence(
        model=model,
        data=data,
        batch_size=batch_size,
        class_names=names,
        embeddings=embeddings,
        labels=labels,
        scores=all_scores,
        taken_for=taken_for,
        photos=None if images is None else Photos(images[0]),
        to_photo=to_photo,
    )


def _nearest_classes(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class of each sample's nearest neighbour, -1 for a lone sample."""
    found = retrieval_set("report", embeddings, labels, None, None, "cosine")
    nearest = nearest_classes(found, CHUNK_SIZE)
    return np.where(nearest < 0, -1, found.classes[nearest])

"""Which samples a report shows: from measurements to indices of samples."""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain.layers.center_loss import CenterLoss
from keras_finegrain.layers.centers import layers_with_centers
from keras_finegrain.layers.cosine_similarity import CosineSimilarity
from keras_finegrain.metrics.confusions import ConfusedPair
from keras_finegrain.metrics.embedding_set import (
    retrieval_set,
    squared_distances,
    unit_rows,
)
from keras_finegrain.reporting.read import Measurements
from keras_finegrain.visualization.center_images import center_rows
from keras_finegrain.visualization.retrieval_gallery import (
    nearest_samples,
    spread_queries,
)

PHOTOS_OF_A_CENTER = 5
_CONFUSIONS = 8
_PHOTOS_OF_A_CONFUSION = 3
_NEIGHBOURS = 8
_CLASSES_OF_CENTERS = 4
_CLASSES_OF_CHANNELS = 3
_CLASSES_OF_GRID = 25
_PHOTOS_OF_A_CLASS = 10


class Confusion(NamedTuple):
    """Two classes, with samples of one that were taken for the other.

    Attributes:
        pair: The classes and how often it happened.
        samples: Some of these samples.
        look_alikes: The sample of the other class that is nearest to each of
            them by cosine similarity; empty if that class has no sample.
    """

    pair: ConfusedPair
    samples: np.ndarray
    look_alikes: np.ndarray


class Retrieval(NamedTuple):
    """Some samples and what is nearest to them by cosine similarity.

    Attributes:
        queries: The samples, `(rows,)`.
        neighbours: The nearest others of each, `(rows, neighbours)`.
    """

    queries: np.ndarray
    neighbours: np.ndarray


class Centers(NamedTuple):
    """A layer's class centers, and the samples around some of them.

    Attributes:
        layer: The layer.
        values: Its centers, `(classes, dim)` or
            `(classes, centers_per_class, dim)`.
        classes: The classes whose samples are shown.
        samples: The samples nearest to each center of these classes; empty
            for `(classes, dim)`.
    """

    layer: CenterLoss | CosineSimilarity
    values: np.ndarray
    classes: np.ndarray
    samples: np.ndarray


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The samples that each section shows.

    Attributes:
        confusions: The worst confusions, worst first.
        retrieval: Queries and their neighbours.
        centers: One entry for each layer whose centers lie in the embedding.
        channels: The first sample of each of some classes.
        grid: Some samples of each class, or of the most confused classes.
    """

    confusions: list[Confusion]
    retrieval: Retrieval
    centers: list[Centers]
    channels: np.ndarray
    grid: np.ndarray

    @property
    def samples(self) -> set[int]:
        """All of these samples."""
        groups = [*self.retrieval, self.channels, self.grid]
        for confusion in self.confusions:
            groups += [confusion.samples, confusion.look_alikes]
        groups += [centers.samples for centers in self.centers]
        return {int(sample) for group in groups for sample in group.flat}


def choose(model: keras.Model, measured: Measurements) -> Chosen:
    """Chooses what the report shows."""
    firsts = np.unique(measured.labels, return_index=True)[1]
    return Chosen(
        confusions=[
            _confusion(measured, pair)
            for pair in measured.confusions.worst(_CONFUSIONS)
        ],
        retrieval=_retrieval(measured),
        centers=_centers(model, measured),
        channels=firsts[:_CLASSES_OF_CHANNELS],
        grid=_grid(measured),
    )


def _confusion(measured: Measurements, pair: ConfusedPair) -> Confusion:
    labels, vectors = measured.labels, measured.embeddings
    samples = np.flatnonzero(
        (labels == pair.label) & (measured.taken_for == pair.taken_for)
    )[:_PHOTOS_OF_A_CONFUSION]
    others = np.flatnonzero(labels == pair.taken_for)
    if len(others):
        distances = squared_distances(
            unit_rows(vectors[samples]), unit_rows(vectors[others])
        )
        others = others[distances.argmin(axis=1)]
    return Confusion(pair, samples, others)


def _retrieval(measured: Measurements) -> Retrieval:
    embeddings, labels = measured.embeddings, measured.labels
    found = retrieval_set("report", embeddings, labels, None, None, "cosine")
    queries = spread_queries(labels)
    return Retrieval(queries, nearest_samples(found, queries, _NEIGHBOURS))


def _centers(model: keras.Model, measured: Measurements) -> list[Centers]:
    embeddings, labels = measured.embeddings, measured.labels
    classes = np.unique(labels)[:_CLASSES_OF_CENTERS]
    chosen = []
    for layer in layers_with_centers(model):
        values = to_numpy(layer.centers)
        if values.shape[-1] != embeddings.shape[1] or len(values) < 2:
            continue
        rows = []
        if values.ndim == 3 and labels.max() < len(values):
            rows = [
                row.nearest[:PHOTOS_OF_A_CENTER]
                for label in classes
                for row in center_rows(
                    values[label], embeddings, np.flatnonzero(labels == label)
                )
            ]
        samples = np.concatenate([np.zeros(0, int), *rows])
        chosen.append(Centers(layer, values, classes, samples))
    return chosen


def _grid(measured: Measurements) -> np.ndarray:
    labels = measured.labels
    classes = np.unique(labels)
    if len(classes) > _CLASSES_OF_GRID:
        pairs = measured.confusions.worst(_CLASSES_OF_GRID)
        confused = [label for p in pairs for label in (p.label, p.taken_for)]
        classes = np.unique([*confused, *classes][:_CLASSES_OF_GRID])
    return np.concatenate(
        [
            np.flatnonzero(labels == label)[:_PHOTOS_OF_A_CLASS]
            for label in classes
        ]
    )

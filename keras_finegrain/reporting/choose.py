"""Which samples a report shows, as indices, chosen from the results."""

from typing import NamedTuple

import numpy as np

from keras_finegrain.layers import CenterLoss, CosineSimilarity
from keras_finegrain.layers.centers import layers_with_centers
from keras_finegrain.metrics.embedding_set import retrieval_set, unit_rows
from keras_finegrain.reporting.read import Results
from keras_finegrain.visualization.center_images import center_rows
from keras_finegrain.visualization.checks import class_centers
from keras_finegrain.visualization.retrieval_gallery import (
    nearest_samples,
    spread_queries,
)

PHOTOS_OF_A_CENTER = 5
_CONFUSIONS = 8
# As many cards as there is room for side by side.
_PHOTOS_OF_A_CONFUSION = 2
_NEIGHBOURS = 8
_CLASSES_OF_CENTERS = 4
_CLASSES_OF_CHANNELS = 3
_CLASSES_OF_GRID = 25
_PHOTOS_OF_A_CLASS = 8

# Layers with class centers, each with the samples to show.
Centers = list[tuple[CenterLoss | CosineSimilarity, np.ndarray]]


class Confusion(NamedTuple):
    """A class whose samples were taken for another class.

    Attributes:
        label: The class.
        taken_for: The other class.
        errors: The number of these samples.
        rows: Some of these samples, `(rows, 2)`, each with the sample of the
            other class that has the highest cosine similarity; `(rows, 1)` if
            the other class has no sample.
    """

    label: int
    taken_for: int
    errors: int
    rows: np.ndarray


class Chosen(NamedTuple):
    """The samples that each section shows.

    Attributes:
        confusions: The worst confusions, worst first.
        retrieval: Queries, each with its nearest samples,
            `(rows, 1 + neighbours)`.
        centers: The layers whose centers have the embedding's dim, each with
            the samples nearest to the centers of some classes. `CenterLoss`,
            with one center for each class, has no samples.
        channels: The first sample of each of some classes.
        grid: Some samples of each class, or of the most confused classes.
    """

    confusions: list[Confusion]
    retrieval: np.ndarray
    centers: Centers
    channels: np.ndarray
    grid: np.ndarray

    @property
    def samples(self) -> set[int]:
        """The samples of all sections."""
        groups = [self.retrieval, self.channels, self.grid]
        groups += [confusion.rows for confusion in self.confusions]
        groups += [samples for _, samples in self.centers]
        return {int(sample) for group in groups for sample in group.flat}


def choose(results: Results) -> Chosen:
    """Chooses what the report shows."""
    firsts = np.unique(results.labels, return_index=True)[1]
    return Chosen(
        _confusions(results),
        _retrieval(results),
        _centers(results),
        firsts[:_CLASSES_OF_CHANNELS],
        _grid(results),
    )


def _worst_pairs(results: Results, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of classes `(pairs, 2)` with the most errors, and how many."""
    pairs = np.stack([results.labels, results.taken_for], axis=1)
    wrong = (pairs[:, 1] >= 0) & (pairs[:, 0] != pairs[:, 1])
    pairs, counts = np.unique(pairs[wrong], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return pairs[order], counts[order]


def _confusions(results: Results) -> list[Confusion]:
    labels, vectors = results.labels, unit_rows(results.embeddings)
    chosen = []
    pairs, counts = _worst_pairs(results, _CONFUSIONS)
    for (label, taken_for), count in zip(pairs, counts, strict=True):
        mistaken = (labels == label) & (results.taken_for == taken_for)
        rows = np.flatnonzero(mistaken)
        if results.probabilities is not None:
            # The surest first.
            sure = results.probabilities[rows, taken_for]
            rows = rows[np.argsort(-sure, kind="stable")]
        rows = rows[:_PHOTOS_OF_A_CONFUSION, None]
        others = np.flatnonzero(labels == taken_for)
        if len(others):
            similarities = vectors[rows[:, 0]] @ vectors[others].T
            rows = np.column_stack([rows, others[similarities.argmax(axis=1)]])
        chosen.append(Confusion(int(label), int(taken_for), int(count), rows))
    return chosen


def _retrieval(results: Results) -> np.ndarray:
    embeddings, labels = results.embeddings, results.labels
    if np.bincount(labels).max() < 2:  # None is like another of its class.
        return np.zeros((0, 1), int)
    found = retrieval_set("report", embeddings, labels, None, None, "cosine")
    queries = spread_queries(labels)
    nearest = nearest_samples(found, queries, _NEIGHBOURS)
    return np.column_stack([queries, nearest])


def _centers(results: Results) -> Centers:
    labels, embeddings = results.labels, results.embeddings
    chosen = []
    for layer in layers_with_centers(results.model):
        shape = layer.centers.shape
        if shape[-1] != embeddings.shape[1] or shape[0] < 2:
            continue
        nearest = [np.zeros(0, int)]
        if len(shape) == 3 and labels.max() < shape[0]:
            centers = class_centers("report", layer.centers)
            for label in np.unique(labels)[:_CLASSES_OF_CENTERS]:
                members = np.flatnonzero(labels == label)
                rows = center_rows(centers[label], embeddings, members)
                nearest += [row.nearest[:PHOTOS_OF_A_CENTER] for row in rows]
        chosen.append((layer, np.concatenate(nearest)))
    return chosen


def _grid(results: Results) -> np.ndarray:
    classes = np.unique(results.labels)
    if len(classes) > _CLASSES_OF_GRID:
        confused = _worst_pairs(results, _CLASSES_OF_GRID)[0].ravel()
        confused_first = dict.fromkeys([*confused.tolist(), *classes.tolist()])
        classes = np.sort(list(confused_first)[:_CLASSES_OF_GRID])
    members = [np.flatnonzero(results.labels == label) for label in classes]
    return np.concatenate([own[:_PHOTOS_OF_A_CLASS] for own in members])

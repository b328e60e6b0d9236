"""The neighbours of each query, found once for all figures on them."""

import functools
from collections.abc import Iterator

import numpy as np

from keras_finegrain.metrics.embedding_set import (
    RetrievalSet,
    squared_distances,
)


class Neighbourhood:
    """What lies around one query.

    Equally near samples of another class count as nearer than those of the
    query's own. No figure then depends on the order of the samples, and an
    embedding that maps everything to one point scores 0, not by chance.

    Args:
        query: Index of the query.
        own: Squared distances of the R samples of its class, rising.
        others: Squared distances of the nearest samples of other classes,
            rising: at least R of them, where there are as many.
        other_labels: Their classes.
    """

    def __init__(
        self,
        query: int,
        own: np.ndarray,
        others: np.ndarray,
        other_labels: np.ndarray,
    ) -> None:
        self.query = query
        self.own = own
        self.others = others
        self.other_labels = other_labels

    @functools.cached_property
    def ranks(self) -> np.ndarray:
        """Ranks `(R,)` of its class among all neighbours, from 1, rising.

        A rank above `len(others)` is only known to be so.
        """
        nearer = np.searchsorted(self.others, self.own, side="right")
        return np.arange(1, len(self.own) + 1) + nearer

    def hit(self, k: int) -> bool:
        """Whether one of its class is among the k nearest."""
        return bool(self.ranks[0] <= k)

    def precision(self, k: int) -> float:
        """Share of its class among the k nearest."""
        return float(np.sum(self.ranks <= k) / k)

    def r_precision(self) -> float:
        """Share of its class among the R nearest."""
        return float(np.mean(self.ranks <= len(self.ranks)))

    def average_precision(self) -> float:
        """Σ_{r <= R} [y_(r) = y] · P(r) / R."""
        # At the rank of the m-th match m of the neighbours were matches.
        precision = np.arange(1, len(self.ranks) + 1) / self.ranks
        found = self.ranks <= len(self.ranks)
        return float(np.mean(np.where(found, precision, 0.0)))

    def vote(self, k: int) -> bool:
        """Whether most of the k nearest are of its class.

        Among classes with as many votes the one with the nearest sample wins.
        """
        own_votes = np.searchsorted(self.ranks, k, side="right")
        if own_votes == 0:
            return False
        _, first, votes = np.unique(
            self.other_labels[: k - own_votes],
            return_index=True,
            return_counts=True,
        )
        most = votes.max(initial=0)
        if own_votes != most:
            return bool(own_votes > most)
        return bool(self.own[0] < self.others[first[votes == most].min()])


def neighbourhoods(
    found: RetrievalSet, depth: int, chunk_size: int
) -> Iterator[Neighbourhood]:
    """Looks up the neighbours of every query that has a match.

    Args:
        found: Queries and gallery.
        depth: How many neighbours of other classes are wanted at least, where
            there are as many; max(depth, R) are given.
        chunk_size: Queries compared at a time; memory is
            O(chunk_size · gallery).

    Yields:
        A `Neighbourhood` for every query of which the gallery has the class.
        As in PyTorch Metric Learning, others count in no figure.
    """
    # With the gallery in the order of its classes, a query's own class is one
    # piece of a row, and the others are what lies on either side.
    order = np.argsort(found.gallery_labels, kind="stable")
    gallery, labels = found.gallery[order], found.gallery_labels[order]
    bounds = np.searchsorted(labels, np.arange(len(found.classes) + 1))
    place = np.argsort(order)
    matches = found.matches
    queries = np.flatnonzero(matches)
    for chunk in np.split(queries, range(chunk_size, len(queries), chunk_size)):
        distances = squared_distances(found.queries[chunk], gallery)
        for query, row in zip(chunk, distances, strict=True):
            start, stop = bounds[found.query_labels[query] + np.array([0, 1])]
            own = row[start:stop]
            if found.own:
                own = np.delete(own, place[query] - start)
            others = np.concatenate([row[:start], row[stop:]])
            nearest = _nearest(others, max(depth, matches[query]))
            labels_of_others = labels[
                np.where(nearest < start, nearest, nearest + stop - start)
            ]
            yield Neighbourhood(
                int(query), np.sort(own), others[nearest], labels_of_others
            )


def _nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """Indices of the smallest distances, rising, `(count,)` at most."""
    if len(distances) <= count:
        return np.argsort(distances, kind="stable")
    # A partition of the values is several times as fast as one of indices.
    limit = np.partition(distances, count - 1)[count - 1]
    candidates = np.flatnonzero(distances <= limit)
    order = np.argsort(distances[candidates], kind="stable")
    return candidates[order[:count]]

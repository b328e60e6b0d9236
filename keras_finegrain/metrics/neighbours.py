"""The nearest neighbours of every query, in their exact order."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from keras_finegrain.metrics.embedding_set import RetrievalSet

# Up to so many neighbours, few are so close that float32 cannot order them.
FLOAT32_DEPTH = 128


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The classes of the nearest neighbours of some queries.

    Distances are compared in float64, as sums over (q_d - g_d)². Of equally
    near neighbours those of another class come first, in the order of the
    classes. No metric then depends on the order of the samples, and an
    embedding that maps everything to one point scores 0, not by chance.

    Attributes:
        queries: Indices of the queries, `(queries,)`.
        own: Their classes, `(queries,)`.
        matches: Number of samples of this class that each query can find, R,
            at least 1, `(queries,)`.
        classes: Classes of the neighbours, nearest first, `(queries, depth)`.
    """

    queries: np.ndarray
    own: np.ndarray
    matches: np.ndarray
    classes: np.ndarray

    def hit(self, k: int) -> np.ndarray:
        """Whether one of the k nearest is of the query's class."""
        return self.precision(k) > 0

    def precision(self, k: int) -> np.ndarray:
        """Share of the query's class among the k nearest."""
        return np.sum(self.classes[:, :k] == self.own[:, None], axis=1) / k

    def r_precision(self) -> np.ndarray:
        """Share of the query's class among the R nearest."""
        return self._found_within_r()[:, -1] / self.matches

    def average_precision(self) -> np.ndarray:
        """Σ_{r <= R} [y_(r) = y] · P(r) / R."""
        found = self._found_within_r()
        is_match = np.diff(found, axis=1, prepend=0) > 0
        precision = found / np.arange(1, found.shape[1] + 1)
        # A sum from left to right does not depend on the depth.
        total = np.cumsum(np.where(is_match, precision, 0.0), axis=1)
        return total[:, -1] / self.matches

    def vote(self, k: int) -> np.ndarray:
        """Whether most of the k nearest are of the query's class.

        Of several classes with as many votes, that of the nearest sample wins.
        """
        voters = self.classes[:, :k]
        votes = np.zeros(voters.shape, np.intp)
        for place in range(voters.shape[1]):
            votes += voters == voters[:, [place]]
        winner = np.argmax(votes, axis=1)
        return voters[np.arange(len(voters)), winner] == self.own

    def _found_within_r(self) -> np.ndarray:
        """Matches among the first r, for r up to R, `(queries, depth)`."""
        places = np.arange(self.classes.shape[1])
        is_match = self.classes == self.own[:, None]
        return np.cumsum(is_match & (places < self.matches[:, None]), axis=1)


# A metric of each of some queries, `(queries,)`.
QueryMetric = Callable[[Neighbours], np.ndarray]


def of_each_query(
    metrics: list[QueryMetric],
    found: RetrievalSet,
    k: int,
    whole_class: bool,
    chunk_size: int,
) -> np.ndarray:
    """Metrics of the queries in `neighbours`, `(metrics, queries)`."""
    chunks = neighbours(found, k, whole_class, chunk_size)
    values = [[metric(chunk) for metric in metrics] for chunk in chunks]
    return np.concatenate(values, axis=1)


def neighbours(
    found: RetrievalSet, k: int, whole_class: bool, chunk_size: int
) -> Iterator[Neighbours]:
    """Searches the neighbours of every query that has a match.

    As in PyTorch Metric Learning, other queries count in no metric.

    Args:
        found: Queries and gallery.
        k: Number of neighbours, at least 1; all of them where there are fewer.
        whole_class: Whether to find R neighbours of each query where R, the
            number of samples of its class, is larger than k.
        chunk_size: Queries that are compared with the gallery at a time.
            Memory is O(chunk_size · gallery).
    """
    matches = found.matches
    k = min(k, found.neighbours)
    depths = np.maximum(matches, k) if whole_class else np.full_like(matches, k)
    is_shallow = depths.mean() <= FLOAT32_DEPTH
    search = Search(found, np.float32 if is_shallow else np.float64)
    # Sorted by R, no chunk is searched deeper than its queries need.
    order = np.argsort(matches, kind="stable")
    order = order[matches[order] > 0]
    for start in range(0, len(order), chunk_size):
        queries = order[start : start + chunk_size]
        yield Neighbours(
            queries,
            found.query_labels[queries],
            matches[queries],
            search.nearest_classes(queries, int(depths[queries].max())),
        )


class Search:
    """Compares vectors by a matrix product, and exactly where they are close.

    The product of [-2q, |q|², 1] and [g, 1, |g|²] is the squared distance, but
    rounds differently from the sum over (q_d - g_d)². Either is off by less
    than 2 (D + 4) ε (|q|² + |g|²), with D numbers in a vector and the precision
    ε of the product's dtype (Higham, Accuracy and Stability of Numerical
    Algorithms, 2002, section 3.1). With κ = 4 (D + 4) ε and (1 - κ) |x|² in
    place of |x|² the product is a lower bound of the sum, which is larger by at
    most the slack, 2κ |q|² + 2κ |g|². The mean of the gallery is taken as the
    origin, for short vectors and little slack.
    """

    def __init__(self, found: RetrievalSet, dtype: type[np.floating]) -> None:
        self._dtype = dtype
        self._found = found
        self._order = np.argsort(found.gallery_labels, kind="stable")
        self._column = np.argsort(self._order)
        self._labels = found.gallery_labels[self._order]
        self._origin = found.gallery.mean(axis=0)
        self._right, self.slack = self._operand(found.gallery[self._order])
        # The first of equal vectors: a collapsed model gives many.
        first: dict[bytes, int] = {}
        digests = [hashlib.blake2b(row).digest() for row in found.gallery]
        equal = [first.setdefault(key, i) for i, key in enumerate(digests)]
        self._equal = np.array(equal)[self._order]

    def nearest_classes(self, queries: np.ndarray, depth: int) -> np.ndarray:
        """Classes of the nearest neighbours, `(queries, depth)`."""
        lower, slack = self.bounds(queries)
        nearest = np.argpartition(lower, depth - 1, axis=1)[:, :depth]
        order = np.argsort(np.take_along_axis(lower, nearest, axis=1), axis=1)
        nearest = np.take_along_axis(nearest, order, axis=1)
        bounds = np.take_along_axis(lower, nearest, axis=1)
        classes = self._labels[nearest]
        # Where the slack leaves the order open, it is found exactly.
        slack = (slack + self.slack[nearest].max(axis=1))[:, None]
        is_near = lower <= (bounds[:, -1:] + slack).astype(self._dtype)
        is_open = np.any(np.diff(bounds, axis=1) <= slack, axis=1)
        is_open |= is_near.sum(axis=1) > depth
        for row in np.flatnonzero(is_open):
            columns = self._ranked(queries[row], np.flatnonzero(is_near[row]))
            classes[row] = self._labels[columns[:depth]]
        return classes

    def bounds(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds `(queries, gallery)`, and the queries' slack."""
        left, slack = self._operand(self._found.queries[queries])
        left[:, :-2] *= -2
        left[:, [-2, -1]] = left[:, [-1, -2]]
        lower = left @ self._right.T
        if self._found.own:
            lower[np.arange(len(queries)), self._column[queries]] = np.inf
        return lower, slack

    def _ranked(self, query: int, columns: np.ndarray) -> np.ndarray:
        """Sorts columns by their exact distance from one query."""
        own = self._labels[columns] == self._found.query_labels[query]
        # The last sort is stable and keeps this order of equally near ones.
        columns = np.concatenate([columns[~own], columns[own]])
        points, again = np.unique(self._equal[columns], return_inverse=True)
        difference = self._found.gallery[points]
        difference -= self._found.queries[query]
        distances = np.square(difference, out=difference).sum(axis=1)[again]
        return columns[np.argsort(distances, kind="stable")]

    def _operand(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[x, 1, (1 - κ) |x|²] of each vector, and its part of the slack."""
        vectors = vectors - self._origin
        squares = np.einsum("nd,nd->n", vectors, vectors)[:, None]
        # (The smallest number of the dtype is for what underflows to 0.)
        info, terms = np.finfo(self._dtype), vectors.shape[1] + 4
        error = 4 * terms * (info.eps * squares + 2 * info.tiny)
        parts = [vectors, np.ones_like(squares), squares - error]
        return np.hstack(parts, dtype=self._dtype), 2 * error[:, 0]

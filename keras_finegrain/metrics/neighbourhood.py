"""What lies around each query, found once for all figures on it."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from keras_finegrain.metrics.embedding_set import RetrievalSet
from keras_finegrain.metrics.search import Reach, Search
from keras_finegrain.metrics.shortlist import Shortlist


@dataclasses.dataclass(frozen=True)
class Neighbourhoods:
    """What lies around each query of a block.

    Distances are compared in float64, as sums over (q_d - g_d)². Equally near
    samples of another class count as nearer than those of the query's own. No
    figure then depends on the order of the samples, and an embedding that maps
    everything to one point scores 0, not by chance.

    Attributes:
        queries: Indices of the queries, `(queries,)`.
        matches: How many samples of its class each can find, R, at least 1,
            `(queries,)`.
        ranks: Ranks of those among all neighbours, from 1, rising,
            `(queries, own)`. Above what was asked for a rank is only known to
            be so.
        rows: Of these queries in `shortlist`.
        shortlist: Knows the nearest of other classes.
        labels: The class of each column, rising.
    """

    queries: np.ndarray
    matches: np.ndarray
    ranks: np.ndarray
    rows: np.ndarray
    shortlist: Shortlist
    labels: np.ndarray

    def hit(self, k: int) -> np.ndarray:
        """Whether one of its class is among the k nearest."""
        return self.ranks[:, 0] <= k

    def precision(self, k: int) -> np.ndarray:
        """Share of its class among the k nearest."""
        return np.sum(self.ranks <= k, axis=1) / k

    def r_precision(self) -> np.ndarray:
        """Share of its class among the R nearest."""
        found = self.ranks <= self.matches[:, None]
        return np.sum(found, axis=1) / self.matches

    def average_precision(self) -> np.ndarray:
        """Σ_{r <= R} [y_(r) = y] · P(r) / R."""
        # At the rank of the m-th match m of the neighbours were matches.
        precision = np.arange(1, self.ranks.shape[1] + 1) / self.ranks
        precision[self.ranks > self.matches[:, None]] = 0.0
        # (Added one by one a sum does not depend on the width of the block.)
        return np.cumsum(precision, axis=1)[:, -1] / self.matches

    def vote(self, k: int) -> np.ndarray:
        """Whether most of the k nearest are of its class.

        Among classes with as many votes the one with the nearest sample wins.
        """
        own_votes = np.sum(self.ranks <= k, axis=1)
        right = own_votes == k
        contested = np.flatnonzero((own_votes > 0) & ~right)
        own_votes = own_votes[contested]
        labels = self.other_labels(contested, k)
        voters = np.arange(k) < (k - own_votes)[:, None]
        row, place = np.nonzero(voters)
        # The votes of each class for each query, and its nearest sample.
        _, first, votes = np.unique(
            row * (self.labels[-1] + 1) + labels[voters],
            return_index=True,
            return_counts=True,
        )
        row, place = row[first], place[first]
        most = np.zeros(len(contested), np.intp)
        np.maximum.at(most, row, votes)
        nearest = np.full(len(contested), k)
        leads = votes == most[row]
        np.minimum.at(nearest, row[leads], place[leads])
        # Before its nearest own sample stand `rank - 1` others.
        own_is_nearer = self.ranks[contested, 0] - 1 <= nearest
        right[contested] = (own_votes > most) | (
            (own_votes == most) & own_is_nearer
        )
        return right

    def other_labels(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Classes of the nearest samples of other classes, nearest first.

        Of equally near ones those of the smaller class come first.

        Args:
            rows: For which of the queries.
            count: How many, at most the `voters` that were asked for.

        Returns:
            Numbers of classes, `(rows, count)`; -1 where there are no more,
            or where what there is lies behind `count` of the query's class.
        """
        columns = self.shortlist.nearest(self.rows[rows], count)
        return np.where(columns < 0, -1, self.labels[columns])


def neighbourhoods(
    found: RetrievalSet, reach: Reach, chunk_size: int
) -> Iterator[Neighbourhoods]:
    """Looks up the neighbours of every query that has a match.

    Args:
        found: Queries and gallery.
        reach: How far the figures look.
        chunk_size: Memory is O(chunk_size · gallery).

    Yields:
        `Neighbourhoods` of blocks of all queries of which the gallery has the
        class. As in PyTorch Metric Learning, others count in no figure.
    """
    search = Search(found, reach, chunk_size)
    all_matches = found.matches
    for block, shortlist in search:
        queries = search.query_order[block]
        matches = all_matches[queries]
        rows = np.flatnonzero(matches)
        if len(rows):
            yield Neighbourhoods(
                queries[rows],
                matches[rows],
                shortlist.ranks()[rows],
                rows,
                shortlist,
                search.labels,
            )


# A figure of each query of a block.
OfEachQuery = Callable[[Neighbourhoods], np.ndarray]


def of_each_query(
    found: RetrievalSet,
    figures: Iterable[OfEachQuery],
    reach: Reach,
    chunk_size: int,
) -> np.ndarray:
    """Figures of every query that has a match, from one search.

    Args:
        found: Queries and gallery.
        figures: What they are.
        reach: How far they look.
        chunk_size: Memory is O(chunk_size · gallery).

    Returns:
        Floats `(figures, queries with a match)`, in the order of the queries.
    """
    figures = list(figures)
    values = np.empty((len(figures), len(found.query_labels)))
    for around in neighbourhoods(found, reach, chunk_size):
        for row, figure in zip(values, figures, strict=True):
            row[around.queries] = figure(around)
    return values[:, found.matches > 0]

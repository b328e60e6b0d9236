"""One pass over all pairs of queries and samples, tile by tile."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_finegrain.metrics.embedding_set import RetrievalSet
from keras_finegrain.metrics.nearness import Nearness
from keras_finegrain.metrics.shortlist import (
    MOST_QUERIES,
    Own,
    Shortlist,
    list_size,
)

# Side of a tile: large enough for the matrix product, small enough to stay in
# the cache for what comes after it. (And no power of two, at which the numbers
# of a column would displace one another from the cache.)
TILE = MOST_QUERIES
# Up to so many neighbours, and numbers in an embedding, float32 decides nearly
# all. Of more, too many lie within its error of one another.
FLOAT32_LIMIT = 128
FLOAT32_DIM = 2**16
# Memory below which nothing is saved, only time lost.
LEAST_BYTES = 2**20


class Reach(NamedTuple):
    """How far figures look.

    Attributes:
        depth: They look at so many neighbours.
        whole_class: And at as many as the class has samples.
        voters: Of so many of the nearest they ask for the classes.
    """

    depth: int
    whole_class: bool = False
    voters: int = 0


class Search:
    """The neighbours of all queries, from one pass over all pairs.

    In the order of the classes a query's own samples are one range of columns.
    Where the gallery is the queries, a tile of pairs serves the queries of its
    rows and those of its columns, which halves the work.

    Args:
        found: Queries and gallery.
        reach: How far the figures look.
        chunk_size: A tile, and the lists that are filled at a time, have
            O(chunk_size · gallery) numbers, or those of one query.

    Attributes:
        query_order: The index in the set of each query here, `(queries,)`.
        labels: The class of each column, `(gallery,)`.
    """

    def __init__(
        self, found: RetrievalSet, reach: Reach, chunk_size: int
    ) -> None:
        self.query_order = np.argsort(found.query_labels, kind="stable")
        order = self.query_order
        if not found.own:
            order = np.argsort(found.gallery_labels, kind="stable")
        self.labels = found.gallery_labels[order]
        self._own_gallery = found.own
        self._query_labels = found.query_labels[self.query_order]
        numbers = np.arange(len(found.classes) + 1)
        self._bounds = np.searchsorted(self.labels, numbers)
        self._query_bounds = np.searchsorted(self._query_labels, numbers)
        self._matches = found.matches[self.query_order]
        depth = min(reach.depth, len(self.labels))
        self._limits = np.full(len(self._matches), depth)
        if reach.whole_class:
            np.maximum(self._limits, self._matches, out=self._limits)
        self._voters = reach.voters
        self._chunk_size = chunk_size
        few = (
            self._limits.mean() <= FLOAT32_LIMIT
            and found.gallery.shape[1] <= FLOAT32_DIM
        )
        self._nearness = Nearness(
            found, self.query_order, order, np.float32 if few else np.float64
        )

    def __iter__(self) -> Iterator[tuple[slice, Shortlist]]:
        """Yields blocks of queries and what was found for them."""
        side = min(TILE, math.isqrt(self._room // 16))
        rows = self._blocks(side)
        groups = list(self._groups(rows))
        # A tile serves both sides where the lists of both have a place. Where
        # those of one block take it all, wide tiles are faster.
        columns = rows
        if not self._own_gallery or len(groups[0]) == 1:
            columns = _pieces(len(self.labels), side)
        memory = np.empty(side * side, self._nearness.dtype)
        for group in groups:
            lists = {block: self._shortlist(rows[block]) for block in group}
            self._fill(lists, rows, columns, memory)
            for block in group:
                yield rows[block], lists.pop(block)

    def _fill(
        self,
        lists: dict[int, Shortlist],
        rows: list[slice],
        columns: list[slice],
        memory: np.ndarray,
    ) -> None:
        """Shows each list all columns, in rising order."""
        for row in range(len(rows)):
            left = None
            # A list has seen the columns before its rows as the second one of
            # their tiles.
            first = row if columns is rows else 0
            for column in range(first, len(columns)):
                one = _waiting(lists, row)
                other = None
                if columns is rows and column > row:
                    other = _waiting(lists, column)
                if one is None and other is None:
                    continue
                if left is None:
                    left = self._nearness.left(rows[row])
                upper = self._nearness.upper(left, columns[column], memory)
                self._hide_own(upper, rows[row], columns[column])
                if one is not None:
                    one.see(upper, columns[column].start)
                if other is not None:
                    other.see(upper.T, rows[row].start)

    def _hide_own(self, upper: np.ndarray, rows: slice, columns: slice) -> None:
        """Leaves the samples of other classes."""
        first = max(self._query_labels[rows.start], self.labels[columns.start])
        last = min(
            self._query_labels[rows.stop - 1], self.labels[columns.stop - 1]
        )
        for number in range(first, last + 1):
            own = np.s_[number : number + 2]
            top, bottom = np.maximum(self._query_bounds[own] - rows.start, 0)
            left, right = np.maximum(self._bounds[own] - columns.start, 0)
            upper[top:bottom, left:right] = -np.inf

    def _shortlist(self, rows: slice) -> Shortlist:
        return Shortlist(
            self._nearness,
            np.arange(rows.start, rows.stop),
            self._own(rows),
            self._limits[rows],
            self._voters,
        )

    def _own(self, rows: slice) -> Own:
        """The nearest of their class for a block of queries."""
        labels = self._query_labels[rows]
        starts = np.flatnonzero(np.diff(labels, prepend=-1, append=-1))
        parts = []
        for start, stop in itertools.pairwise(starts + rows.start):
            # Each is compared with its whole class, in float64, and sorted.
            most = max(self._room // (32 * max(self._matches[start], 1)), 1)
            parts += [
                self._own_of_class(
                    self._query_labels[start],
                    slice(start + piece.start, start + piece.stop),
                )
                for piece in _pieces(stop - start, most)
            ]
        width = max(part.columns.shape[1] for part in parts)
        own = Own(
            np.full((len(labels), width), -np.inf),
            np.zeros((len(labels), width), np.int32),
            np.concatenate([part.count for part in parts]),
            np.concatenate([part.error for part in parts]),
        )
        start = 0
        for part in parts:
            count, width = part.columns.shape
            own.nearness[start : start + count, :width] = part.nearness
            own.columns[start : start + count, :width] = part.columns
            start += count
        return own

    def _own_of_class(self, label: int, queries: slice) -> Own:
        """The nearest of their class for queries of one class."""
        columns = slice(*self._bounds[label : label + 2])
        nearness, error = self._nearness.close(queries, columns)
        if self._own_gallery:
            self_column = np.arange(queries.start, queries.stop) - columns.start
            nearness[np.arange(len(nearness)), self_column] = -np.inf
        matches = int(self._matches[queries.start])
        if not matches:
            nearness = np.full((len(nearness), 1), -np.inf)
        limit = int(self._limits[queries.start])
        width = max(matches, 1)
        if matches > limit:
            # All that may be as near as the last that matters.
            last = -np.partition(-nearness, limit - 1, axis=1)[:, limit - 1]
            near = nearness >= (last - 2 * error)[:, None]
            width = int(near.sum(axis=1).max())
        order = np.argsort(-nearness, axis=1)[:, :width]
        count = np.full(len(nearness), matches)
        own = Own(
            np.take_along_axis(nearness, order, axis=1),
            order + columns.start,
            count,
            error,
        )
        own.keep(np.minimum(count, limit))
        return own

    def _blocks(self, side: int) -> list[slice]:
        """Blocks of queries whose lists have a place."""
        blocks = []
        start, queries = 0, len(self._limits)
        while start < queries:
            stop = min(start + side, queries)
            while stop > start + 1 and self._bytes(start, stop) > self._room:
                stop = (start + stop) // 2
            blocks.append(slice(start, stop))
            start = stop
        return blocks

    def _groups(self, blocks: list[slice]) -> Iterator[list[int]]:
        """Blocks whose lists have a place together."""
        group: list[int] = []
        size = 0
        for index, block in enumerate(blocks):
            own_size = self._bytes(block.start, block.stop)
            if group and size + own_size > self._room:
                yield group
                group, size = [], 0
            group.append(index)
            size += own_size
        yield group

    def _bytes(self, start: int, stop: int) -> int:
        """What the lists of a block take."""
        limit = int(self._limits[start:stop].max())
        own = min(limit, int(self._matches[start:stop].max()))
        size = list_size(limit, len(self.labels))
        # The columns have four bytes.
        entry = 4 + np.dtype(self._nearness.dtype).itemsize
        return (stop - start) * (size * entry + own * 12)

    @property
    def _room(self) -> int:
        """Bytes for the lists that are filled at a time."""
        return max(16 * self._chunk_size * len(self.labels), LEAST_BYTES)


def _waiting(lists: dict[int, Shortlist], block: int) -> Shortlist | None:
    shortlist = lists.get(block)
    return None if shortlist is None or shortlist.done else shortlist


def _pieces(count: int, size: int) -> list[slice]:
    return [
        slice(start, min(start + size, count))
        for start in range(0, count, size)
    ]

"""The samples of other classes that can matter to the figures of a query."""

import dataclasses

import numpy as np

from keras_finegrain.metrics.nearness import Nearness

# A rank of which is only known that it is beyond what was asked for.
BEYOND = np.iinfo(np.int64).max // 2
# All lists of a block are searched as one sorted array, in which they lie this
# far apart: a nearness is in [-2, 0.1]. In a block of at most MOST_QUERIES two
# places of that array are rounded by less than _ROUNDING in all.
MOST_QUERIES = 1008
_APART = 8.0
_ROUNDING = 2.0**-38


def list_size(limit: int, gallery: int) -> int:
    """How many samples a list has room for."""
    # Two thirds are there to be filled between one clearing and the next.
    return min(3 * limit + 64, gallery)


@dataclasses.dataclass
class Own:
    """The nearest samples of each query's own class.

    Attributes:
        nearness: Falling, -inf where there are no more, `(queries, own)`.
        columns: Which samples, `(queries, own)`.
        count: How many of them can have a rank that matters, `(queries,)`.
        error: How far off the nearness may be, `(queries,)`.
    """

    nearness: np.ndarray
    columns: np.ndarray
    count: np.ndarray
    error: np.ndarray

    def keep(self, count: np.ndarray) -> None:
        """Gives up all but the nearest `count`, and what may be as near."""
        most = self.count
        self.count = np.minimum(count, most)
        near = self.nearness >= (self.furthest() - self.error)[:, None]
        near_count = np.minimum(near.sum(axis=1), most)
        self.count = np.where(self.count > 0, near_count, 0)

    def furthest(self) -> np.ndarray:
        """Lower bound of the nearness of all that count; inf of none."""
        last = np.maximum(self.count - 1, 0)[:, None]
        nearness = np.take_along_axis(self.nearness, last, axis=1)[:, 0]
        return np.where(self.count > 0, nearness - self.error, np.inf)


class Shortlist:
    """Ranks the own samples of a block of queries among all the others.

    Tiles of upper bounds of the nearness pass by once; what exceeds the
    query's threshold is kept. An own sample before which so many others lie
    for certain that its rank is above `limit` needs no more of them. So the
    thresholds rise to the furthest own sample that still counts (or to the
    `voters`-th nearest other, where that is further), and where none does, the
    query is through. At the end few pairs are too close to call. These alone
    are compared exactly.

    Args:
        nearness: Of all queries and the gallery.
        queries: Which of the queries, at most `MOST_QUERIES`, `(queries,)`.
        own: Their own samples.
        limit: The last rank that matters, `(queries,)`.
        voters: How many of the nearest others `nearest` will be asked for.
    """

    def __init__(
        self,
        nearness: Nearness,
        queries: np.ndarray,
        own: Own,
        limit: np.ndarray,
        voters: int,
    ) -> None:
        self._nearness = nearness
        self._queries = queries
        self._own = own
        self._limit = limit
        self._voters = voters
        self._query_slack = nearness.query_slack[queries]
        # Behind so many of its own no other is among the voters. A query
        # without any is in no figure.
        self._floor = np.where(own.count > 0, -np.inf, np.inf)
        if voters and own.count.max() >= voters:
            nearest = own.nearness[:, voters - 1] - own.error
            self._floor = np.maximum(self._floor, nearest)
        size = list_size(int(limit.max()), len(nearness.gallery_slack))
        dtype = nearness.dtype
        self._fill = np.zeros(len(queries), np.intp)
        self._upper = np.full((len(queries), size), -np.inf, dtype)
        self._columns = np.zeros((len(queries), size), np.int32)
        self._threshold = _below(self._needed(self._floor), dtype)

    @property
    def done(self) -> bool:
        """Whether no other sample can change anything."""
        return bool(np.all(self._threshold == np.inf))

    def see(self, upper: np.ndarray, start: int) -> None:
        """Looks through a tile.

        Args:
            upper: Upper bounds of the nearness, `(queries, columns)`, -inf for
                samples of the query's own class.
            start: The first column. Tiles come in rising order.
        """
        if self._take(upper, start):
            return
        if self._fill.any():
            self._clear()
        else:
            self._learn(upper, start)
        if not self._take(upper, start):
            middle = upper.shape[1] // 2
            self.see(upper[:, :middle], start)
            self.see(upper[:, middle:], start + middle)

    def ranks(self) -> np.ndarray:
        """Ranks of each query's own, `(queries, own)`, rising from 1.

        Those up to `limit` are exact; what is above may be any number above.
        """
        self._sort()
        own, position = self._own, self._position()
        slack = self._list_slack()
        certain = self._certain(self._upper, slack)
        own.keep(np.sum(position + certain <= self._limit[:, None], axis=1))
        nearer = np.where(position <= own.count[:, None], certain, BEYOND)
        possible = _at_least(
            self._upper, own.nearness - (own.error + _ROUNDING)[:, None]
        )
        rows, open_own = np.nonzero(nearer < possible)
        first = certain[rows, open_own]
        nearer[rows, open_own] += self._count_exactly(
            rows, open_own, first, possible[rows, open_own] - first
        )
        nearer.sort(axis=1)
        return position + nearer

    def nearest(self, rows: np.ndarray, count: int) -> np.ndarray:
        """The nearest others, nearest first, after `ranks`.

        Of equally near ones the first in the gallery comes first.

        Args:
            rows: For which of the queries, `(rows,)`.
            count: How many, at most `voters`.

        Returns:
            Which samples, `(rows, count)`; -1 where there are no more, or
            where what there is lies behind `count` of the query's own.
        """
        upper = self._upper[rows]
        possible = upper > -np.inf
        if count <= upper.shape[1]:
            bound = upper[:, count - 1] - self._list_slack()[rows]
            possible &= upper >= bound[:, None]
        row, place = np.nonzero(possible)
        columns = self._columns[rows[row], place]
        exact = self._nearness.exact(self._queries[rows[row]], columns)
        order = np.lexsort([columns, -exact, row])
        row, columns = row[order], columns[order]
        place = _places(row, len(rows))
        chosen = place < count
        nearest = np.full((len(rows), count), -1)
        nearest[row[chosen], place[chosen]] = columns[chosen]
        return nearest

    def _take(self, upper: np.ndarray, start: int) -> bool:
        """Adds what exceeds the thresholds, if the lists have the room."""
        above = upper > self._threshold[:, None]
        count = np.count_nonzero(above)
        if not count:
            return True
        if count > self._upper.size - self._fill.sum():
            return False
        rows, columns, values = _chosen(upper, above)
        fill = self._fill + np.bincount(rows, minlength=len(self._fill))
        size = self._upper.shape[1]
        if fill.max() > size:
            return False
        # (One index into flat memory is faster than a pair.)
        place = rows * size + self._fill[rows] + _places(rows, len(fill))
        self._upper.reshape(-1)[place] = values
        self._columns.reshape(-1)[place] = columns + start
        self._fill = fill
        return True

    def _learn(self, upper: np.ndarray, start: int) -> None:
        """Raises the thresholds to what the first tile alone says."""
        # Nothing matters behind `limit` others.
        nth = upper.shape[1] - int(self._limit.max())
        if nth < 0:
            return
        slack = self._nearness.gallery_slack[start : start + upper.shape[1]]
        last = np.partition(upper, nth, axis=1)[:, nth]
        last = last - slack.max() - self._query_slack
        before = self._own.nearness + self._own.error[:, None] > last[:, None]
        self._own.keep(before.sum(axis=1))
        self._raise(self._needed(last))

    def _clear(self) -> None:
        """Raises the thresholds to what the lists say and drops the rest."""
        falling = -np.sort(-self._upper, axis=1)
        slack = self._list_slack()
        ranks = self._position() + self._certain(falling, slack)
        self._own.keep(np.sum(ranks <= self._limit[:, None], axis=1))
        voter = np.full(len(slack), -np.inf)
        if 0 < self._voters <= falling.shape[1]:
            voter = falling[:, self._voters - 1] - slack
        needed = self._needed(voter)
        kept = self._upper > _below(needed, self._nearness.dtype)[:, None]
        rows, places = np.nonzero(kept)
        upper, columns = self._upper[kept], self._columns[kept]
        self._upper.fill(-np.inf)
        places = _places(rows, len(slack))
        self._upper[rows, places] = upper
        self._columns[rows, places] = columns
        self._fill = np.sum(kept, axis=1)
        # Tiles come in rising order: what comes later and is as near as can
        # be comes behind.
        self._raise(np.where(voter >= 0, self._own.furthest(), needed))
        for row in np.flatnonzero(self._fill > self._upper.shape[1] // 2):
            self._settle(int(row))

    def _settle(self, row: int) -> None:
        """Does exactly what `_clear` could not decide for one query."""
        own, fill = self._own, self._fill[row]
        query, limit = self._queries[row], int(self._limit[row])
        columns = self._columns[row, :fill]
        exact = self._nearness.exact(np.full(fill, query), columns)
        order = np.lexsort([columns, -exact])[:limit]
        upper, columns = self._upper[row, order], columns[order]
        exact = exact[order]
        self._upper[row] = -np.inf
        self._upper[row, : len(order)] = upper
        self._columns[row, : len(order)] = columns
        self._fill[row] = len(order)

        count = own.count[row]
        own_columns = own.columns[row, :count]
        own_exact = self._nearness.exact(np.full(count, query), own_columns)
        own_order = np.argsort(-own_exact)
        own.columns[row, :count] = own_columns[own_order]
        own.nearness[row, :count] = own_exact[own_order]
        own.nearness[row, count:] = -np.inf
        nearer = np.searchsorted(-exact, -own_exact[own_order], side="right")
        count = int(np.sum(np.arange(1, count + 1) + nearer <= limit))
        own.count[row] = count
        needed = own_exact[own_order[count - 1]] if count else np.inf
        if self._voters:
            voter = max(exact[self._voters - 1], self._floor[row])
            needed = min(needed, np.inf if voter == 0 else voter)
        threshold = np.full(len(self._fill), -np.inf)
        threshold[row] = needed
        self._raise(threshold)

    def _count_exactly(
        self,
        rows: np.ndarray,
        own: np.ndarray,
        first: np.ndarray,
        count: np.ndarray,
    ) -> np.ndarray:
        """How many of some others are at least as near as an own sample.

        Args:
            rows: Of which query, `(own samples,)`.
            own: Which of its own, `(own samples,)`.
            first: The first of the others in its sorted list.
            count: How many follow, at least 1.
        """
        # An entry for each own sample and other.
        entry = np.repeat(np.arange(len(rows)), count)
        place = first[entry] + _places(entry, len(rows))
        # Several own samples may be compared with the same other.
        width = self._upper.shape[1]
        others, again = np.unique(
            rows[entry] * width + place, return_inverse=True
        )
        row, place = np.divmod(others, width)
        other = self._nearness.exact(
            self._queries[row], self._columns[row, place]
        )
        exact = self._nearness.exact(
            self._queries[rows], self._own.columns[rows, own]
        )
        nearer = other[again] >= exact[entry]
        return np.bincount(entry[nearer], minlength=len(rows))

    def _certain(self, falling: np.ndarray, slack: np.ndarray) -> np.ndarray:
        """How many others are certainly as near as each own sample."""
        above = self._own.error + slack + _ROUNDING
        return _at_least(falling, self._own.nearness + above[:, None])

    def _needed(self, voter: np.ndarray) -> np.ndarray:
        """What is less near than this cannot matter.

        Args:
            voter: Lower bound of the nearness of the last voter.
        """
        furthest = self._own.furthest()
        if not self._voters:
            return furthest
        return np.minimum(furthest, np.maximum(voter, self._floor))

    def _raise(self, needed: np.ndarray) -> None:
        """Raises the thresholds to where what is as near still exceeds them."""
        below = _below(needed, self._nearness.dtype)
        np.maximum(self._threshold, below, out=self._threshold)

    def _list_slack(self) -> np.ndarray:
        """By how much an upper bound in the list may be too large."""
        slack = self._nearness.gallery_slack[self._columns]
        slack[self._upper == -np.inf] = 0.0
        return self._query_slack + slack.max(axis=1, initial=0.0)

    def _sort(self) -> None:
        """Sorts the lists, nearest first."""
        used = int(self._fill.max())
        order = np.argsort(-self._upper[:, :used], axis=1)
        self._upper = np.take_along_axis(self._upper, order, axis=1)
        self._columns = np.take_along_axis(self._columns, order, axis=1)

    def _position(self) -> np.ndarray:
        return np.arange(1, self._own.nearness.shape[1] + 1)


def _chosen(
    tile: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (rising), columns and values of what is chosen of a tile."""
    transposed = not chosen.flags.c_contiguous
    if transposed:
        tile, chosen = tile.T, chosen.T
    places = np.flatnonzero(chosen)
    values = tile.reshape(-1)[places]
    rows, columns = np.divmod(places, tile.shape[1])
    if transposed:
        rows, columns = columns, rows
        # (NumPy sorts integers of 16 bits by their digits, in linear time.)
        order = np.argsort(rows.astype(np.int16), kind="stable")
        rows, columns, values = rows[order], columns[order], values[order]
    return rows, columns, values


def _places(rows: np.ndarray, count: int) -> np.ndarray:
    """How many entries of the same row stand before each entry.

    Args:
        rows: Of each entry, rising.
        count: How many rows there are.
    """
    entries = np.bincount(rows, minlength=count)
    return np.arange(len(rows)) - (np.cumsum(entries) - entries)[rows]


def _at_least(falling: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """How many numbers of each row are at least each bound.

    Args:
        falling: `(rows, numbers)`, -inf at the end where there are fewer.
        bounds: `(rows, bounds)`.
    """
    # One search for all rows: much faster than a call for each.
    apart = _APART * np.arange(len(falling))[:, None]
    rising = apart + np.minimum(-falling.astype(np.float64), _APART / 2)
    found = np.searchsorted(
        rising.ravel(),
        (apart + np.clip(-bounds, -_APART / 4, _APART / 3)).ravel(),
        side="right",
    )
    return (
        found.reshape(bounds.shape)
        - np.arange(len(falling))[:, None] * falling.shape[1]
    )


def _below(bound: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """The bound rounded to a smaller number; inf stays."""
    below = np.nextafter(bound.astype(dtype), dtype(-np.inf))
    return np.where(bound == np.inf, dtype(np.inf), below)

"""The search among embeddings, by faiss."""

from typing import Any

import numpy as np

from keras_finegrain._base.optional import import_optional

# Links of a vector, and the candidates that are kept while the graph is built
# and searched. docs/gallery.md has the recall that they give.
_LINKS, _BUILD, _SEARCH = 32, 80, 128


class Index:
    """Unit vectors in rows, each compared with a query.

    The vectors lie in faiss alone, so that memory holds them once.

    Args:
        dim: Length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self._faiss = import_optional("faiss", "Gallery", "search")
        self._index = self._new(dim)

    def _new(self, dim: int) -> Any:
        return self._faiss.IndexFlatIP(dim)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    def add(self, vectors: np.ndarray) -> None:
        """Appends float32 rows."""
        if len(vectors):
            self._index.add(np.ascontiguousarray(vectors))

    def remove(self, rows: np.ndarray) -> None:
        """Removes rows; those behind them move up."""
        self._index.remove_ids(np.asarray(rows, np.int64))

    def vectors(self, rows: np.ndarray | None = None) -> np.ndarray:
        """A copy of all vectors or of some, float32."""
        rows = np.arange(len(self)) if rows is None else rows
        if not len(rows):
            return np.zeros((0, self.dim), np.float32)
        return np.asarray(
            self._index.reconstruct_batch(np.asarray(rows, np.int64))
        )

    def search(
        self, queries: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `k` most similar rows of each query.

        Args:
            queries: Unit vectors, float32 `(queries, dim)`.
            k: How many; cut to the number of rows.

        Returns:
            Cosines in [-1, 1] and rows, both `(queries, k)`, the most similar
            first and of equally similar ones the first row first. A graph may
            find fewer: the rest have the row -1.
        """
        k = min(k, len(self))
        if k == 0 or not len(queries):
            nothing = np.zeros((len(queries), 0))
            return nothing, nothing.astype(np.int64)
        found, rows = self._find(np.ascontiguousarray(queries), k)
        found = np.clip(found, -1.0, 1.0)
        # What was not found stands last.
        order = np.lexsort((rows, -found, rows < 0))
        return (
            np.take_along_axis(found, order, axis=1),
            np.take_along_axis(rows, order, axis=1),
        )

    def _find(
        self, queries: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._index.search(queries, k)

    def copy(self) -> Any:
        """A copy of the index, of faiss."""
        return self._faiss.clone_index(self._index)


class GraphIndex(Index):
    """Unit vectors in a graph (HNSW) that leads a query to its neighbours.

    The graph leads through vectors that were removed, so they stay until they
    are half of all.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        # Where in the graph each row is, ascending.
        self._places = np.zeros(0, np.int64)

    def _new(self, dim: int) -> Any:
        metric = self._faiss.METRIC_INNER_PRODUCT
        index = self._faiss.IndexHNSWFlat(dim, _LINKS, metric)
        index.hnsw.efConstruction = _BUILD
        return index

    def __len__(self) -> int:
        return len(self._places)

    def add(self, vectors: np.ndarray) -> None:
        """Appends float32 rows."""
        start = self._index.ntotal
        super().add(vectors)
        new = np.arange(start, start + len(vectors))
        self._places = np.concatenate([self._places, new])

    def remove(self, rows: np.ndarray) -> None:
        """Removes rows; those behind them move up."""
        self._places = np.delete(self._places, rows)
        if 2 * len(self) < self._index.ntotal:
            self._build_anew()

    def vectors(self, rows: np.ndarray | None = None) -> np.ndarray:
        """A copy of all vectors or of some, float32."""
        places = self._places if rows is None else self._places[rows]
        return super().vectors(places)

    def _find(
        self, queries: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        faiss = self._faiss
        # It finds at most as many as it keeps.
        parameters = faiss.SearchParametersHNSW(efSearch=max(_SEARCH, k))
        # (`faiss.contrib.torch_utils`, which other packages import, puts a
        # search of tensors without parameters in its place.)
        search = getattr(self._index, "search_numpy", self._index.search)
        if len(self) < self._index.ntotal:
            there = np.zeros(self._index.ntotal, bool)
            there[self._places] = True
            bits = np.packbits(there, bitorder="little")
            parameters.sel = selector = faiss.IDSelectorBitmap(bits)
            found, places = search(queries, k, params=parameters)
            del selector  # (`parameters` does not keep it.)
        else:
            found, places = search(queries, k, params=parameters)
        rows = np.searchsorted(self._places, places)
        return found, np.where(places < 0, -1, rows)

    def copy(self) -> Any:
        """A copy of the index, of faiss, without what was removed."""
        if len(self) < self._index.ntotal:
            self._build_anew()
        return super().copy()

    def _build_anew(self) -> None:
        vectors = self.vectors()
        self._index = self._new(self.dim)
        self._places = self._places[:0]
        self.add(vectors)


INDICES = {"exact": Index, "approximate": GraphIndex}

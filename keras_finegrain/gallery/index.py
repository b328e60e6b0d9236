"""The search among embeddings, by faiss."""

from typing import Any

import numpy as np

from keras_finegrain._base.optional import import_optional

INDICES = ("exact", "approximate")
# Links of a vector, and the candidates that are kept while the index is built
# and searched. docs/gallery.md has the recall that they give.
_LINKS, _BUILD, _SEARCH = 32, 80, 128


class Index:
    """Unit vectors in rows, searched by their inner product.

    The vectors lie in faiss alone, so that memory holds them once.

    Args:
        dim: Length of a vector.
        kind: `"exact"` compares with every vector, `"approximate"` follows a
            graph (HNSW).
    """

    def __init__(self, dim: int, kind: str) -> None:
        self._faiss = import_optional("faiss", "Gallery", "search")
        self._kind = kind
        self._index = self._new(dim)

    def _new(self, dim: int) -> Any:
        faiss = self._faiss
        if self._kind == "exact":
            return faiss.IndexFlatIP(dim)
        index = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD
        index.hnsw.efSearch = _SEARCH
        return index

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
        if self._kind == "exact":
            self._index.remove_ids(np.asarray(rows, np.int64))
            return
        # The graph leads through the vectors that go: faiss takes none out.
        kept = np.delete(self.vectors(), rows, axis=0)
        self._index = self._new(self.dim)
        self.add(kept)

    def vectors(self, rows: np.ndarray | None = None) -> np.ndarray:
        """A copy of all vectors or of some, float32."""
        if not len(self):
            return np.zeros((0, self.dim), np.float32)
        if rows is None:
            return np.asarray(self._index.reconstruct_n(0, len(self)))
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
            Similarities in [-1, 1] and rows, both `(queries, k)`, the most
            similar first and of equally similar ones the first row first. The
            approximate index may find fewer: their row is -1.
        """
        k = min(k, len(self))
        if k == 0 or not len(queries):
            return np.zeros((len(queries), 0), "f4"), np.zeros(
                (len(queries), 0), np.int64
            )
        found, rows = self._index.search(
            np.ascontiguousarray(queries),
            k,
            params=self._parameters(k),
        )
        found = np.clip(found, -1.0, 1.0)
        # What was not found stands last.
        order = np.lexsort((rows, -found, rows < 0))
        return (
            np.take_along_axis(found, order, axis=1),
            np.take_along_axis(rows, order, axis=1),
        )

    def _parameters(self, k: int) -> Any:
        if self._kind == "exact":
            return None
        # It finds at most as many as it keeps.
        return self._faiss.SearchParametersHNSW(efSearch=max(_SEARCH, k))

    def copy(self) -> Any:
        """A copy of the index, of faiss."""
        return self._faiss.clone_index(self._index)

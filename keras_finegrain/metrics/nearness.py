"""How near vectors are: for many pairs within a bound, for single ones exact.

The nearness of a query q and a sample g is minus half their squared distance,

```
n(q, g) = -|q - g|² / 2 = q · g - |q|² / 2 - |g|² / 2
```

so that a larger one is nearer and 0 is the same place.
"""

import numpy as np

from keras_finegrain.metrics.embedding_set import RetrievalSet

# Rows that are gathered and converted at a time: a few MB.
PIECE = 1024
PAIRS = 256
# So many numbers NumPy adds at a time. More it would add in another order for
# one pair than for several.
SUMMED = 8192


class Nearness:
    """The nearness of each query to each sample of a gallery.

    What counts is `exact`: the sum over (q_d - g_d)², each pair on its own and
    always in the same order. It does not depend on what else is computed with
    it, gives (q, g) and (g, q) the same number, and 0 for equal vectors.

    A matrix product is far faster, and rounds differently. `upper` is one,
    raised by a bound of its error, so that it is never below `exact`.

    **The bound.** Vectors are moved by one point near the gallery's mean, a,
    which leaves distances as they are and makes the numbers small. With
    h = |x|² / 2 the nearness is one product of D + 2 terms,

    ```
    x · y - h(x) - h(y) = [x, -h(x), 1] · [y, 1, -h(y)]
    ```

    whose sum of absolute terms is at most |x||y| + h(x) + h(y)
    <= 2 (h(x) + h(y)). In whatever order they are added, with or without fused
    operations, the error of such a product is at most γ = n u / (1 - n u) of
    that sum, with n = D + 2 and the unit roundoff u (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 3.1). The rounding of
    `exact` itself and of h is at most 4 γ of float64, and that of x, y and h
    to the product's precision below 16 u. So with κ the sum of the three, and
    η for what is lost to underflow,

    ```
    |product - exact| <= κ (h(x) + h(y)) + η
    ```

    and (1 - κ) h - η / 2 in place of h in both operands makes it an upper
    bound.

    Args:
        found: Queries and gallery.
        query_order: The row in `found.queries` of each query here.
        gallery_order: The row in `found.gallery` of each sample here.
        dtype: Of the products that `upper` computes.

    Attributes:
        dtype: Of the products.
        query_slack: `upper - exact` of query i and sample j is at most
            `query_slack[i] + gallery_slack[j]`, `(queries,)`.
        gallery_slack: `(gallery,)`.
    """

    def __init__(
        self,
        found: RetrievalSet,
        query_order: np.ndarray,
        gallery_order: np.ndarray,
        dtype: type[np.floating],
    ) -> None:
        self._queries, self._query_order = found.queries, query_order
        self._gallery, self._gallery_order = found.gallery, gallery_order
        self.dtype = dtype
        self._center, self._scale = _center_and_scale(found)
        self._relative, self._absolute = _error_bound(
            found.gallery.shape[1], dtype
        )
        self._right, self._half = self._operand(found.gallery, gallery_order)
        self.gallery_slack = self._slack(self._half)
        if found.own:
            self._left, self._query_half = self._right, self._half
        else:
            self._left, self._query_half = self._operand(
                found.queries, query_order
            )
        self.query_slack = self._slack(self._query_half)

    def left(self, queries: slice) -> np.ndarray:
        """The operand of some queries for `upper`."""
        operand = self._left[queries].copy()
        operand[:, [-2, -1]] = operand[:, [-1, -2]]
        return operand

    def upper(
        self, left: np.ndarray, gallery: slice, out: np.ndarray
    ) -> np.ndarray:
        """Upper bounds of the nearness, `(len(left), gallery)`.

        Args:
            left: Of the queries, from `left`.
            gallery: Which samples.
            out: Flat memory of at least that size.
        """
        right = self._right[gallery]
        tile = out[: len(left) * len(right)].reshape(len(left), len(right))
        return np.matmul(left, right.T, out=tile)

    def close(
        self, queries: slice, gallery: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearness in float64 by a product, and how far off it may be.

        Returns:
            The nearness `(queries, gallery)` and a bound of its error
            `(queries,)`.
        """
        left = self._moved(self._queries[self._query_order[queries]])
        right = self._moved(self._gallery[self._gallery_order[gallery]])
        left_half = self._query_half[queries]
        right_half = self._half[gallery]
        products = left @ right.T
        products -= left_half[:, None]
        products -= right_half
        relative, absolute = _error_bound(left.shape[1], np.float64)
        furthest = left_half + right_half.max(initial=0.0)
        return products, relative * furthest + absolute

    def exact(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """The nearness of pairs, `(pairs,)`.

        Args:
            queries: Which query, `(pairs,)`.
            gallery: Which sample, `(pairs,)`.
        """
        nearness = np.zeros(len(queries))
        for start in range(0, len(queries), PAIRS):
            pairs = slice(start, start + PAIRS)
            difference = self._queries[self._query_order[queries[pairs]]]
            difference -= self._gallery[self._gallery_order[gallery[pairs]]]
            # A power of two, which rounds nothing.
            difference *= self._scale
            for first in range(0, difference.shape[1], SUMMED):
                part = difference[:, first : first + SUMMED]
                nearness[pairs] += np.einsum("pd,pd->p", part, part)
        nearness *= -0.5
        return nearness

    def _moved(self, vectors: np.ndarray) -> np.ndarray:
        moved = vectors - self._center
        moved *= self._scale
        return moved

    def _operand(
        self, vectors: np.ndarray, order: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """[y, 1, -h(y)] and h(y)."""
        count, dim = len(order), vectors.shape[1]
        operand = np.ones((count, dim + 2), self.dtype)
        half = np.empty(count)
        for start in range(0, count, PIECE):
            rows = slice(start, start + PIECE)
            moved = self._moved(vectors[order[rows]])
            operand[rows, :dim] = moved
            half[rows] = np.einsum("nd,nd->n", moved, moved) / 2
        operand[:, -1] = self._absolute / 2 - (1 - self._relative) * half
        return operand, half

    def _slack(self, half: np.ndarray) -> np.ndarray:
        """A query's or a sample's part in `upper - exact`."""
        return 2 * (self._relative * half + self._absolute)


def _center_and_scale(found: RetrievalSet) -> tuple[np.ndarray, float]:
    """A point near the mean, and a power of two for lengths of at most 1."""
    # Seen from a sample, an embedding that collapsed onto it is exactly 0.
    origin = found.gallery[0]
    total, largest = np.zeros_like(origin), 0.0
    for vectors in [found.gallery] + [found.queries] * (not found.own):
        for start in range(0, len(vectors), PIECE):
            moved = vectors[start : start + PIECE] - origin
            largest = max(largest, moved.max(), -moved.min())
            if vectors is found.gallery:
                total += moved.sum(axis=0)
    # |x - center| <= 2 √D · largest.
    _, exponent = np.frexp(2 * len(origin) ** 0.5 * largest)
    scale = np.ldexp(1.0, -max(int(exponent), -1000))
    return origin + total / len(found.gallery), float(scale)


def _error_bound(dim: int, dtype: type[np.floating]) -> tuple[float, float]:
    """κ and η of the bound in `Nearness`."""
    terms = dim + 2

    def gamma(dtype: type[np.floating]) -> float:
        error = terms * float(np.finfo(dtype).eps) / 2
        return error / (1 - error)

    info = np.finfo(dtype)
    # (eps is 2 u.)
    relative = 2 * gamma(dtype) + 4 * gamma(np.float64) + 8 * float(info.eps)
    return relative, 8 * terms * float(info.tiny)

"""Both searches must find the nearest, also after rows came and went."""

import numpy as np
import pytest

from keras_finegrain.gallery.index import INDICES
from keras_finegrain.metrics.embedding_set import unit_rows


def vectors(count, seed):
    """In look-alike classes of 20."""
    centers = np.random.default_rng(0).normal(size=(50, 32))
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, 32))
    return unit_rows(centers[rng.integers(0, 50, count)] + noise).astype("f4")


@pytest.mark.parametrize("beside_tensors", [False, True])
@pytest.mark.parametrize("gone", [0, 300, 700])
@pytest.mark.parametrize("kind", INDICES)
def test_the_nearest_are_found_after_rows_came_and_went(
    kind, gone, beside_tensors
):
    if beside_tensors:
        # Replaces the searches of faiss, as PyTorch Metric Learning makes it.
        import faiss.contrib.torch_utils  # noqa: F401
    known, queries = vectors(1000, 1), vectors(40, 2)
    index = INDICES[kind](32)
    index.add(known[:900])
    rows = np.random.default_rng(3).permutation(900)[:gone]
    index.remove(rows)
    index.add(known[900:])
    left = np.delete(known, rows, axis=0)

    found, places = index.search(queries, 10)

    assert len(index) == len(left)
    np.testing.assert_array_equal(index.vectors(), left)
    cosines = queries @ left.T
    nearest = np.argsort(-cosines, axis=1)[:, :10]
    hits = [np.isin(*pair).mean() for pair in zip(nearest, places, strict=True)]
    assert np.mean(hits) > (0.98 if kind == "approximate" else 0.999)
    np.testing.assert_allclose(
        found, np.take_along_axis(cosines, places, axis=1), atol=1e-5
    )
    assert index.copy().ntotal == len(left)
    np.testing.assert_array_equal(index.vectors(), left)

"""Faults of the data: suspected wrong labels, and photos that are there twice.

Photos are compared by a difference hash (the signs of the differences between
neighbouring cells of a grey photo of 9 x 8 cells: 64 bits, which survive
resizing, re-encoding and small changes of brightness) and confirmed by the
embedding.
"""

from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.optional import import_optional
from keras_finegrain.metrics.embedding_set import unit_rows

_CELLS = (9, 8)  # Width, height.
_MOST_BITS = 6
_LEAST_COSINE = 0.9
_CHUNK = 1000


class Duplicate(NamedTuple):
    """Two samples that show the same photo.

    Attributes:
        sample: Index of the one.
        other: Index of the other.
        bits: Bits of 64 that differ.
    """

    sample: int
    other: int
    bits: int


def difference_hash(photo: np.ndarray) -> np.ndarray:
    """What stays of a photo that is resized or encoded again.

    Args:
        photo: Floats `(height, width, 3)` in [0, 1].

    Returns:
        Bools `(64,)`.
    """
    pillow = import_optional("PIL.Image", "report")
    image = pillow.fromarray(np.round(255 * photo).astype(np.uint8))
    cells = image.convert("F").resize(_CELLS, pillow.Resampling.BOX)
    rows = np.asarray(cells)
    return (rows[:, 1:] > rows[:, :-1]).ravel()


def duplicates(
    hashes: np.ndarray,
    embeddings: np.ndarray,
    known_hashes: np.ndarray | None = None,
    known_embeddings: np.ndarray | None = None,
) -> list[Duplicate]:
    """Pairs of samples that show the same photo, the surest first.

    Args:
        hashes: Bools `(samples, 64)`.
        embeddings: Of the same samples.
        known_hashes: Of other samples, in which each sample is looked for.
            Defaults to the samples themselves, each pair once.
        known_embeddings: Of the same other samples.
    """
    within = known_hashes is None
    others = hashes if known_hashes is None else known_hashes
    vectors = unit_rows(embeddings)
    other_vectors = vectors
    if known_embeddings is not None:
        other_vectors = unit_rows(known_embeddings)
    # As signs, a product counts the bits that agree less those that differ.
    signs = 2 * hashes.astype(np.float32) - 1
    other_signs = 2 * others.astype(np.float32) - 1
    found = []
    for start in range(0, len(signs), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        bits = (signs.shape[1] - signs[chunk] @ other_signs.T) / 2
        rows, columns = np.nonzero(bits <= _MOST_BITS)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            sample = start + row
            if within and sample >= column:
                continue
            cosine = float(vectors[sample] @ other_vectors[column])
            if cosine >= _LEAST_COSINE:
                differ = int(bits[row, column])
                found.append(Duplicate(sample, column, differ))
    return sorted(found, key=lambda pair: pair.bits)


def suspects(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Samples whose label is probably wrong, the most doubtful first.

    By confident learning (Northcutt, Jiang and Chuang, JAIR 2021) of cleanlab.

    Args:
        labels: Integers `(samples,)`.
        probabilities: `(samples, classes)`, of a model that was not trained
            on these samples.

    Raises:
        ImportError: If cleanlab is missing.
    """
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        return []
    # cleanlab wants a sample of each class.
    own = probabilities[:, classes] + np.finfo(np.float64).tiny
    own = own / own.sum(axis=1, keepdims=True)
    filters: Any = import_optional("cleanlab.filter", "report", "report")
    ranked = filters.find_label_issues(
        indices, own, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return [int(sample) for sample in ranked]

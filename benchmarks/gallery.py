"""Time, memory and recall of a gallery, from 10³ to 10⁶ photos.

    python benchmarks/gallery.py --photos 1000 10000 100000 1000000

Embeddings are drawn: 256 numbers, in clusters of 100 photos whose cosine to
their center is about 0.7, as those of look-alike classes. A photo's own class
is thus among nearly equal ones, which is what makes an approximate search miss.
"""

import argparse
import json
import time

import keras
import numpy as np

from keras_finegrain import Gallery
from keras_finegrain.gallery.index import INDICES, Index
from keras_finegrain.metrics.embedding_set import unit_rows

PHOTOS_OF_CLASS = 100
K = 10
QUERIES = 200


def embeddings(
    photos: int, dim: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of photos, and their classes."""
    classes = max(1, photos // PHOTOS_OF_CLASS)
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).standard_normal(
        (classes, dim), np.float32
    )
    x = rng.standard_normal((photos, dim), np.float32)
    labels = rng.integers(0, classes, photos)
    return unit_rows(x + centers[labels]), labels


def measure(index: Index, known: np.ndarray, new: np.ndarray) -> dict:
    """Times in seconds and the rows that were found."""
    start = time.perf_counter()
    index.add(known)
    build = time.perf_counter() - start
    start = time.perf_counter()
    _, rows = index.search(new, K)
    many = (time.perf_counter() - start) / len(new)
    one = []
    for query in new[:20]:
        start = time.perf_counter()
        index.search(query[None], K)
        one.append(time.perf_counter() - start)
    start = time.perf_counter()
    index.add(new)
    add = time.perf_counter() - start
    start = time.perf_counter()
    index.remove(np.arange(len(known), len(known) + len(new)))
    return {
        "build_s": build,
        "one_ms": 1e3 * float(np.median(one)),
        "of_many_ms": 1e3 * many,
        f"add_{len(new)}_s": add,
        f"remove_{len(new)}_s": time.perf_counter() - start,
        "rows": rows,
    }


def identify(
    kind: str, known: np.ndarray, labels: np.ndarray, new: np.ndarray
) -> dict:
    """Milliseconds to name a photo, alone and among all of them."""
    model = keras.Sequential(
        [keras.Input(known.shape[1:]), keras.layers.Identity()]
    )
    made = Gallery.of_embeddings(model, known, labels, index=kind)
    start = time.perf_counter()
    made.identify_embeddings(new)
    many = (time.perf_counter() - start) / len(new)
    one = []
    for photo in new[:20]:
        start = time.perf_counter()
        made.identify_embeddings(photo[None])
        one.append(time.perf_counter() - start)
    return {
        "identify_one_ms": 1e3 * float(np.median(one)),
        "identify_of_many_ms": 1e3 * many,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--kinds", nargs="+", choices=INDICES, default=INDICES)
    options = parser.parse_args()
    for photos in options.photos:
        known, labels = embeddings(photos, options.dim, 1)
        new = embeddings(max(photos, QUERIES), options.dim, 2)[0][:QUERIES]
        exact = None
        for kind in options.kinds:
            found = measure(INDICES[kind](options.dim), known, new)
            rows = found.pop("rows")
            exact = rows if kind == "exact" else exact
            if exact is not None:
                hits = [
                    np.isin(*pair).mean()
                    for pair in zip(exact, rows, strict=True)
                ]
                found[f"recall_at_{K}"] = float(np.mean(hits))
            found |= identify(kind, known, labels, new)
            found = {name: round(v, 4) for name, v in found.items()}
            print(
                json.dumps({"photos": photos, "kind": kind, **found}),
                flush=True,
            )


if __name__ == "__main__":
    main()

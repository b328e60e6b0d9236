"""Recall@1 and MAP@R beside FAISS's exact search.

    pip install faiss-cpu
    python benchmarks/retrieval.py
    python benchmarks/retrieval.py --samples 5794 --classes 100 --rounds 7
    python benchmarks/retrieval.py --other ../another/version

FAISS's flat index compares every query with every sample by a float32 matrix
product, which takes nearly all of its time. It returns the R + 1 nearest of
each query (the query is one of them), from which NumPy computes the metrics
without a loop. Ours compute the metrics from the embeddings.

- `apart` and `mixed` are classes that are separated and classes that overlap.
- `Euclidean` has FAISS search with IndexFlatL2.
- `gallery` has a tenth of the samples as queries and the rest as their
  gallery.
- `--other` names a folder with another version of the package, which is timed
  beside this one.

The last column has the metrics, and the share of its search in FAISS's time.
Its metrics differ from ours where float32 cannot order two samples. The
difference is printed below the table.
"""

import importlib.util
import sys
import time

import numpy as np
import turns

# The standard deviation of a sample from its class's mean, over that of the
# means from one another.
SPREADS = {"apart": 1.5, "mixed": 3.0}
TABLES = {
    "apart": ("apart", "cosine", False),
    "mixed": ("mixed", "cosine", False),
    "Euclidean": ("mixed", "euclidean", False),
    "gallery": ("mixed", "cosine", True),
}


def embeddings(samples, dim, classes, spread):
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(samples) % classes)
    means = generator.normal(size=(classes, dim)).astype("float32")
    noise = generator.standard_normal((samples, dim), "float32")
    return means[labels] + spread * noise, labels


def queries_and_gallery(samples, dim, classes, spread, has_gallery):
    vectors, labels = embeddings(samples, dim, classes, spread)
    count = samples // 10 if has_gallery else samples
    first, rest = slice(count), slice(count if has_gallery else 0, samples)
    return vectors[first], labels[first], vectors[rest], labels[rest]


def faiss_lists(names, distance, has_gallery, **size):
    """FAISS's search, and the metrics from the lists that it returns."""
    import faiss

    queries, labels, gallery, gallery_labels = queries_and_gallery(
        has_gallery=has_gallery, **size
    )
    matches = np.bincount(gallery_labels, minlength=size["classes"])[labels]
    matches -= not has_gallery
    depth = max(matches) if "map@r" in names else 1

    def step():
        started = time.perf_counter()
        left, right = queries, gallery
        index = faiss.IndexFlatL2(size["dim"])
        if distance == "cosine":
            index = faiss.IndexFlatIP(size["dim"])
            left = queries / np.linalg.norm(queries, axis=1, keepdims=True)
            right = left
            if has_gallery:
                right = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
        index.add(right)
        before = time.perf_counter()
        _, nearest = index.search(left, int(depth) + (not has_gallery))
        search = time.perf_counter() - before
        if not has_gallery:
            nearest = without_the_query(nearest)
        hits = gallery_labels[nearest] == labels[:, None]
        values = {"recall@1": float(hits[:, 0].mean())}
        if "map@r" in names:
            values["map@r"] = mean_average_precision(hits, matches)
        values["search"] = search / (time.perf_counter() - started)
        step.note = values

    return step


def without_the_query(nearest):
    others = nearest != np.arange(len(nearest))[:, None]
    # Of equal embeddings the query may not be among the nearest.
    others[others.all(axis=1), -1] = False
    return nearest[others].reshape(len(nearest), -1)


def mean_average_precision(hits, matches):
    rank = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(hits, axis=1) / rank
    counts = hits & (rank <= matches[:, None])
    return float(np.mean(np.sum(precision * counts, axis=1) / matches))


def ours(function, distance, has_gallery, package=None, **size):
    if package is not None:
        sys.path.insert(0, package)
    from keras_finegrain import metrics

    vectors, labels, gallery, gallery_labels = queries_and_gallery(
        has_gallery=has_gallery, **size
    )
    arguments = {"distance": distance}
    if has_gallery:
        arguments["gallery_embeddings"] = gallery
        arguments["gallery_labels"] = gallery_labels

    def step():
        if function == "recall_at_k":
            found = {
                "recall@1": metrics.recall_at_k(vectors, labels, **arguments)
            }
        elif function == "map_at_r":
            found = {"map@r": metrics.map_at_r(vectors, labels, **arguments)}
        else:
            estimates = metrics.embedding_metrics(
                vectors, labels, ("recall@1", "map@r"), **arguments
            )
            found = {name: each.value for name, each in estimates.items()}
        step.note = found

    return step


def cases(size, distance, has_gallery, other):
    options = {**size, "distance": distance, "has_gallery": has_gallery}
    both = ["recall@1", "map@r"]
    return [
        turns.Case(
            "FAISS, both", faiss_lists, {**options, "names": both}, "jax"
        ),
        turns.Case(
            "FAISS, Recall@1",
            faiss_lists,
            {**options, "names": both[:1]},
            "jax",
        ),
        *(
            turns.Case(
                f"other, {name}",
                ours,
                {**options, "function": name, "package": other},
                "jax",
            )
            for name in ("recall_at_k", "map_at_r")
            if other is not None
        ),
        *(
            turns.Case(
                f"ours, {name}", ours, {**options, "function": name}, "jax"
            )
            for name in ("recall_at_k", "map_at_r", "embedding_metrics")
        ),
    ]


def main():
    parser = turns.parser(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--other", metavar="FOLDER")
    parser.add_argument(
        "--tables", nargs="+", default=list(TABLES), choices=list(TABLES)
    )
    options = parser.parse_args()
    if importlib.util.find_spec("faiss") is None:
        raise SystemExit("FAISS is needed: pip install faiss-cpu")
    if options.tiny:
        options.samples, options.dim, options.classes = 300, 16, 20
    for name in options.tables:
        spread, distance, has_gallery = TABLES[name]
        size = {
            "samples": options.samples,
            "dim": options.dim,
            "classes": options.classes,
            "spread": SPREADS[spread],
        }
        table = cases(size, distance, has_gallery, options.other)
        timings = turns.in_turns(table, options.rounds, options.tiny)
        notes = [timing.note or {} for timing in timings]
        turns.print_table(
            f"{name}: {options.samples:,} x {options.dim} in "
            f"{options.classes:,} classes",
            table,
            timings,
            notes=["", *map(described, notes)],
        )
        theirs, mine = notes[0], notes[-1]
        for metric in sorted(theirs.keys() & mine.keys()):
            difference = abs(theirs[metric] - mine[metric])
            print(f"\n{metric} differs by {difference:.1e}.", flush=True)


def described(note):
    return ", ".join(f"{name} {value:.4f}" for name, value in note.items())


if __name__ == "__main__":
    main()

"""The memory and time of the figures on a large set of embeddings.

    python benchmarks/embedding_figures.py 60000 512

prints, for each figure on its own, the seconds and by how much the process
grew beyond the embeddings at its highest.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

FIGURES = (
    "recall@1",
    "map@r",
    "knn_accuracy@5",
    "silhouette",
    "intra_inter_distance_ratio",
)


def peak() -> float:
    """The most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(samples: int, dim: int, classes: int, figures: list[str]) -> dict:
    import numpy as np

    from keras_finegrain.metrics import embedding_figures

    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, samples)
    means = generator.normal(size=(classes, dim)).astype("float32")
    embeddings = generator.normal(size=(samples, dim)).astype("float32")
    embeddings += means[labels] / 4
    # What is imported for them counts once, not here.
    embedding_figures(embeddings[:500], labels[:500] % 9, figures)
    before, started = peak(), time.perf_counter()
    found = embedding_figures(embeddings, labels, figures)
    return {
        "seconds": time.perf_counter() - started,
        "mb": peak() - before,
        "values": [found[name].value for name in figures],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=int)
    parser.add_argument("dim", type=int)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--figures", nargs="+", default=list(FIGURES))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.samples, options.dim, options.classes
    if options.one:
        print(json.dumps(measure(*size, options.figures)))
        return
    print("| figures | value | seconds | MB |\n|---|---:|---:|---:|")
    together = [name for name in options.figures if name[-1].isdigit()]
    together += ["map@r"] if "map@r" in options.figures else []
    runs = [[name] for name in options.figures]
    for figures in runs + [together] * (len(together) > 1):
        # A process each: the highest memory of one never falls.
        result = subprocess.run(
            [
                *(sys.executable, __file__, *map(str, size[:2])),
                *("--classes", str(options.classes), "--one"),
                *("--figures", *figures),
            ],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            check=True,
        )
        row = json.loads(result.stdout.splitlines()[-1])
        values = ", ".join(f"{value:.4f}" for value in row["values"])
        print(
            f"| {', '.join(figures)} | {values} | {row['seconds']:.0f} "
            f"| {row['mb']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

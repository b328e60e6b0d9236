"""learning_curves.png and embedding.png."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from birds_lib.results import Results
from birds_lib.training import Run
from keras_finegrain.visualization import (
    class_legend,
    embedding_scatter,
    learning_curves,
)

matplotlib.use("Agg")


def draw_learning_curves(results: Results, path: pathlib.Path) -> None:
    """Accuracy over the epochs, training beside test."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, 2, figsize=(10, 4), sharey=True, layout="constrained"
    )
    panels = (("accuracy", "training"), ("val_accuracy", "test"))
    for axis, (metric, title) in zip(axes, panels, strict=True):
        learning_curves(results.histories, metric, ax=axis)
        axis.set_title(title)
        axis.set_ylabel("top-1 accuracy")
    axes[1].set_ylabel("")
    axes[1].get_legend().remove()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_embeddings(
    runs: Mapping[str, Run],
    class_names: Sequence[str],
    path: pathlib.Path,
    seed: int,
) -> None:
    """The test set in two dimensions by t-SNE, a panel a method."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1,
        len(runs),
        figsize=(4.2 * len(runs), 4.5),
        layout="constrained",
        squeeze=False,
    )
    names = [name.replace("_", " ") for name in class_names]
    for axis, (method, run) in zip(axes[0], runs.items(), strict=True):
        # Of unit length, as Recall@1 and the distance ratio compare them.
        lengths = np.linalg.norm(run.embeddings, axis=1, keepdims=True)
        embedding_scatter(
            run.embeddings / np.maximum(lengths, 1e-12),
            run.labels,
            names,
            method="tsne",
            ax=axis,
            seed=seed,
        )
        axis.set_title(
            f"{method}: Recall@1 {100 * run.figures['recall_at_1']:.1f} %, "
            f"intra/inter {run.figures['intra_inter_distance_ratio']:.2f}",
            fontsize=10,
        )
    class_legend(figure, axes[0, -1])
    figure.savefig(path, dpi=150, bbox_inches="tight")
    pyplot.close(figure)

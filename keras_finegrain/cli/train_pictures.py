"""learning_curves.png and embedding.png."""

import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np

from keras_finegrain.cli.train_results import Results
from keras_finegrain.visualization import (
    class_legend,
    embedding_scatter,
    learning_curves,
    save_figure,
)

matplotlib.use("Agg")
_PANELS_IN_A_ROW = 3
# Metric, what it is called, and how it is written.
_IN_TITLE = (
    ("recall_at_1", "Recall@1", ".1%"),
    ("intra_inter_distance_ratio", "intra/inter", ".2f"),
)


def draw_learning_curves(results: Results, path: pathlib.Path) -> None:
    """Accuracy over the epochs, training beside test.

    Methods on pairs have no accuracy while they train: if there are no others,
    their loss.
    """
    from matplotlib import pyplot

    panels = [("accuracy", "training"), ("val_accuracy", "test")]
    label = "top-1 accuracy"
    if not any("accuracy" in runs[0] for runs in results.histories.values()):
        panels, label = [("loss", "training")], "loss"
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(5 * len(panels), 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for axis, (metric, title) in zip(axes[0], panels, strict=True):
        learning_curves(results.histories, metric, ax=axis)
        axis.set_title(title)
        axis.set_ylabel("")
    axes[0, 0].set_ylabel(label)
    save_figure(figure, path)
    pyplot.close(figure)


def draw_embeddings(
    results: Results,
    class_names: Sequence[str],
    path: pathlib.Path,
    seed: int,
) -> None:
    """The test set in two dimensions by t-SNE, a panel a method."""
    from matplotlib import pyplot

    runs = results.first_embeddings()
    rows = -(-len(runs) // _PANELS_IN_A_ROW)
    # Four are two rows of two.
    columns = -(-len(runs) // rows)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(4.2 * columns, 4.5 * rows),
        layout="constrained",
        squeeze=False,
    )
    names = [name.replace("_", " ") for name in class_names]
    for axis in axes.flat[len(runs) :]:
        axis.set_axis_off()
    for axis, (method, run) in zip(axes.flat, runs.items(), strict=False):
        embeddings, labels = run
        # Of unit length, as in Recall@1 and the distance ratio.
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        embedding_scatter(
            embeddings / np.maximum(lengths, 1e-12),
            labels,
            names,
            method="tsne",
            ax=axis,
            seed=seed,
        )
        metrics = results.metrics[method][seed]
        said = [
            f"{heading} {metrics[name]:{form}}"
            for name, heading, form in _IN_TITLE
            if name in metrics
        ]
        axis.set_title(f"{method}: {', '.join(said)}", fontsize=10)
    class_legend(figure, axes[0, 0])
    save_figure(figure, path)
    pyplot.close(figure)

"""features.png, and an animation of each variant."""

import pathlib
from collections.abc import Mapping

import matplotlib

from keras_finegrain.visualization.embedding_animation import (
    embedding_animation,
)
from keras_finegrain.visualization.embedding_comparison import (
    embedding_comparison,
)
from keras_finegrain.visualization.save_figure import save_figure
from mnist_lib.data import ImageSet
from mnist_lib.training import Run, pictured

matplotlib.use("Agg")
# The centers of the others lie on the unit circle, and their features do not.
DRAWN_WITH_CENTERS = ("center",)


def draw_features(
    runs: Mapping[str, Run], data: ImageSet, path: pathlib.Path
) -> None:
    """The test set's features after the last epoch, a panel a variant."""
    from matplotlib import pyplot

    panels = embedding_comparison(
        {variant: run.features[-1] for variant, run in runs.items()},
        data.test_labels[pictured(data)],
        _legend_names(data),
        {
            variant: run.centers[-1]
            for variant, run in runs.items()
            if variant in DRAWN_WITH_CENTERS
        },
    )
    for panel, (variant, run) in zip(panels, runs.items(), strict=True):
        panel.set_title(
            f"{variant}: accuracy {100 * run.metrics['accuracy']:.1f} %",
            fontsize=10,
        )
    save_figure(panels[0], path)
    pyplot.close(panels[0].figure)


def animate_features(
    variant: str, run: Run, data: ImageSet, path: pathlib.Path
) -> None:
    """The same over the epochs, from the untrained network on."""
    embedding_animation(
        run.features,
        data.test_labels[pictured(data)],
        path,
        _legend_names(data),
        run.centers if variant in DRAWN_WITH_CENTERS else None,
        titles=[
            f"{variant}, epoch {epoch}" for epoch in range(len(run.features))
        ],
    )


def _legend_names(data: ImageSet) -> tuple[str, ...] | None:
    """None where the names are the numbers, which the legend has anyway."""
    numbers = tuple(map(str, range(data.num_classes)))
    return None if data.class_names == numbers else data.class_names

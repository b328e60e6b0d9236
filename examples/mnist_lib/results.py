"""The files with the metrics: results.json and results.md."""

import argparse
import json
import pathlib

from keras_finegrain.cli.files import replace_file
from keras_finegrain.training.tables import Column, markdown, mean_cells
from keras_finegrain.training.versions import versions
from mnist_lib.data import ImageSet

_COLUMNS = (
    Column("accuracy", "accuracy %"),
    Column("recall_at_1", "Recall@1 %"),
    Column("intra_inter_distance_ratio", "intra/inter", 1, 3),
    Column("direction_recall_at_1", "Recall@1 %, directions"),
    Column(
        "direction_intra_inter_distance_ratio", "intra/inter, directions", 1, 3
    ),
)


class Results:
    """Collects the metrics and writes them after each run.

    Args:
        folder: Where the files go.
        options: The command line.
        data: The data set.
    """

    def __init__(
        self, folder: pathlib.Path, options: argparse.Namespace, data: ImageSet
    ) -> None:
        self._folder = folder
        self._about = {
            "arguments": vars(options),
            "data": {
                "name": data.name,
                "classes": data.class_names,
                "train_size": len(data.train_images),
                "test_size": len(data.test_images),
            },
            "versions": versions(),
        }
        self._metrics: dict[str, dict[int, dict[str, float]]] = {}

    def add(self, variant: str, seed: int, metrics: dict[str, float]) -> None:
        """Takes the metrics of a finished run and writes the files anew."""
        self._metrics.setdefault(variant, {})[seed] = metrics
        replace_file(
            self._folder / "results.json",
            json.dumps({**self._about, "seeds": self._metrics}, indent=2),
        )
        replace_file(self._folder / "results.md", markdown(self.table()))

    def table(self) -> list[list[str]]:
        """The headings and one row a variant, as text."""
        headings = (column.heading for column in _COLUMNS)
        rows = [["variant", *headings, "seeds"]]
        for variant, seeds in self._metrics.items():
            cells = mean_cells(_COLUMNS, list(seeds.values()))
            rows.append([variant, *cells, str(len(seeds))])
        return rows

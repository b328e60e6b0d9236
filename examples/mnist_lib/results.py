"""What a run leaves in words and numbers: results.json and results.md."""

import argparse
import json
import pathlib

from birds_lib.output import replace_file

from keras_finegrain.training.tables import cell, markdown
from keras_finegrain.training.versions import versions
from mnist_lib.data import ImageSet

# Figure, heading, factor and decimals of the table's columns.
COLUMNS = (
    ("accuracy", "accuracy %", 100, 1),
    ("recall_at_1", "Recall@1 %", 100, 1),
    ("intra_inter_distance_ratio", "intra/inter", 1, 3),
    ("direction_recall_at_1", "Recall@1 %, directions", 100, 1),
    ("direction_intra_inter_distance_ratio", "intra/inter, directions", 1, 3),
)


class Results:
    """Collects the figures and writes them after each run.

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
        self._figures: dict[str, dict[int, dict[str, float]]] = {}

    def add(self, variant: str, seed: int, figures: dict[str, float]) -> None:
        """Takes the figures of a finished run and writes the files anew."""
        self._figures.setdefault(variant, {})[seed] = figures
        replace_file(
            self._folder / "results.json",
            json.dumps({**self._about, "seeds": self._figures}, indent=2),
        )
        replace_file(self._folder / "results.md", markdown(self.table()))

    def table(self) -> list[list[str]]:
        """The headings and one row a variant, as text."""
        rows = [["variant", *(heading for _, heading, *_ in COLUMNS), "seeds"]]
        for variant, seeds in self._figures.items():
            cells = [
                cell([factor * run[figure] for run in seeds.values()], places)
                for figure, _, factor, places in COLUMNS
            ]
            rows.append([variant, *cells, str(len(seeds))])
        return rows

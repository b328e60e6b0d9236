"""What a run leaves: results.json, history.csv and results.md."""

import argparse
import csv
import io
import json
import pathlib
from typing import Any

from birds_lib.errors import RunError
from birds_lib.output import replace_file
from keras_finegrain.datasets import ImageDataset
from keras_finegrain.training import Run, test_figures
from keras_finegrain.training.tables import cell, markdown, mean_and_interval
from keras_finegrain.training.versions import versions

# Figure, heading, factor and decimals of the table's columns.
COLUMNS = (
    ("top_1", "top-1 %", 100, 1),
    ("top_5", "top-5 %", 100, 1),
    ("recall_at_1", "Recall@1 %", 100, 1),
    ("intra_inter_distance_ratio", "intra/inter", 1, 3),
)
# What a resumed run need not have in common with the one that it goes on from.
_MAY_CHANGE = (
    *("seeds", "output", "overwrite", "resume", "report", "data_dir"),
)


class Results:
    """Collects runs and writes them after each one.

    Args:
        folder: Where the files go.
        options: The command line.
        data: The data set.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        options: argparse.Namespace,
        data: ImageDataset,
    ) -> None:
        self._folder = folder
        self._about = {
            "arguments": {
                name: dict(value) if name == "backbone_args" else value
                for name, value in vars(options).items()
            },
            "data": {
                "name": data.name,
                "classes": list(data.class_names),
                "train_size": data.train_size,
                "test_size": data.test_size,
            },
            "versions": versions(),
        }
        self._figures: dict[str, dict[int, dict[str, float]]] = {}
        self.histories: dict[str, list[dict[str, list[float]]]] = {}
        self._rows: list[dict[str, Any]] = []

    def restore(self) -> list[int]:
        """Takes over the seeds that an earlier run has finished.

        Returns:
            Those seeds. One of which a method is missing starts anew.

        Raises:
            RunError: If there is no such run, or its arguments were others.
        """
        options = self._about["arguments"]
        try:
            text = (self._folder / "results.json").read_text(encoding="utf-8")
            earlier = json.loads(text)
            with open(self._folder / "history.csv", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, ValueError) as error:
            raise RunError(
                f"--resume: no results to go on from in {self._folder} "
                f"({error})"
            ) from error
        # As JSON gives them back: tuples as lists.
        now = json.loads(json.dumps(options))
        other = [
            name
            for name, value in now.items()
            if name not in _MAY_CHANGE
            and earlier["arguments"].get(name) != value
        ]
        if other:
            raise RunError(
                f"--resume: {self._folder} was started with another "
                f"{', '.join('--' + name.replace('_', '-') for name in other)}"
            )
        done = [set(earlier["seeds"].get(m, {})) for m in options["method"]]
        seeds = sorted(int(seed) for seed in set.intersection(*done))
        for seed in seeds:
            for method in options["method"]:
                logs = [
                    row
                    for row in rows
                    if row["method"] == method and int(row["seed"]) == seed
                ]
                history = {
                    name: [float(row[name]) for row in logs]
                    for name in logs[0]
                    if name not in ("method", "seed", "epoch") and logs[0][name]
                }
                self._take(
                    method, seed, earlier["seeds"][method][str(seed)], history
                )
        return seeds

    def add(self, method: str, seed: int, run: Run) -> None:
        """Takes a finished run and writes everything anew."""
        figures = test_figures(run.embeddings, run.scores, run.labels)
        self._take(method, seed, figures | run.measured, run.history)
        self._write()

    def _take(
        self,
        method: str,
        seed: int,
        figures: dict[str, float],
        history: dict[str, list[float]],
    ) -> None:
        self._figures.setdefault(method, {})[seed] = figures
        self.histories.setdefault(method, []).append(history)
        for epoch in range(len(history["loss"])):
            logs = {name: values[epoch] for name, values in history.items()}
            self._rows.append(
                {"method": method, "seed": seed, "epoch": epoch + 1, **logs}
            )

    def table(self) -> list[list[str]]:
        """The headings and one row a method, as text."""
        rows = [["method", *(heading for _, heading, _, _ in COLUMNS), "seeds"]]
        for method, seeds in self._figures.items():
            cells = [
                cell([factor * run[figure] for run in seeds.values()], places)
                for figure, _, factor, places in COLUMNS
            ]
            rows.append([method, *cells, str(len(seeds))])
        return rows

    def gains(self) -> list[list[str]]:
        """What each method bought against the first one, seed by seed.

        Returns:
            As `table()`, of the differences; empty with one method, or with
            one seed, which ranks nothing.
        """
        (first, baseline), *others = self._figures.items()
        shared = [set(baseline) & set(seeds) for _, seeds in others]
        if not others or min(map(len, shared)) < 2:
            return []
        headings = (heading for _, heading, _, _ in COLUMNS)
        rows = [[f"against {first}", *headings, "seeds"]]
        for (method, seeds), both in zip(others, shared, strict=True):
            cells = [
                cell(
                    [
                        factor * (seeds[seed][figure] - baseline[seed][figure])
                        for seed in both
                    ],
                    places,
                    sign="+",
                )
                for figure, _, factor, places in COLUMNS
            ]
            rows.append([method, *cells, str(len(both))])
        return rows

    def _write(self) -> None:
        summary = {
            method: {
                name: dict(
                    zip(
                        ("mean", "interval_95"),
                        mean_and_interval(
                            [figures[name] for figures in seeds.values()]
                        ),
                        strict=True,
                    )
                )
                for name in next(iter(seeds.values()))
            }
            for method, seeds in self._figures.items()
        }
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        history = io.StringIO(newline="")
        writer = csv.DictWriter(history, names)
        writer.writeheader()
        writer.writerows(self._rows)
        # First: `restore` looks here for the seeds that the next file names.
        replace_file(self._folder / "history.csv", history.getvalue())
        replace_file(
            self._folder / "results.json",
            json.dumps(
                {**self._about, "summary": summary, "seeds": self._figures},
                indent=2,
            ),
        )
        tables = [table for table in (self.table(), self.gains()) if table]
        replace_file(
            self._folder / "results.md", "\n".join(map(markdown, tables))
        )

"""The files of a comparison: results.json, history.csv and results.md."""

import argparse
import csv
import io
import json
import pathlib
from typing import Any

from birds_lib.errors import RunError
from birds_lib.output import replace_file
from keras_finegrain.datasets import ImageDataset
from keras_finegrain.training import Run, test_metrics
from keras_finegrain.training.tables import (
    difference_cells,
    markdown,
    mean_and_interval,
    mean_cells,
    shared_columns,
)
from keras_finegrain.training.versions import versions

# Options that a resumed run may give another value.
_MAY_CHANGE = (
    *("seeds", "output", "overwrite", "resume", "report", "data_dir"),
)
History = dict[str, list[float]]


class Results:
    """Collects runs and writes them after each one.

    Args:
        folder: Where the files go.
        options: The command line.
        data: The data set.

    Attributes:
        metrics: Of each method and seed, by name.
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
                **vars(options),
                "backbone_args": dict(options.backbone_args),
            },
            "data": {
                "name": data.name,
                "classes": list(data.class_names),
                "train_size": data.train_size,
                "test_size": data.test_size,
            },
            "versions": versions(),
        }
        self.metrics: dict[str, dict[int, dict[str, float]]] = {}
        self._histories: dict[tuple[str, int], History] = {}

    @property
    def histories(self) -> dict[str, list[History]]:
        """The history of each seed, by method."""
        return {
            method: [self._histories[method, seed] for seed in seeds]
            for method, seeds in self.metrics.items()
        }

    def restore(self) -> list[int]:
        """Takes over the seeds that an earlier run has finished.

        Returns:
            Those seeds. A seed without one of the methods starts anew.

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
            "--" + name.replace("_", "-")
            for name, value in now.items()
            if name not in _MAY_CHANGE
            and earlier["arguments"].get(name) != value
        ]
        if other:
            raise RunError(
                f"--resume: {self._folder} was started with another "
                f"{', '.join(other)}"
            )
        done = [set(earlier["seeds"].get(m, {})) for m in options["method"]]
        seeds = sorted(int(seed) for seed in set.intersection(*done))
        for seed in seeds:
            for method in options["method"]:
                logs = [
                    row
                    for row in rows
                    if (row["method"], row["seed"]) == (method, str(seed))
                ]
                history = {
                    name: [float(row[name]) for row in logs]
                    for name in logs[0]
                    if name not in ("method", "seed", "epoch") and logs[0][name]
                }
                metrics = earlier["seeds"][method][str(seed)]
                self._take(method, seed, metrics, history)
        return seeds

    def add(self, method: str, seed: int, run: Run) -> None:
        """Takes a finished run and writes all files anew."""
        metrics = test_metrics(run.embeddings, run.scores, run.labels)
        self._take(method, seed, metrics | run.measured, run.history)
        self._write()

    def _take(
        self,
        method: str,
        seed: int,
        metrics: dict[str, float],
        history: History,
    ) -> None:
        self.metrics.setdefault(method, {})[seed] = metrics
        self._histories[method, seed] = history

    def table(self) -> list[list[str]]:
        """The headings and one row a method, as text."""
        columns = self._columns()
        rows = [["method", *(column.heading for column in columns), "seeds"]]
        for method, seeds in self.metrics.items():
            cells = mean_cells(columns, list(seeds.values()))
            rows.append([method, *cells, str(len(seeds))])
        return rows

    def gains(self) -> list[list[str]]:
        """The differences of each method to the first one, seed by seed.

        Returns:
            As `table()`; empty with one method or with one seed, which ranks
            nothing.
        """
        (first, baseline), *others = self.metrics.items()
        shared = [set(baseline) & set(seeds) for _, seeds in others]
        if not others or min(map(len, shared)) < 2:
            return []
        columns = self._columns()
        headings = (column.heading for column in columns)
        rows = [[f"against {first}", *headings, "seeds"]]
        for (method, seeds), both in zip(others, shared, strict=True):
            pairs = [(seeds[seed], baseline[seed]) for seed in both]
            cells = difference_cells(columns, pairs)
            rows.append([method, *cells, str(len(both))])
        return rows

    def _columns(self) -> list[Any]:
        return shared_columns(
            run for seeds in self.metrics.values() for run in seeds.values()
        )

    def _write(self) -> None:
        rows = [
            {
                "method": method,
                "seed": seed,
                "epoch": epoch + 1,
                **{name: values[epoch] for name, values in history.items()},
            }
            for (method, seed), history in self._histories.items()
            for epoch in range(len(history["loss"]))
        ]
        text = io.StringIO(newline="")
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(names))
        writer.writeheader()
        writer.writerows(rows)
        # First: `restore` looks here for the seeds that the next file names.
        replace_file(self._folder / "history.csv", text.getvalue())
        results = {
            **self._about,
            "summary": {
                method: _summary(list(seeds.values()))
                for method, seeds in self.metrics.items()
            },
            "seeds": self.metrics,
        }
        replace_file(
            self._folder / "results.json", json.dumps(results, indent=2)
        )
        tables = [table for table in (self.table(), self.gains()) if table]
        replace_file(
            self._folder / "results.md", "\n".join(map(markdown, tables))
        )


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and interval of each metric over the seeds."""
    summary = {}
    for name in runs[0]:
        mean, interval = mean_and_interval([run[name] for run in runs])
        summary[name] = {"mean": mean, "interval_95": interval}
    return summary

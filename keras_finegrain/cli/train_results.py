"""The files of a comparison.

`results.json` names a run when all else of it is written: its rows in
`history.csv` and, of the first seed, the folder `<method>` with its bundle and
`tested.npz`. The other files are made from these.
"""

import argparse
import csv
import hashlib
import io
import json
import pathlib
import shutil
from typing import Any

import numpy as np

from keras_finegrain.bundle import TESTED, Bundle, named_right
from keras_finegrain.cli.files import replace_file
from keras_finegrain.cli.output import CommandError
from keras_finegrain.cli.train_bundles import write_tested
from keras_finegrain.datasets import ImageDataset
from keras_finegrain.gallery import Gallery
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
    *("no_cache",),
)
# How a run was started, which says nothing about it.
_NOT_KEPT = ("overwrite", "resume", "command", "json", "quiet", "no_cache")
# Of a bundle, written last.
_DESCRIPTION = "bundle.json"
History = dict[str, list[float]]


class Results:
    """Collects runs and writes them after each one.

    Args:
        folder: Where the files go.
        options: The command line.
        data: The data set.

    Attributes:
        metrics: Of each method and seed, by name.
        about: Arguments, data and versions.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        options: argparse.Namespace,
        data: ImageDataset,
    ) -> None:
        self._folder = folder
        self._methods = options.method
        self._first_seed = options.first_seed
        self._test_keys = data.test_keys
        arguments = {
            **vars(options),
            "backbone_args": dict(options.backbone_args),
        }
        for name in _NOT_KEPT:
            del arguments[name]
        self.about = {
            "arguments": arguments,
            "data": {
                "name": data.name,
                "classes": list(data.class_names),
                "train_size": data.train_size,
                "test_size": data.test_size,
                "keys": _digest(data.train_keys, data.test_keys),
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

    def clear(self) -> None:
        """Removes the files of an earlier run."""
        # First, so that it never names what is gone.
        names = ["results.json", "results.md", "history.csv"]
        names += ["learning_curves.png", "embedding.png"]
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        # Those of methods that are not trained again would be taken for
        # methods of this run.
        for description in self._folder.glob(f"*/{_DESCRIPTION}"):
            shutil.rmtree(description.parent)

    def restore(self) -> None:
        """Takes over the runs that an earlier process has finished.

        A run starts anew if a file of it is missing, and all do if nothing was
        finished.

        Raises:
            CommandError: If the results cannot be read, or the arguments or the
                data were others.
        """
        path = self._folder / "results.json"
        if not path.exists():
            return
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            arguments, data = earlier["arguments"], earlier["data"]
            seeds = {m: earlier["seeds"].get(m, {}) for m in self._methods}
            histories = self._read_histories()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(
                f"--resume: the results in {self._folder} cannot be read "
                f"({type(error).__name__}: {error}); --overwrite without "
                "--resume starts anew"
            ) from error
        self._check_the_same(arguments, data)
        numbers = {int(seed) for own in seeds.values() for seed in own}
        for seed in sorted(numbers):
            for method in self._methods:
                metrics = seeds[method].get(str(seed))
                history = histories.get((method, seed))
                if metrics and history and self._has_files(method, seed):
                    self._take(method, seed, metrics, history)
        if self.metrics:
            # The process may have ended between two files.
            self._write()

    def _read_histories(self) -> dict[tuple[str, int], History]:
        """What is in history.csv, by method and seed."""
        path = self._folder / "history.csv"
        if not path.exists():
            return {}
        histories: dict[tuple[str, int], History] = {}
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = row.pop("method"), int(row.pop("seed"))
                del row["epoch"]
                history = histories.setdefault(key, {})
                for name, value in row.items():
                    if value:
                        history.setdefault(name, []).append(float(value))
        return histories

    def _check_the_same(self, arguments: Any, data: Any) -> None:
        """Raises if arguments or data of the earlier run were others."""
        # As JSON gives them back: tuples as lists.
        now = json.loads(json.dumps(self.about))
        other = [
            "--" + name.replace("_", "-")
            for name, value in now["arguments"].items()
            if name not in _MAY_CHANGE and arguments.get(name) != value
        ]
        if other:
            raise CommandError(
                f"--resume: {self._folder} was started with another "
                f"{', '.join(other)}"
            )
        if "keys" not in data:
            raise CommandError(
                f"--resume: {self._folder} is of an earlier version, which did "
                "not keep which images it trained on; take another --output, "
                "or --overwrite without --resume"
            )
        if data != now["data"]:
            raise CommandError(
                f"--resume: {self._folder} was started on other images of "
                f"{data.get('name')}; take another --output, or --overwrite "
                "without --resume"
            )

    def _has_files(self, method: str, seed: int) -> bool:
        if seed != self._first_seed:
            return True
        own = self._folder / method
        return all((own / name).exists() for name in (_DESCRIPTION, TESTED))

    def is_finished(self, method: str, seed: int) -> bool:
        """Whether this run is among the results."""
        return seed in self.metrics.get(method, {})

    def add(
        self,
        method: str,
        seed: int,
        run: Run,
        gallery: Gallery,
        bundle: Bundle | None,
    ) -> None:
        """Takes a finished run, writes its files, and all others anew.

        Args:
            method: The method.
            seed: The seed.
            run: The run.
            gallery: Its known photos.
            bundle: Of the first seed, the bundle to keep.
        """
        if bundle is not None:
            own = self._folder / method
            bundle.save(own)
            write_tested(own / TESTED, run, self._test_keys)
        metrics = test_metrics(run.embeddings, run.scores, run.labels)
        right = named_right(
            gallery, run.embeddings, run.labels, self.about["data"]["classes"]
        )
        metrics["identify"] = float(right.mean())
        self._take(method, seed, metrics | run.measured, run.history)
        self._write()

    def first_embeddings(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Embeddings and labels of the first seed's test set, by method."""
        found = {}
        for method in self._methods:
            with np.load(self._folder / method / TESTED) as file:
                found[method] = file["embeddings"], file["labels"]
        return found

    def _take(
        self,
        method: str,
        seed: int,
        metrics: dict[str, float],
        history: History,
    ) -> None:
        self.metrics.setdefault(method, {})[seed] = metrics
        self._histories[method, seed] = history
        # In the order of a run without a break: one may be made again.
        order = self._methods.index
        self.metrics = {
            name: dict(sorted(self.metrics[name].items()))
            for name in sorted(self.metrics, key=order)
        }
        self._histories = {
            (name, number): self._histories[name, number]
            for name, number in sorted(
                self._histories, key=lambda run: (run[1], order(run[0]))
            )
        }

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

    def document(self) -> dict[str, Any]:
        """What results.json holds."""
        return {
            **self.about,
            "summary": {
                method: _summary(list(seeds.values()))
                for method, seeds in self.metrics.items()
            },
            "seeds": self.metrics,
        }

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
        replace_file(
            self._folder / "results.json",
            json.dumps(self.document(), indent=2),
        )
        tables = [table for table in (self.table(), self.gains()) if table]
        replace_file(
            self._folder / "results.md", "\n".join(map(markdown, tables))
        )


def _digest(*keys: tuple[str, ...]) -> str:
    """Another text where other images are trained or tested on."""
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and interval of each metric over the seeds."""
    summary = {}
    for name in runs[0]:
        mean, interval = mean_and_interval([run[name] for run in runs])
        summary[name] = {"mean": mean, "interval_95": interval}
    return summary

"""Compares the methods on real photos: every run once, one table of all.

    python benchmarks/evidence.py --prepare caltech_birds2011 --classes sparrow
    python benchmarks/evidence.py --weights FOLDER --only "tail/*" --seeds 5

The first command packs photos into one file, the second trains the arms of
`evidence/arms.toml` on them and prints the tables. A finished run is a line of
`--results` and is never run again. A stopped command loses only the runs in
progress, and the same command goes on. Only `--prepare` needs TensorFlow.

A small network leaves most of a GPU idle: `--processes 12` trains twelve arms
at once, each in a process of its own.
"""

import argparse
import dataclasses
import fnmatch
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evidence_ledger import Ledger, LedgerError
from protocols import PROTOCOLS, metrics, predictions, split

HERE = Path(__file__).parent
ARMS = HERE / "evidence" / "arms.toml"


class EvidenceError(Exception):
    """An error that a user can put right."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    # Before the first import of TensorFlow, whose notes would hide our lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given = parser().parse_args(argv)
    # All seeds share what JAX compiles.
    compiled = str(given.cache / "compiled")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)
    from keras_finegrain.datasets import DatasetError
    from keras_finegrain.training import TrainingError

    errors = (DatasetError, EvidenceError, LedgerError, TrainingError)
    try:
        if given.prepare is not None:
            prepare(given)
        elif given.table:
            print_tables(given)
        elif given.processes > 1:
            run_side_by_side(given, sys.argv[1:] if argv is None else argv)
        else:
            run_all(given)
    except errors as error:
        print(f"evidence.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def prepare(given: argparse.Namespace) -> None:
    """Packs the photos of a data set into one file."""
    from keras_finegrain.datasets import Photos

    photos = Photos.prepare(
        given.prepare,
        short_side=given.short_side,
        data_dir=given.data_dir,
        classes=given.classes,
    )
    photos.save(given.data)
    tested = int(photos.is_test.sum())
    print(
        f"{given.data}: {photos.num_classes} classes, "
        f"{len(photos.labels) - tested} photos to train on, {tested} to test "
        f"on, {given.data.stat().st_size / 1e6:.1f} MB"
    )


def run_all(given: argparse.Namespace) -> None:
    """Makes the runs that are not finished yet, then prints their tables.

    Raises:
        EvidenceError: At the end, if a run could not be trained.
    """
    from keras_finegrain.training import TrainingError

    arms = chosen_arms(given)
    finished = ledger(given)
    ends = time.perf_counter() + 60 * given.minutes
    # The longest run of each group bounds the time of the next one.
    longest: dict[str, float] = {}
    failed: list[str] = []
    evidence = Evidence(given)
    for name, seed in in_order(arms, given.seeds):
        settings = dataclasses.asdict(arms[name])
        place = name, given.protocol, seed
        if finished.find(*place, settings, evidence.digest) is not None:
            continue
        left = ends - time.perf_counter()
        group = name.split("/")[0]
        if left < longest.get(group, 0):
            print(f"--minutes {given.minutes:g}: stopped before {name}")
            break
        started = time.perf_counter()
        try:
            line = evidence.run(name, arms[name], seed)
        except TrainingError as error:
            # One that diverges must not stop a night of others.
            failed.append(f"{name}, seed {seed}: {error}")
            print(failed[-1], flush=True)
            continue
        finished.append(line)
        seconds = time.perf_counter() - started
        longest[group] = max(longest.get(group, 0), seconds)
        print(
            f"{name}  {given.protocol}  seed {seed}  "
            + "  ".join(f"{k} {v:.4g}" for k, v in line["figures"].items())
            + f"  ({seconds:.0f} s)",
            flush=True,
        )
    if not given.no_table:
        print_tables(given)
    if failed:
        raise EvidenceError(f"not trained: {'; '.join(failed)}")


def run_side_by_side(given: argparse.Namespace, words: Sequence[str]) -> None:
    """Makes the runs of each arm in a process, several of them at a time.

    Raises:
        EvidenceError: At the end, if a process failed. It said why.
    """
    ends = time.perf_counter() + 60 * given.minutes
    # The first process would take all of a GPU's memory.
    kept_free = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

    def run(name: str) -> bool:
        minutes = (ends - time.perf_counter()) / 60
        own = ["--processes=1", f"--only={name}", f"--minutes={minutes}"]
        command = [sys.executable, __file__, *words, "--no-table", *own]
        environment = {**kept_free, **os.environ}
        return not subprocess.run(command, env=environment).returncode

    names = list(chosen_arms(given))
    with ThreadPoolExecutor(given.processes) as pool:
        ended_well = dict(zip(names, pool.map(run, names), strict=True))
    if not given.no_table:
        print_tables(given)
    failed = [name for name in names if not ended_well[name]]
    if failed:
        raise EvidenceError(f"not all runs were made of {', '.join(failed)}")


def chosen_arms(given: argparse.Namespace) -> dict[str, Any]:
    """The settings of the arms that `--only` names.

    Raises:
        EvidenceError: If it names none.
    """
    known = read_arms(given.arms)
    arms = {
        name: settings
        for name, settings in known.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in given.only)
    }
    if not arms:
        raise EvidenceError(
            f"--only {' '.join(given.only)}: names no arm of {given.arms}. "
            f"There are {', '.join(known)}"
        )
    return arms


def print_tables(given: argparse.Namespace) -> None:
    """Prints the tables of all finished runs, in the order of the arms."""
    # It brings Keras, which `--help` need not load.
    from evidence_tables import tables, tables_against

    order = list(read_arms(given.arms))
    lines = sorted(
        ledger(given).lines,
        # Arms that are no longer in the table come last.
        key=lambda line: (
            order.index(line["arm"]) if line["arm"] in order else len(order)
        ),
    )
    if given.against is None:
        print(f"\n{tables(lines, given.only)}")
        return
    printed = tables_against(given.against, lines, given.only)
    if not printed:
        raise EvidenceError(
            f"--against {given.against}: {given.results} has no runs of it "
            f"with those of --only {' '.join(given.only)}. Name an arm that "
            "was run on the same photos and under the same protocol"
        )
    print(f"\n{printed}")


def ledger(given: argparse.Namespace) -> Ledger:
    """The file of finished runs."""
    from keras_finegrain.training import Settings

    return Ledger(given.results, dataclasses.asdict(Settings()))


def read_arms(path: Path) -> dict[str, Any]:
    """The settings of each arm, by its name and in the file's order."""
    from keras_finegrain.training import Settings

    try:
        groups = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise EvidenceError(f"--arms {path}: cannot be read: {error}") from None
    known = {field.name for field in dataclasses.fields(Settings)}
    arms = {}
    for group, shared in groups.items():
        for name, own in shared.pop("arms", {}).items():
            settings = {"method": name, **shared, **own}
            unknown = sorted(set(settings) - known)
            if unknown:
                raise EvidenceError(
                    f"--arms {path}: {group}/{name} has no setting "
                    f"{unknown[0]}. There are {', '.join(sorted(known))}"
                )
            arms[f"{group}/{name}"] = Settings(**settings)
    return arms


def in_order(arms: dict[str, Any], seeds: int) -> Iterator[tuple[str, int]]:
    """Arm and seed of each run: a stopped group has whole seeds."""
    groups = dict.fromkeys(name.split("/")[0] for name in arms)
    for group in groups:
        for seed in range(seeds):
            for name in arms:
                if name.split("/")[0] == group:
                    yield name, seed


class Evidence:
    """Makes runs on the photos of a file.

    Args:
        given: The command line.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        from keras_finegrain.datasets import Photos
        from keras_finegrain.training import FeatureCache, PhotosOnDevice

        if not given.data.exists():
            raise EvidenceError(
                f"--data {given.data}: there is no such file. Make it with "
                "--prepare, such as --prepare caltech_birds2011 --classes "
                "sparrow"
            )
        self._given = given
        self._photos = Photos.load(given.data)
        self._cache = FeatureCache(given.cache)
        self._on_device = {
            crop: PhotosOnDevice(self._photos, crop_to_boxes=crop)
            for crop in (False, True)
        }

    @property
    def digest(self) -> str:
        """Identifies the photos."""
        return self._photos.digest

    def run(self, name: str, arm: Any, seed: int) -> dict[str, Any]:
        """Trains and tests one arm; returns its line."""
        import numpy as np

        from keras_finegrain.training import PhotoSplit, train
        from keras_finegrain.training.versions import device_name, versions

        photos, protocol = self._photos, self._given.protocol
        started = time.perf_counter()
        try:
            parts = split(protocol, photos.labels, photos.is_test, seed)
        except ValueError as error:
            raise EvidenceError(f"--protocol {protocol}: {error}") from error
        # The model has only the classes that it is trained on.
        label_of = np.full(photos.num_classes, -1, np.int32)
        label_of[parts.classes] = np.arange(len(parts.classes))
        source = PhotoSplit(
            self._on_device[parts.crop_to_boxes],
            label_of[photos.labels],
            parts.train,
            parts.tested,
            len(parts.classes),
        )
        run = train(self._located(arm), seed, source, cache=self._cache)
        outputs = parts, photos.labels, run.embeddings, run.scores
        found = metrics(protocol, *outputs)
        if "distinct_centers" in run.measured:
            found["distinct_centers"] = run.measured["distinct_centers"]
        return {
            "arm": name,
            "protocol": protocol,
            "seed": seed,
            "data": {
                "name": photos.name,
                "digest": photos.digest,
                "train": len(parts.train),
                "test": len(parts.tested),
            },
            "settings": dataclasses.asdict(arm),
            "versions": versions(),
            "device": device_name(),
            "seconds": {
                "fit": round(run.measured["seconds"], 2),
                "whole": round(time.perf_counter() - started, 2),
            },
            "figures": found,
            "photos": parts.tested.tolist(),
            "labels": photos.labels[parts.tested].tolist(),
            "predictions": predictions(protocol, *outputs),
        }

    def _located(self, arm: Any) -> Any:
        """The arm's settings with the path of its backbone."""
        if not arm.backbone.endswith(".keras"):
            return arm
        path = self._given.weights / arm.backbone
        return dataclasses.replace(arm, backbone=str(path))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    own.add_argument("--arms", type=Path, default=ARMS, help="table of arms")
    own.add_argument(
        "--only",
        nargs="+",
        default=["*"],
        metavar="PATTERN",
        help='arms, as "tail/*"',
    )
    own.add_argument("--protocol", choices=PROTOCOLS, default="closed")
    own.add_argument(
        "--seeds", type=_positive, default=5, help="seeds 0 to N - 1"
    )
    own.add_argument(
        "--minutes",
        type=float,
        default=float("inf"),
        help="start no run that would end later if it took as long as the "
        "longest of its group so far",
    )
    own.add_argument(
        "--results",
        type=Path,
        default=HERE / "evidence" / "sparrows.jsonl",
        help="the lines of finished runs",
    )
    own.add_argument(
        "--processes",
        type=_positive,
        default=1,
        help="arms that are trained at a time",
    )
    tables = own.add_mutually_exclusive_group()
    tables.add_argument(
        "--table", action="store_true", help="print the tables alone"
    )
    tables.add_argument(
        "--no-table", action="store_true", help="print the runs alone"
    )
    own.add_argument(
        "--against",
        metavar="ARM",
        help="in the tables, compare with this arm of any group",
    )
    own.add_argument(
        "--data",
        type=Path,
        default=Path("runs/sparrows.npz"),
        help="the file of photos",
    )
    own.add_argument(
        "--weights", type=Path, default=Path(), help="folder of backbones"
    )
    own.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/features"),
        help="where the output of frozen parts is kept",
    )
    packing = own.add_argument_group("packing photos into --data")
    packing.add_argument(
        "--prepare", metavar="NAME|FOLDER", help="as in datasets.load"
    )
    packing.add_argument("--data-dir", help="where TFDS keeps its data")
    packing.add_argument("--classes", metavar="PATTERN")
    packing.add_argument(
        "--short-side", type=_positive, default=256, help="in pixels"
    )
    return own


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())

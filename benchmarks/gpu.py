r"""All measurements on a GPU that the documents need, in a few minutes.

    KERAS_BACKEND=jax python benchmarks/gpu.py --minutes 8 \
        --data sparrows.npz --weights weights --output gpu

prints a page of four parts as it is measured, and keeps it in the folder
`--output`:

1. the device and its speed, and whether layers, losses and regularizers compute
   on it what they compute on the CPU (`matrix_products.py`,
   `device_parity.py`);
2. the time and the memory of training steps, with the layers and without
   (`gpu_steps.py`);
3. the runs on real photos (`evidence.py`). Their lines are in `evidence.jsonl`
   beside the page; finished runs are not run again;
4. a whole epoch from encoded photos to the update, beside PyTorch with PyTorch
   Metric Learning (`epoch.py`).

Each part has its share of the time; time that it does not use goes to the next.
It runs in processes of its own, so that the device's memory is free again and
an error in one stops no other. For JAX or PyTorch; TensorFlow is not needed.
"""

import argparse
import datetime
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).resolve().parent
TITLES = {
    1: "The same numbers as on the CPU",
    2: "Time and memory of a step",
    3: "Runs on real photos",
    4: "A whole epoch",
}
SCRIPTS = {
    1: ("matrix_products.py", "device_parity.py"),
    2: ("gpu_steps.py",),
    4: ("epoch.py",),
}
# The parts that train on photos.
ON_PHOTOS = (3, 4)
# Share of each part in the time that is left, relative to the later parts.
# (The first run on photos compiles for two minutes.)
SHARES = {1: 0.15, 2: 0.3, 3: 0.35, 4: 0.2}
# Time for a process to end by itself, before it is killed.
GRACE_SECONDS = 10.0
PACKAGES = ("keras", "jax", "jaxlib", "torch", "numpy")


class Page:
    """Prints lines and keeps them in a file.

    Args:
        file: Open for writing.
        environment: Of the processes.
    """

    def __init__(self, file: TextIO, environment: dict[str, str]) -> None:
        self._file = file
        self._environment = environment

    def print(self, line: str) -> None:
        """Prints a line at once."""
        for stream in (sys.stdout, self._file):
            print(line, file=stream, flush=True)

    def run(self, script: str, *options: str, seconds: float) -> bool:
        """Runs a script of this folder and prints what it prints.

        Args:
            script: Its name.
            *options: Its command line.
            seconds: When it is killed, with the processes that it started.

        Returns:
            Whether it ended well. Reaching the time limit is no failure.
        """
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *options],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        timed_out = threading.Event()

        def end() -> None:
            timed_out.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            for line in process.stdout or ():
                self.print(line.rstrip("\n"))
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        if timed_out.is_set():
            self.print(f"\n({script} was ended after {seconds:.0f} s.)")
        elif status:
            self.print(f"\n**{script} failed, with exit code {status}.**")
        return timed_out.is_set() or status == 0


def environment(tiny: bool) -> dict[str, str]:
    """The environment of the processes."""
    folders = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    cache = Path(tempfile.gettempdir()) / "keras_finegrain_compiled"
    # Code that runs once gains nothing from optimization.
    only_tiny = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} if tiny else {}
    return {
        **only_tiny,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Leaves memory to a process on PyTorch beside one on JAX.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # A second call compiles nothing again.
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "PYTHONUNBUFFERED": "1",
    }


def card() -> str:
    """Name, driver and memory of the first NVIDIA GPU, or nothing."""
    if shutil.which("nvidia-smi") is None:
        return ""
    fields = "name,driver_version,memory.total"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode or not asked.stdout.strip():
        return ""
    name, driver, memory = asked.stdout.splitlines()[0].split(", ")
    return f"{name}, {memory}, driver {driver}"


def versions() -> str:
    """The versions of the packages that the numbers depend on."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def head(given: argparse.Namespace) -> list[str]:
    """The first lines of the page."""
    found = card()
    name = found.split(",")[0] or f"CPU, {os.cpu_count()} cores"
    lines = [f"## {name}", ""]
    if not found:
        lines += ["No GPU was found: everything here ran on the CPU.", ""]
    if given.tiny:
        lines += ["Tiny sizes: these numbers mean nothing.", ""]
    command = "python benchmarks/gpu.py " + " ".join(given.words)
    backend = os.environ["KERAS_BACKEND"]
    return [
        *lines,
        f"{found or name}. {versions()}.",
        f"{datetime.date.today()}, `KERAS_BACKEND={backend} {command}`",
    ]


def measure(
    part: int, given: argparse.Namespace, page: Page, ends: float
) -> bool:
    """Runs one part; whether it ended well.

    Args:
        part: Its number.
        given: The command line.
        page: Where it is printed.
        ends: By when, on the clock `time.monotonic`.
    """
    outcomes = []
    # Each of them, whatever becomes of the first.
    for script, options in commands(part, given):
        left = ends - time.monotonic()
        if left <= 0:
            page.print(f"\n(No time was left for {script}.)")
            continue
        limit = f"--seconds={left:.0f}"
        if script == "evidence.py":
            page.print("")
            limit = f"--minutes={left / 60:.2f}"
        outcomes.append(
            page.run(script, *options, limit, seconds=left + GRACE_SECONDS)
        )
    return all(outcomes)


def commands(
    part: int, given: argparse.Namespace
) -> list[tuple[str, list[str]]]:
    """The scripts of a part, and their options but for the time."""
    if part in SCRIPTS:
        options = ["--tiny"] * given.tiny
        if part in ON_PHOTOS:
            options += ["--data", str(given.data)]
        return [(script, options) for script in SCRIPTS[part]]
    shared = ["--data", str(given.data), "--weights", str(given.weights)]
    shared += ["--results", str(given.output / "evidence.jsonl")]
    shared += ["--seeds", str(given.seeds), "--protocol", given.protocol]
    if given.tiny:
        shared += ["--arms", str(HERE / "evidence" / "tiny.toml")]
    shared += ["--processes", str(given.processes)]
    return [("evidence.py", [*shared, "--only", *given.only])]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    own.add_argument("--minutes", type=float, default=8.0, help="of all parts")
    own.add_argument(
        "--parts", nargs="+", type=int, choices=TITLES, default=[*TITLES]
    )
    own.add_argument(
        "--tiny",
        action="store_true",
        help="meaningless sizes, to see that the command works",
    )
    own.add_argument(
        "--data", type=Path, help="the photos, from evidence.py --prepare"
    )
    own.add_argument(
        "--weights", type=Path, default=Path(), help="folder of backbones"
    )
    own.add_argument(
        "--output",
        type=Path,
        default=Path("runs/gpu"),
        help="folder of the page and of the runs on photos",
    )
    own.add_argument(
        "--only",
        nargs="+",
        default=["whole/*", "tail/*"],
        metavar="PATTERN",
        help="arms of part 3, the most wanted first",
    )
    own.add_argument(
        "--protocol", default="closed", help="of part 3, as in evidence.py"
    )
    own.add_argument("--seeds", type=int, default=5, help="of each arm")
    own.add_argument(
        "--processes",
        type=int,
        default=12,
        help="arms of part 3 that are trained at a time",
    )
    return own


def missing(given: argparse.Namespace) -> str:
    """What is missing and how to get it, before anything is measured."""
    backend = os.environ.get("KERAS_BACKEND", "")
    if backend not in ("jax", "torch"):
        return (
            f"KERAS_BACKEND must be jax or torch, received {backend!r}. "
            "docs/gpu.md says what there is for TensorFlow"
        )
    # (Part 2 skips PyTorch's peers if they are not installed.)
    for package in (backend, "keras", "optree", "namex", "PIL"):
        if importlib.util.find_spec(package) is None:
            return (
                f"the package {package} is not installed. benchmarks/README.md "
                "says how to bring it along"
            )
    on_photos = [part for part in given.parts if part in ON_PHOTOS]
    if on_photos and (given.data is None or not given.data.exists()):
        return (
            f"--data {given.data}: part {on_photos[0]} needs the file of "
            "photos that `python benchmarks/evidence.py --prepare` makes; or "
            "leave it out with --parts 1 2"
        )
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = parser().parse_args(argv)
    given.words = sys.argv[1:] if argv is None else argv
    if given.tiny:
        given.only, given.seeds = ["tiny/*"], 1
    problem = missing(given)
    if problem:
        print(f"gpu.py: error: {problem}", file=sys.stderr)
        return 2
    given.output.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * given.minutes
    all_well = True
    with (given.output / "gpu.md").open("a", encoding="utf-8") as file:
        page = Page(file, environment(given.tiny))
        if file.tell():
            # It follows that of an earlier call.
            page.print("")
        for line in head(given):
            page.print(line)
        for place, part in enumerate(given.parts):
            shares = [SHARES[each] for each in given.parts[place:]]
            left = ends - time.monotonic()
            page.print(f"\n### {TITLES[part]}")
            own = left * shares[0] / sum(shares)
            all_well &= measure(part, given, page, time.monotonic() + own)
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())

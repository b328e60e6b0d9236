"""Cases timed in turns, each in a process of its own.

A time by itself says as much about the machine as about the code. So the cases
of a table wait side by side, each built and warm, and step one after the other
in every round: what slows the machine down slows all of them down. A round
gives each case a ratio to the table's reference; printed are the median of the
rounds and their range.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# A turn lasts at least this long: short steps are repeated.
TURN_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing that is timed.

    Attributes:
        name: What the table calls it.
        build: The function of the benchmark's module that is called, in a
            process of its own, with `options`. It returns a function without
            arguments that takes one step and waits for its end.
        options: Keyword arguments of `build`, as JSON can hold them.
        backend: KERAS_BACKEND of that process.
    """

    name: str
    build: Callable[..., Callable[[], Any]]
    options: Mapping[str, Any]
    backend: str = "tensorflow"


@dataclasses.dataclass
class Timing:
    """What a case needed.

    Attributes:
        seconds: Of a step, a number for each round.
        megabytes: By how much the process was larger at its highest than just
            before the first step.
        device: What the backend computes on, "cpu" or the name of a GPU.
        note: What the case has to say of itself, from `step.note`.
        error: Why there are no seconds.
    """

    seconds: list[float]
    megabytes: float = 0.0
    device: str = "cpu"
    note: Any = None
    error: str = ""

    @property
    def median(self) -> float:
        """The median of the rounds in seconds, NaN where there are none."""
        return statistics.median(self.seconds or [float("nan")])


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A ratio of two cases' times over the rounds."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{_digits(self.median)} | {_digits(self.lowest)} to " + _digits(
            self.highest
        )


def ratio(timing: Timing, reference: Timing) -> Ratio:
    """How many times as long as the reference a case took."""
    each = [
        own / other
        for own, other in zip(timing.seconds, reference.seconds, strict=False)
    ] or [float("nan")]
    return Ratio(statistics.median(each), min(each), max(each))


def in_turns(cases: Sequence[Case], rounds: int) -> list[Timing]:
    """Builds every case, then lets them step in turns.

    Args:
        cases: What to time, in the order of their turns.
        rounds: Turns of each case, at least 1.

    Returns:
        A timing for each case.
    """
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(case)) for case in cases]
        timings = []
        for worker in workers:
            # One after the other, as building is work too.
            ready = worker.ask("build")
            timings.append(
                Timing(
                    [],
                    device=ready.get("device", ""),
                    error=ready.get("error", ""),
                )
            )
        for _ in range(rounds):
            for worker, timing in zip(workers, timings, strict=True):
                if not timing.error:
                    turn = worker.ask("turn")
                    timing.error = turn.get("error", "")
                    if not timing.error:
                        timing.seconds.append(turn["seconds"])
                        timing.megabytes = turn["megabytes"]
                        timing.note = turn["note"]
    return timings


def print_table(
    title: str,
    names: Iterable[str],
    timings: Sequence[Timing],
    reference: int = 0,
    notes: Sequence[str] | None = None,
) -> None:
    """Prints a table of ratios; of a GPU the milliseconds too.

    Args:
        title: Printed above.
        names: Of the rows.
        timings: Of the rows.
        reference: The row that the others are compared with.
        notes: A last column: its title, and a text for each row.
    """
    on_gpu = any(timing.device not in ("", "cpu") for timing in timings)
    columns = ["", "ratio", "range", "MB"]
    columns += ["ms"] * on_gpu + ([] if notes is None else [notes[0]])
    print(f"\n{title}\n")
    print(f"| {' | '.join(columns)} |")
    print("|---|" + "---:|" * (len(columns) - 1))
    for index, (name, timing) in enumerate(zip(names, timings, strict=True)):
        if timing.error:
            print(f"| {name} | {timing.error} |", flush=True)
            continue
        cells = [name, str(ratio(timing, timings[reference]))]
        cells += [f"{timing.megabytes:,.0f}"]
        cells += [f"{1000 * timing.median:.2f}"] if on_gpu else []
        cells += [] if notes is None else [notes[1 + index]]
        print(f"| {' | '.join(cells)} |", flush=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that the benchmarks share."""
    own = argparse.ArgumentParser(
        description=(description or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    own.add_argument("--rounds", type=_positive, default=7)
    own.add_argument(
        "--backends",
        nargs="+",
        default=["tensorflow", "jax"],
        choices=["tensorflow", "jax", "torch"],
    )
    own.add_argument(
        "--tiny",
        action="store_true",
        help="sizes that say nothing, to see that the command works",
    )
    return own


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def _digits(value: float) -> str:
    """Three significant digits."""
    if value != value or value == 0:
        return f"{value}"
    decimals = max(0, 2 - int(f"{value:e}".split("e")[1]))
    return f"{value:,.{decimals}f}"


class _Worker:
    """The process of a case, which does what it is asked for."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(what, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return {"error": f"ended with exit code {self._process.wait()}"}
        return json.loads(answer)


@contextlib.contextmanager
def _worker(case: Case) -> Iterator[_Worker]:
    module = Path(sys.modules[case.build.__module__].__file__ or "").stem
    process = subprocess.Popen(
        [
            sys.executable,
            __file__,
            module,
            case.build.__name__,
            json.dumps(dict(case.options)),
        ],
        env={
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Several processes share a GPU.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **os.environ,
            "KERAS_BACKEND": case.backend,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Worker(process)
    finally:
        process.kill()
        process.wait()


def _serve(module: str, build: str, options: str) -> None:
    """What a worker does: builds, then a turn for each line."""
    # What libraries print goes to stderr; the answers have stdout to
    # themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    sys.stdin.readline()
    try:
        step = getattr(importlib.import_module(module), build)(
            **json.loads(options)
        )
        before = _resident()
        step()
        seconds = min(_seconds(step, 1) for _ in range(2))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0])
        return
    count = max(1, round(TURN_SECONDS / max(seconds, 1e-6)))
    answer(device=_device())
    for _ in sys.stdin:
        answer(
            seconds=_seconds(step, count),
            megabytes=max(0.0, _highest_resident() - before),
            note=getattr(step, "note", None),
        )


def _seconds(step: Callable[[], Any], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count


def _resident() -> float:
    """The memory that this process holds now, in MB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def _highest_resident() -> float:
    """The most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _device() -> str:
    """What the backend of this process computes on."""
    if "jax" in sys.modules and os.environ["KERAS_BACKEND"] == "jax":
        import jax

        kind = jax.devices()[0]
        return "cpu" if kind.platform == "cpu" else kind.device_kind
    if "torch" in sys.modules:
        import torch

        return (
            torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        )
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            details = tf.config.experimental.get_device_details(gpus[0])
            return details.get("device_name", "GPU")
    return "cpu"


if __name__ == "__main__":
    _serve(*sys.argv[1:])

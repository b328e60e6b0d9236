"""Cases timed in turns, each in a process of its own.

A time by itself says as much about the machine as about the code. So the cases
of a table wait side by side, each built and warm, and step one after the other
in every round: what slows the machine down slows all of them down, if not
alike (on busy cores the threads of one wait for each other longer than those of
another: leave them idle). A round gives each case a ratio to the table's
reference; printed are the median of the rounds and their range.

Memory that a process frees stays with it. Without that, glibc gives every large
array back and the next one is cleared page by page: on a CPU most of what a
pass over a large array takes, and more or less of it from one run to the next.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import importlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# A turn lasts at least this long: short steps are repeated.
TURN_SECONDS = 0.25
# Of a step as slow as this the first one warms up enough.
SLOW_SECONDS = 5.0
# What building may take of a limited time.
BUILDING = 0.8


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing that is timed.

    Attributes:
        name: What the table calls it.
        build: The function of the benchmark's module that is called, in a
            process of its own, with `options`. It returns a function without
            arguments that takes one step and waits for its end, or as many as
            its attribute `steps` says.
        options: Keyword arguments of `build`, as JSON can hold them.
        backend: KERAS_BACKEND of that process.
    """

    name: str
    build: Callable[..., Callable[[], Any]]
    options: Mapping[str, Any]
    backend: str = "tensorflow"


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to run a step: a backend, and how it compiles."""

    name: str
    backend: str
    jit_compile: bool

    def case(
        self, name: str, build: Callable[..., Callable[[], Any]], **options: Any
    ) -> Case:
        """A case of a `build` that has a parameter `jit_compile`."""
        options["jit_compile"] = self.jit_compile
        return Case(name, build, options, self.backend)


FORMS = (
    Form("TensorFlow graph", "tensorflow", False),
    Form("TensorFlow XLA", "tensorflow", True),
    Form("JAX", "jax", True),
    Form("PyTorch", "torch", False),
)


def forms(backends: Iterable[str]) -> list[Form]:
    """The ways to run a step on some backends."""
    return [form for form in FORMS if form.backend in backends]


@dataclasses.dataclass
class Timing:
    """What a case needed.

    Attributes:
        seconds: Of a step, a number for each round.
        megabytes: By how much the process was larger at its highest than when
            `step.resident` was taken, or else before the first step. NaN
            where several cases share the process.
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


def in_turns(
    cases: Sequence[Case],
    rounds: int,
    one_process: bool = False,
    seconds: float = math.inf,
    built: Callable[[Case, Timing], None] = lambda case, timing: None,
) -> list[Timing]:
    """Builds every case, then lets them step in turns.

    Args:
        cases: What to time, in the order of their turns.
        rounds: Turns of each case, at least 1.
        one_process: Whether the cases of a backend share a process. That
            starts faster, and their memory cannot be told apart.
        seconds: When no further turn begins. What is not built by four fifths
            of them is ended, and has an error.
        built: Called with each case as soon as it is built and warm.

    Returns:
        A timing for each case.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        workers: dict[Any, _Worker] = {}
        timings = []
        for place, case in enumerate(cases):
            key = case.backend if one_process else place
            if key not in workers:
                workers[key] = stack.enter_context(_worker(case.backend))
            # One after the other, as building is work too.
            left = started + BUILDING * seconds - time.monotonic()
            answer = workers[key].ask("build", place, *_call(case), limit=left)
            timings.append(Timing([], **answer))
            built(case, timings[-1])
        for _ in range(rounds):
            for place, case in enumerate(cases):
                timing = timings[place]
                if timing.error or time.monotonic() > started + seconds:
                    continue
                key = case.backend if one_process else place
                turn = workers[key].ask("turn", place)
                timing.error = turn.get("error", "")
                if not timing.error:
                    timing.seconds.append(turn["seconds"])
                    timing.megabytes = (
                        float("nan") if one_process else turn["megabytes"]
                    )
                    timing.note = turn["note"]
    return timings


def print_table(
    title: str,
    cases: Sequence[Case],
    timings: Sequence[Timing],
    reference: int = 0,
    notes: Sequence[str] | None = None,
) -> None:
    """Prints a table of ratios; of a GPU the milliseconds too.

    Args:
        title: Printed above.
        cases: The rows.
        timings: Theirs.
        reference: The row that the others are compared with.
        notes: A last column: its title, and a text for each row.
    """
    on_gpu = any(timing.device not in ("", "cpu") for timing in timings)
    columns = ["", "ratio", "range", "MB"]
    columns += ["ms"] * on_gpu + ([] if notes is None else [notes[0]])
    print(f"\n{title}\n")
    print(f"| {' | '.join(columns)} |")
    print("|---|" + "---:|" * (len(columns) - 1))
    for index, (case, timing) in enumerate(zip(cases, timings, strict=True)):
        if timing.error:
            print(f"| {case.name} | {timing.error} |", flush=True)
            continue
        cells = [case.name, str(ratio(timing, timings[reference]))]
        is_known = timing.megabytes == timing.megabytes
        cells += [f"{timing.megabytes:,.0f}" if is_known else "–"]
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


def keeping_freed_memory() -> dict[str, str]:
    """The environment in which memory that a process frees stays with it."""
    return {
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**36),
        "MALLOC_TOP_PAD_": str(2**28),
        # The arenas of other threads give arrays above 64 MB back all the same.
        "MALLOC_ARENA_MAX": "1",
    }


def environment(backend: str) -> dict[str, str]:
    """The environment of a process that runs on a backend."""
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Several processes share a GPU.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **os.environ,
        "KERAS_BACKEND": backend,
    }


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
    """A process that builds cases and takes their turns."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, *request: Any, limit: float = math.inf) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(min(limit, threading.TIMEOUT_MAX), end)
        timer.daemon = True
        timer.start()
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if late.is_set():
            return {"error": "no time was left"}
        if not answer:
            return {"error": f"ended with exit code {self._process.wait()}"}
        return json.loads(answer)


def _call(case: Case) -> tuple[str, str, dict[str, Any]]:
    """A case's function and arguments, as JSON can hold them."""
    module = Path(sys.modules[case.build.__module__].__file__ or "").stem
    return module, case.build.__name__, dict(case.options)


@contextlib.contextmanager
def _worker(backend: str) -> Iterator[_Worker]:
    process = subprocess.Popen(
        [sys.executable, __file__],
        env={**keeping_freed_memory(), **environment(backend)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Worker(process)
    finally:
        process.kill()
        process.wait()


def _serve() -> None:
    """What a worker does: an answer for each line that it is sent."""
    # What libraries print goes to stderr; the answers have stdout to
    # themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    built: dict[int, _Built] = {}
    for line in sys.stdin:
        what, place, *call = json.loads(line)
        try:
            if what == "build":
                built[place] = _Built(*call)
                note = getattr(built[place].step, "note", None)
                answer = {"device": _device(), "note": note}
            else:
                answer = built[place].turn()
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            answer = {"error": message.splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


class _Built:
    """A case that is ready for its turns."""

    def __init__(self, module: str, build: str, options: dict[str, Any]):
        function = getattr(importlib.import_module(module), build)
        self.step = function(**options)
        self._before = getattr(self.step, "resident", None)
        if self._before is None:
            self._before = resident()
        seconds = _seconds(self.step, 1)
        if seconds < SLOW_SECONDS:
            # The first step may have compiled or filled a cache.
            seconds = min(_seconds(self.step, 1) for _ in range(2))
        steps = TURN_SECONDS / max(seconds, 1e-6)
        self._count = max(1, round(steps / getattr(self.step, "steps", 1)))
        if seconds < SLOW_SECONDS:
            # Memory is laid out over some tens of steps.
            _seconds(self.step, self._count)

    def turn(self) -> dict[str, Any]:
        return {
            "seconds": _seconds(self.step, self._count),
            # (In this order a NaN stays one.)
            "megabytes": max(_highest_resident() - self._before, 0.0),
            "note": getattr(self.step, "note", None),
        }


def _seconds(step: Callable[[], Any], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    steps = count * getattr(step, "steps", 1)
    return (time.perf_counter() - started) / steps


def compiled(
    function: Callable[..., tuple[Any, ...]],
    arrays: Sequence[Any],
    jit_compile: bool,
) -> Callable[[], None]:
    """A step that calls a function of arrays and waits for its end.

    Args:
        function: Returns a tuple of tensors, by operations of the backend.
        arrays: Its arguments, NumPy arrays.
        jit_compile: Whether XLA compiles it on TensorFlow.

    Returns:
        A function without arguments. Its note is an entry of the first result.
    """
    from keras import ops

    def with_entries(*tensors: Any) -> Any:
        results = function(*tensors)
        # Who reads an entry of each has waited for all of them.
        return results, [result[(0,) * len(result.shape)] for result in results]

    tensors = [ops.convert_to_tensor(array) for array in arrays]
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        with_entries = jax.jit(with_entries)
    elif os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        # The size of a batch is not known to `fit` either.
        with_entries = tf.function(
            with_entries,
            jit_compile=jit_compile,
            input_signature=[
                tf.TensorSpec([None, *array.shape[1:]], array.dtype)
                for array in arrays
            ],
        )

    def step() -> None:
        _, entries = with_entries(*tensors)
        step.note, *_ = map(float, entries)

    return step


def resident() -> float:
    """The memory that this process holds now, in MB; its highest starts here.

    What was freed goes back this once: a step would find room there. NaN where
    the system cannot forget what was highest before.
    """
    ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return float("nan")
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def _highest_resident() -> float:
    """The most memory that this process has held so far, in MB."""
    # (`ru_maxrss` begins with what the parent held.)
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) / 1e3


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
    _serve()

"""Training steps and losses in milliseconds on this device, and their memory.

    KERAS_BACKEND=jax python benchmarks/gpu_steps.py

prints, the most important first, in case the time runs out:

- a step of MobileNetV2 and of ResNet50 on pictures of 224 by 224 pixels, in
  mixed bfloat16 and in float32 as the backend computes it by default, and each
  layer by itself on the feature map of that network: forward, backward and
  update. "beside plain" is the share of the plain step that the layer takes. A
  layer alone holds the step's own overhead, which one in a model does not add;
- center loss and SoftTriple with a thousand to a million classes;
- losses on all pairs of a batch;
- SoftTriple and triplets beside PyTorch Metric Learning on the same device;
- the first steps once more, each with the layer in the model.

Every time is a median over steps that wait for the device, the host's part
included. A batch that does not fit is halved. On JAX or PyTorch.
"""

import argparse
import gc
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import growth
import keras
import pair_losses
import real_step
import soft_triple
import turns
from printed_tables import begin_table, print_row

from keras_finegrain.training.versions import device_name

NETWORKS = ("MobileNetV2", "ResNet50")
POLICIES = ("mixed_bfloat16", "float32")
BATCHES = (256, 128, 64, 32)
CLASSES = (1_000, 10_000, 100_000, 1_000_000)
PAIR_BATCHES = (4_096, 16_384)
PAIR_LOSSES = ("semi-hard triplets", "multi-similarity")
# Of a time: at least so many rounds, of at least so many seconds each.
ROUNDS, ROUND_SECONDS = 3, 0.2

JIT = keras.backend.backend() == "jax"


def seconds_of(step: Callable[[], Any]) -> float:
    """The median time of a step over several rounds, after a warm-up."""
    for _ in range(2):
        step()
    started = time.perf_counter()
    step()
    one = time.perf_counter() - started
    count = max(1, round(ROUND_SECONDS / one))
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            step()
        rounds.append((time.perf_counter() - started) / count)
    return statistics.median(rounds)


def measured(
    build: Callable[..., Callable[[], Any]], **options: Any
) -> tuple[float, float]:
    """Seconds and device megabytes of a step, which is freed afterwards."""
    keras.utils.clear_session()
    gc.collect()
    step = build(jit_compile=JIT, **options)
    return seconds_of(step), getattr(step, "device_megabytes", math.nan)


def print_measured(
    name: str,
    build: Callable[..., Callable[[], Any]],
    beside: float = math.nan,
    **options: Any,
) -> float:
    """Measures and prints a row.

    Returns:
        Its seconds: infinite if the memory is too small, NaN if it failed
        otherwise.
    """
    try:
        seconds, megabytes = measured(build, **options)
    except Exception as error:  # of any kind: go on with the other rows
        print_row(name, message(error), *[""] * 2)
        is_memory = "out of memory" in str(error).lower()
        is_memory |= "RESOURCE_EXHAUSTED" in str(error)
        return math.inf if is_memory else math.nan
    share = seconds / beside
    print_row(
        name,
        f"{1000 * seconds:.2f}",
        f"{share:.3g}" if 0 < share < math.inf else "",
        "" if math.isnan(megabytes) else f"{megabytes:,.0f}",
    )
    return seconds


def message(error: Exception) -> str:
    """The first line of an error."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:100]}"


def real_step_under(policy: str, **options: Any) -> Callable[[], Any]:
    """`real_step.step_of` in a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return real_step.step_of(**options)
    finally:
        keras.config.set_dtype_policy(before)


class RealSteps:
    """The steps of one network in one precision.

    Args:
        network: Of `keras.applications`.
        policy: Keras's name of the precision.
        batches: Sizes to try, the largest first.
        side: Of the pictures, in pixels.
        classes: How many.
    """

    def __init__(
        self,
        network: str,
        policy: str,
        batches: tuple[int, ...],
        side: int,
        classes: int,
    ) -> None:
        self.title = f"{network}, {policy}, {side} × {side}"
        self._batches = batches
        self._batch = batches[0]
        self._options = {
            "backbone": network,
            "policy": policy,
            "side": side,
            "classes": classes,
        }
        self._plain = math.nan

    def _print(self, name: str, layer: str, alone: bool) -> float:
        return print_measured(
            name,
            real_step_under,
            self._plain,
            layer=layer,
            alone=alone,
            batch=self._batch,
            **self._options,
        )

    def rows_alone(self) -> Iterator[None]:
        """The plain step, and each layer by itself."""
        begin_table(self.title, *COLUMNS)
        for batch in self._batches:
            self._batch = batch
            name = f"plain, batch {batch}"
            self._plain = self._print(name, "none", alone=False)
            yield
            if not math.isinf(self._plain):
                break
        if not math.isfinite(self._plain):
            return
        self._print("pooling and Dense, alone", "none", alone=True)
        yield
        for layer in real_step.LAYERS:
            self._print(f"{layer}, alone", layer, alone=True)
            yield

    def rows_with(self, layers: tuple[str, ...]) -> Iterator[None]:
        """The whole step with each layer."""
        if not math.isfinite(self._plain):
            return
        begin_table(f"{self.title}, with each layer", *COLUMNS)
        for layer in layers:
            self._print(f"with {layer}", layer, alone=False)
            yield


COLUMNS = ("", "ms a step", "beside plain", "device MB")


def class_rows(classes: tuple[int, ...], batch: int) -> Iterator[None]:
    """Center loss and SoftTriple alone, with more and more classes."""
    for layer, sizes in (("CenterLoss", {}), ("SoftTriple", {"centers": 2})):
        begin_table(
            f"{layer} alone, batch {batch}, dim 64"
            + (", 2 centers a class" if sizes else ""),
            *("classes", "ms a step", "beside the first", "device MB"),
        )
        first = math.nan
        for count in classes:
            seconds = print_measured(
                f"{count:,}",
                growth.step_of,
                first,
                layer=layer,
                batch=batch,
                classes=count,
                dim=64,
                **sizes,
            )
            first = seconds if math.isnan(first) else first
            yield


def pair_rows(batches: tuple[int, ...]) -> Iterator[None]:
    """Losses on all pairs of a batch: value and gradient."""
    for batch in batches:
        begin_table(
            f"Losses on all pairs of {batch:,} × 512, 4 of each class",
            *("", "ms", "beside the bare product", "device MB"),
        )
        sizes = {"batch_size": batch, "dim": 512, "per_class": 4}
        product = print_measured(
            "E·Eᵀ and its gradient", pair_losses.bare_product, **sizes
        )
        yield
        for loss in PAIR_LOSSES:
            print_measured(
                loss, pair_losses.pair_loss, product, loss=loss, **sizes
            )
            yield


def peer_tables(size: soft_triple.Size, batch: int) -> Iterator[None]:
    """SoftTriple and losses on pairs beside PyTorch Metric Learning's."""
    for package in ("torch", "pytorch_metric_learning"):
        if not importlib.util.find_spec(package):
            print(f"\nNo peer to compare with: {package} is not installed.")
            return
    pairs = {"batch_size": batch, "dim": 512, "per_class": 4}
    # Title, the peer's step, ours, and the options of both.
    tables = [
        (str(size), soft_triple.peer, soft_triple.ours, vars(size)),
        *(
            (
                f"{loss}, {batch} × 512, 4 of each class",
                pair_losses.peer,
                pair_losses.pair_loss,
                {"loss": loss, **pairs},
            )
            for loss in pair_losses.PEERS
        ),
    ]
    forms = turns.forms({"torch", keras.backend.backend()})
    cases = []
    for _, peer, ours, options in tables:
        cases.append(turns.Case("peer, PyTorch", peer, options, "torch"))
        cases += [
            form.case(f"ours, {form.name}", ours, **options) for form in forms
        ]
    timings = turns.in_turns(cases, ROUNDS, one_process=True)
    rows = 1 + len(forms)
    for place, (title, *_) in enumerate(tables):
        own = slice(place * rows, (place + 1) * rows)
        turns.print_table(
            f"**Beside PyTorch Metric Learning: {title}**",
            cases[own],
            timings[own],
        )
    yield


def everything(tiny: bool) -> Iterator[None]:
    """All tables, a row or a table at each step."""
    batches, side, classes = (2,) if tiny else BATCHES, 64 if tiny else 224, 200
    networks, policies = NETWORKS, POLICIES
    if tiny:
        networks, policies, classes = ("MobileNet",), ("mixed_bfloat16",), 5
    real_steps = [
        RealSteps(network, policy, batches, side, classes)
        for policy in policies
        for network in networks
    ]
    # In float32 last: they take longest to compile and are wanted least.
    half, single = real_steps[: len(networks)], real_steps[len(networks) :]
    for steps in half:
        yield from steps.rows_alone()
    yield from class_rows((10, 100) if tiny else CLASSES, 8 if tiny else 256)
    yield from pair_rows((16,) if tiny else PAIR_BATCHES)
    yield from peer_tables(
        soft_triple.TINY_SIZES[0] if tiny else soft_triple.SIZES[0],
        24 if tiny else 512,
    )
    for steps in single:
        yield from steps.rows_alone()
    for steps in real_steps:
        yield from steps.rows_with(real_step.LAYERS[: 1 if tiny else None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="meaningless sizes, to see that the command works",
    )
    parser.add_argument("--seconds", type=float, default=math.inf)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    print(f"\nOn {device_name()}, {keras.backend.backend()}.")
    for _ in everything(options.tiny):
        if time.monotonic() > until:
            print("\nTime was up: what follows was not measured.", flush=True)
            break


if __name__ == "__main__":
    main()

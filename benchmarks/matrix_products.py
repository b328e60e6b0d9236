"""How fast one product of matrices is: what the device can do at most.

    KERAS_BACKEND=jax python benchmarks/matrix_products.py

prints a row for float32 with all of its digits, for float32 where the device
may round the factors to TF32, and for bfloat16. On JAX or PyTorch.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import keras
from printed_tables import begin_table, print_row

from keras_finegrain.training.versions import device_name

# Name, dtype, and whether a float32 factor may be rounded.
KINDS = (
    ("float32", "float32", False),
    ("float32, TF32 allowed", "float32", True),
    ("bfloat16", "bfloat16", True),
)
REPEATS = 10


def product(side: int, dtype: str, rounded: bool) -> Callable[[], Any]:
    """A function that starts one product of square matrices.

    Args:
        side: Rows and columns of each.
        dtype: Of the factors and the product.
        rounded: Whether the device may round factors to fewer digits.
    """
    a, b = (
        keras.ops.cast(keras.random.normal((side, side), seed=seed), dtype)
        for seed in (0, 1)
    )
    if keras.backend.backend() == "jax":
        import jax

        precision = "default" if rounded else "highest"
        multiply = jax.jit(
            lambda a, b: jax.numpy.matmul(a, b, precision=precision)
        )
        return lambda: multiply(a, b)
    import torch

    torch.set_float32_matmul_precision("high" if rounded else "highest")
    return lambda: torch.matmul(a, b)


def wait(result: Any) -> None:
    """Returns when the device has computed a tensor, and all before it."""
    float(result[0, 0])


def seconds_of(start: Callable[[], Any]) -> float:
    """The mean of several products, one right after the other."""
    for _ in range(2):
        wait(start())
    started = time.perf_counter()
    for _ in range(REPEATS):
        result = start()
    wait(result)
    return (time.perf_counter() - started) / REPEATS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="small ones")
    parser.add_argument("--seconds", type=float, default=math.inf)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    device = device_name()
    is_small = options.tiny or device == "CPU"
    side = 512 if is_small else 8192
    begin_table(
        f"One product of {side:,} × {side:,} matrices on {device}",
        *("", "ms", "TFLOP/s"),
    )
    for name, dtype, rounded in KINDS:
        if time.monotonic() > until:
            print("\nTime was up: the rest was not measured.", flush=True)
            break
        seconds = seconds_of(product(side, dtype, rounded))
        print_row(
            name,
            f"{1000 * seconds:.3f}",
            f"{2 * side**3 / seconds / 1e12:,.2f}",
        )


if __name__ == "__main__":
    main()

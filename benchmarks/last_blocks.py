"""How fast the last blocks of a backbone train on cached features, by form.

    python benchmarks/last_blocks.py --backbone FILE.keras --freeze LAYER

prints photos a second of `fit`: by that `evidence.py` was laid out. The cases
differ in the backend, XLA, the precision, the batch and what glibc does with
freed memory. Each is a process of its own, one after the other. The first
epoch is not counted, and of three the fastest is.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from turns import keeping_freed_memory

# Name, backend, XLA, policy, batch, whether freed memory is kept.
CASES = (
    ("TensorFlow graph", "tensorflow", False, "float32", 32, True),
    ("the same, glibc as it is", "tensorflow", False, "float32", 32, False),
    ("the same, bfloat16", "tensorflow", False, "mixed_bfloat16", 32, True),
    ("the same, batches of 64", "tensorflow", False, "float32", 64, True),
    ("PyTorch", "torch", False, "float32", 32, True),
    ("JAX", "jax", True, "float32", 32, True),
    ("TensorFlow XLA", "tensorflow", True, "float32", 32, True),
)
BATCHES, EPOCHS, CLASSES = 8, 3, 21


def photos_per_second(
    backbone: str, freeze: str, size: int, jit: bool, policy: str, batch: int
) -> float:
    """Trains on noise in this process."""
    import keras
    import numpy as np

    from keras_finegrain.training import Settings
    from keras_finegrain.training.backbones import build_backbone, cut_at

    keras.config.set_dtype_policy(policy)
    whole = build_backbone(
        Settings(backbone=backbone, weights="none", image_size=size)
    )
    cut = cut_at(whole, freeze)
    pooled = keras.layers.GlobalAveragePooling2D(dtype="float32")(whole.output)
    scores = keras.layers.Dense(CLASSES, dtype="float32")(pooled)
    model = keras.Model(cut, scores)
    model.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit,
    )
    generator = np.random.default_rng(0)
    count = BATCHES * batch
    x = generator.random((count, *cut.shape[1:]), "float32")
    y = generator.integers(0, CLASSES, count)
    seconds = []
    for _ in range(1 + EPOCHS):
        started = time.perf_counter()
        model.fit(x, y, batch_size=batch, verbose=0)
        seconds.append(time.perf_counter() - started)
    return count / min(seconds[1:])


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all cases and prints their table."""
    own = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    own.add_argument("--backbone", default="MobileNetV2")
    own.add_argument("--freeze", default="block_12_add", metavar="LAYER")
    own.add_argument("--size", type=int, default=224, help="in pixels")
    own.add_argument("--case", help=argparse.SUPPRESS)
    given = own.parse_args(argv)
    of_all = given.backbone, given.freeze, given.size
    if given.case:
        print(photos_per_second(*of_all, *json.loads(given.case)))
        return
    print("| | photos a second |\n|---|---:|")
    for name, backend, jit, policy, batch, keeps in CASES:
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        environment["KERAS_BACKEND"] = backend
        if keeps:
            environment.update(keeping_freed_memory())
        words = [sys.executable, __file__, "--backbone", given.backbone]
        words += ["--freeze", given.freeze, "--size", str(given.size)]
        words += ["--case", json.dumps([jit, policy, batch])]
        result = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False
        )
        last = (result.stdout or result.stderr).split("\n")[-2]
        figure = last if result.returncode else f"{float(last):.0f}"
        print(f"| {name} | {figure} |", flush=True)


if __name__ == "__main__":
    main()

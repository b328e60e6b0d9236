"""A step of each layer and loss: another version of the package beside this.

    git worktree add ../before COMMIT
    python benchmarks/versions.py --other ../before --backend tensorflow
    python benchmarks/versions.py --other ../before --backend tensorflow --xla

Each version runs in a process of its own, on one thread, and the two take
turns. Printed is the CPU time of a training step of `fit` (forward, backward,
plain SGD): the median over the rounds, as the ratio of this version to the
other.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

HERE = pathlib.Path(__file__).resolve()


def cases(tiny: bool) -> dict[str, tuple[Callable[[], Any], Any, Any]]:
    """A function that builds a compiled model, and its data, of each case."""
    import keras
    import numpy as np

    import keras_finegrain

    losses, generator = keras_finegrain.losses, np.random.default_rng(0)
    found = {}

    def add(
        name: str, layers: Callable[[], list[Any]], loss: Any, x: Any, y: Any
    ) -> None:
        def build() -> Any:
            keras.utils.set_random_seed(0)
            model = keras_finegrain.Sequential(
                [keras.Input(x.shape[1:]), *layers()]
            )
            model.compile(keras.optimizers.SGD(1e-3), loss)
            return model

        found[name] = (build, x.astype("float32"), y.astype("int32"))

    sizes = [(200, 512, 32, 10), (200, 512, 128, 10), (100_000, 128, 128, 2)]
    for classes, dim, batch, centers in [(12, 8, 4, 3)] if tiny else sizes:
        x = generator.normal(size=(batch, dim))
        y = generator.integers(0, classes, batch)
        size = f"{classes:,} classes, dim {dim}, batch {batch}"
        add(
            f"CenterLoss, {size}",
            lambda classes=classes: [
                keras_finegrain.CenterLoss(classes),
                keras.layers.Dense(10),
            ],
            lambda y, outputs: keras.ops.mean(outputs * outputs, axis=-1),
            x,
            y,
        )
        add(
            f"SoftTriple, {centers} centers, {size}",
            lambda classes=classes, centers=centers: [
                keras_finegrain.SoftTriple(classes, centers)
            ],
            losses.SoftTripleLoss(),
            x,
            y,
        )
        add(
            f"ArcFace, {size}",
            lambda classes=classes: [keras_finegrain.CosineSimilarity(classes)],
            losses.ArcFaceLoss(),
            x,
            y,
        )
    maps = [(21, 7, 126), (21, 7, 1280), (200, 14, 600)]
    for classes, side, channels in [(3, 3, 9)] if tiny else maps:
        x = np.maximum(generator.normal(size=(16, side, side, channels)), 0)
        add(
            f"MCLoss, {classes} classes, map {side} × {side} × {channels}",
            lambda classes=classes: [
                keras.layers.BatchNormalization(),
                keras_finegrain.MCLoss(classes),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(classes),
            ],
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            x,
            generator.integers(0, classes, 16),
        )
    names = "TripletSemiHard TripletHard TripletAll Contrastive MultiSimilarity"
    batches = [(128, 4), (512, 8), (1024, 32), (2048, 64)]
    for name in names.split():
        for batch, images in [(8, 2)] if tiny else batches:
            add(
                f"{name}Loss, batch {batch}, {images} images a class",
                lambda: [keras.layers.Dense(128)],
                getattr(losses, f"{name}Loss")(),
                generator.normal(size=(batch, 128)),
                np.repeat(np.arange(batch // images), images),
            )
    return found


def serve(tiny: bool, xla: bool) -> None:
    """Times steps of the cases that are asked for on the standard input."""
    import keras
    import numpy as np

    known, steps = cases(tiny), {}
    print(json.dumps(list(known)), flush=True)
    for line in sys.stdin:
        name, count = json.loads(line)
        if name not in steps:
            steps.clear()
            build, x, y = known[name]
            model = build()
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                data = (tf.constant(x), tf.constant(y))
                function = tf.function(model.train_step, jit_compile=xla)
                steps[name] = lambda function=function, data=data: [
                    np.asarray(value) for value in function(data).values()
                ]
            else:
                steps[name] = lambda model=model, x=x, y=y: (
                    model.train_on_batch(x, y)
                )
            steps[name]()
        started = time.process_time()
        for _ in range(count):
            steps[name]()
        print((time.process_time() - started) / count, flush=True)


def main() -> None:
    """Prints the ratio of each case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--other", help="checkout of the other version")
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--match", default="", help="part of a case's name")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.tiny, arguments.xla)
        return
    flags = ["--serve"]
    flags += ["--tiny"] * arguments.tiny + ["--xla"] * arguments.xla
    other = pathlib.Path(arguments.other or HERE.parents[1]).resolve()
    processes = []
    for folder in (other, HERE.parents[1]):
        environment = {
            **os.environ,
            "KERAS_BACKEND": arguments.backend,
            "PYTHONPATH": str(folder),
            "OMP_NUM_THREADS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
            "TF_NUM_INTEROP_THREADS": "1",
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, str(HERE), *flags],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        )
    names = [json.loads(process.stdout.readline()) for process in processes][1]

    def seconds(process: Any, name: str, count: int) -> float:
        process.stdin.write(json.dumps([name, count]) + "\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    print("| step | ratio | range |\n|---|---:|---:|")
    for name in names:
        if arguments.match not in name:
            continue
        first = [seconds(process, name, 2) for process in processes]
        count = max(1, min(50, int(0.2 / max(first[1], 1e-5))))
        ratios = []
        for _ in range(arguments.rounds):
            before, now = (seconds(p, name, count) for p in processes)
            ratios.append(now / before)
        middle = statistics.median(ratios)
        ends = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name} | {middle:.2f} | {ends} |", flush=True)
    for process in processes:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()

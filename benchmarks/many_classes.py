"""Many classes: memory and time of a step, sharded and sampled.

    KERAS_BACKEND=jax python benchmarks/many_classes.py 100000 1000000

trains center loss and a SoftTriple head on one device and on `--devices`, and
prints what each device holds, what a step moves between them, and how long it
takes; with `--sampled-share 0.1` also of a head that scores a tenth of the
classes in a step. Host devices stand in where there are no others: their
times are ratios only.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time

DIM = 64
BATCH = 64
STEPS = 5


def measure(classes: int, devices: int, share: float) -> dict:
    """Trains `STEPS` steps in this process."""
    import jax
    import keras
    import numpy as np
    from compiled_steps import compiled_train_step, moved_shapes, train_state

    import keras_finegrain

    if devices > 1:
        mesh = keras.distribution.DeviceMesh(
            (1, devices),
            ("batch", "model"),
            keras.distribution.list_devices()[:devices],
        )
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(
                layout_map=keras_finegrain.distribution.class_layout_map(mesh),
                batch_dim_name="batch",
                auto_shard_dataset=False,
            )
        )
    keras.utils.set_random_seed(0)
    features = keras.Input((DIM,))
    x = keras.layers.Dense(DIM)(features)
    x = keras_finegrain.CenterLoss(classes)(x)
    # Where classes count by the million one center each has to do.
    x = keras_finegrain.SoftTriple(
        classes, centers_per_class=1, sampled_share=share, seed=0
    )(x)
    model = keras_finegrain.Model(features, x)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras_finegrain.losses.SoftTripleLoss(),
    )
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH, DIM)).astype("float32")
    y = generator.integers(0, classes, BATCH).astype("int32")
    model.fit(x, y, batch_size=BATCH, verbose=0)

    compiled = compiled_train_step(model, x, y)
    memory = compiled.memory_analysis()
    moved = [math.prod(shape) for _, shape in moved_shapes(compiled)]
    step = jax.jit(model.train_step, donate_argnums=0)
    state = train_state(model)
    seconds, losses = [], []
    for _ in range(STEPS):
        started = time.perf_counter()
        logs, state = step(state, (x, y, None))
        losses.append(float(logs["loss"]))
        seconds.append(time.perf_counter() - started)
    return {
        "held": memory.argument_size_in_bytes,
        "working": memory.temp_size_in_bytes,
        "moved": max(moved, default=0),
        "seconds": sorted(seconds)[STEPS // 2],
        "losses": losses,
    }


def in_a_process(classes: int, devices: int, share: float) -> dict:
    """Host devices are counted once, when a process starts."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, __file__, "--one", str(classes)]
    command += ["--devices", str(devices), "--sampled-share", str(share)]
    result = subprocess.run(
        command,
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classes", nargs="+", type=int)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--sampled-share", type=float, default=1.0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (classes,) = options.classes
        result = measure(classes, options.devices, options.sampled_share)
        print(json.dumps(result))
        return
    print(
        "| classes | scored | devices | held MB | working MB "
        "| largest tensor moved | time | loss differs by |\n"
        "|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for classes in options.classes:
        one = in_a_process(classes, 1, 1.0)
        for share in sorted({1.0, options.sampled_share}, reverse=True):
            for devices in (1, options.devices):
                print_row(classes, share, devices, one)


def print_row(classes: int, share: float, devices: int, one: dict) -> None:
    """One measurement against all classes on one device."""
    result = one
    if (share, devices) != (1.0, 1):
        result = in_a_process(classes, devices, share)
    difference = "sampled"
    if share == 1.0:
        pairs = zip(result["losses"], one["losses"], strict=True)
        largest = max(abs(own - whole) / abs(whole) for own, whole in pairs)
        difference = f"{largest:.1e}"
    print(
        f"| {classes:,} | {share:.0%} | {devices} | {result['held'] / 1e6:.1f} "
        f"| {result['working'] / 1e6:.1f} | {result['moved']:,} "
        f"| {result['seconds'] / one['seconds']:.2f} | {difference} |",
        flush=True,
    )


if __name__ == "__main__":
    main()

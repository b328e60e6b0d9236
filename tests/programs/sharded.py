"""Trains with centers that are sharded by class, on host devices.

python -m tests.programs.sharded BATCH_DEVICES MODEL_DEVICES OUTPUT.npz

Two ones: no distribution at all.
"""

import json
import os
import sys

BATCH_DEVICES, MODEL_DEVICES = map(int, sys.argv[1:3])
DEVICES = BATCH_DEVICES * MODEL_DEVICES
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"

import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_finegrain  # noqa: E402
from benchmarks.compiled_steps import (  # noqa: E402
    compiled_train_step,
    moved_shapes,
)

CLASSES, DIM, BATCH = 64, 24, 16


def main():
    if DEVICES > 1:
        mesh = keras.distribution.DeviceMesh(
            (BATCH_DEVICES, MODEL_DEVICES),
            ("batch", "model"),
            keras.distribution.list_devices(),
        )
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(
                layout_map=keras_finegrain.distribution.class_layout_map(mesh),
                batch_dim_name="batch",
                auto_shard_dataset=False,
            )
        )
    keras.utils.set_random_seed(7)
    features = keras.Input((10,))
    x = keras.layers.Dense(DIM)(features)
    x = keras_finegrain.CenterLoss(CLASSES, loss_weight=0.1)(x)
    x = keras_finegrain.SoftTriple(CLASSES, 3)(x)
    model = keras_finegrain.Model(features, x)
    model.compile(
        keras.optimizers.Adam(1e-3), keras_finegrain.losses.SoftTripleLoss()
    )
    generator = np.random.default_rng(3)
    images = generator.normal(size=(5 * BATCH, 10)).astype("float32")
    labels = generator.integers(0, CLASSES, 5 * BATCH).astype("int32")
    history = model.fit(
        images, labels, batch_size=BATCH, epochs=2, shuffle=False, verbose=0
    ).history
    step = compiled_train_step(model, images[:BATCH], labels[:BATCH])
    variables = [*model.variables, *model.optimizer.variables]
    np.savez(
        sys.argv[3],
        **{f"fit {name}": values for name, values in history.items()},
        **{
            f"variable {index} {variable.path}": np.asarray(variable.value)
            for index, variable in enumerate(variables)
        },
        moved=json.dumps(moved_shapes(step)),
        held=json.dumps(
            {
                variable.path: [
                    shard.data.shape
                    for shard in variable.value.addressable_shards
                ]
                for variable in variables
                if isinstance(variable.value, jax.Array)
            }
        ),
    )


if __name__ == "__main__":
    main()

"""Trains with `BackupAndRestore`, stands still where a test wants to kill it.

python -m tests.programs.interrupted BACKUP OUTPUT.npz [EPOCH BATCH]

Runs as a worker of MultiWorkerMirroredStrategy where TF_CONFIG is set.
"""

import contextlib
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

import keras_finegrain

CLASSES = 4
STEPS = 5


def scope():
    if "TF_CONFIG" not in os.environ:
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy().scope()


def built():
    image = keras.Input((5, 5, 3))
    x = keras.layers.Conv2D(12, 3, activation="relu")(image)
    x = keras_finegrain.MCLoss(CLASSES, loss_weight=0.1, seed=3)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(6)(x)
    x = keras_finegrain.CenterLoss(CLASSES, loss_weight=0.1)(x)
    x = keras_finegrain.SoftTriple(CLASSES, 3)(x)
    model = keras_finegrain.Model(image, x)
    model.compile(
        keras_finegrain.optimizers.LayerwiseLearningRate(
            keras.optimizers.Adam(1e-3), {"centers": 10}
        ),
        keras_finegrain.losses.SoftTripleLoss(),
    )
    return model


class StandStill(keras.callbacks.Callback):
    """Stops in the middle of an epoch, and waits for its end."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.stop = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        print(f"epoch {epoch}", flush=True)

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.stop:
            print("standing still", flush=True)
            time.sleep(600)


def main():
    backup, output, *stop = sys.argv[1:]
    generator = np.random.default_rng(2)
    images = generator.normal(size=(8 * STEPS, 5, 5, 3)).astype("float32")
    labels = generator.integers(0, CLASSES, 8 * STEPS).astype("int32")
    with scope():
        keras.utils.set_random_seed(1)
        model = built()
    model.fit(
        images,
        labels,
        batch_size=8,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.BackupAndRestore(backup, delete_checkpoint=False),
            StandStill(*(map(int, stop) if stop else (-1, -1))),
        ],
    )
    variables = [*model.variables, *model.optimizer.variables]
    np.savez(
        output,
        **{
            f"{index} {variable.path}": ops.convert_to_numpy(variable)
            for index, variable in enumerate(variables)
        },
    )


if __name__ == "__main__":
    main()

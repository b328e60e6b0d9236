"""Trains on several machines: the same script on each, with its TF_CONFIG.

docs/distribution.md starts it on two. Without TF_CONFIG it trains alone.
"""

import argparse
import json
import os
import pathlib

# Before the first import of Keras: the one backend that reads TF_CONFIG.
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

import keras_finegrain
from keras_finegrain import datasets


def build(num_classes):
    model = keras_finegrain.Sequential([keras.Input((64, 64, 3))])
    model.add(keras.layers.Rescaling(1 / 127.5, offset=-1))
    for filters in (16, 32, 96, 192):
        model.add(keras.layers.Conv2D(filters, 3, 2, padding="same"))
        # Statistics of the batch of all workers, not of each worker's share.
        model.add(keras.layers.BatchNormalization(synchronized=True))
        model.add(keras.layers.ReLU())
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras_finegrain.CenterLoss(num_classes))
    model.add(keras.layers.Dense(num_classes))
    model.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="synthetic_birds")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--output", default="runs/multi_worker")
    options = parser.parse_args()
    output = pathlib.Path(options.output)

    # First, because it connects the workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    worker = config.get("task", {}).get("index", 0)

    birds = datasets.load(options.dataset)
    # The batch size is that of all workers together.
    images = {"image_size": 64, "batch_size": options.batch_size}
    keras.utils.set_random_seed(0)  # The same first weights on all workers.
    with strategy.scope():
        model = build(birds.num_classes)
    model.fit(
        datasets.batches(birds.train, **images, training=True),
        validation_data=datasets.batches(birds.test, **images, training=False),
        epochs=options.epochs,
        shuffle=False,  # The batches are shuffled already.
        verbose=2 if worker == 0 else 0,
        # If one worker dies and all are started again, each continues after
        # its last finished epoch, from a file of its own.
        callbacks=[keras.callbacks.BackupAndRestore(output / f"{worker}")],
    )
    if worker == 0:
        model.save(output / "model.keras")


if __name__ == "__main__":
    main()

"""Trains with the callbacks on a number of replicas; saves their logs.

python -m tests.programs.embedding_logs REPLICAS OUTPUT.npz

As tests.programs.replicas, whose scopes it uses.
"""

import sys

from tests.programs import replicas  # sets the devices up

import keras  # isort: skip
import numpy as np

import keras_finegrain
from keras_finegrain import callbacks

CLASSES = 4
# The last batch is not full, and divides by no number of replicas.
SAMPLES = 2 * replicas.BATCH + 7


def built():
    image = keras.Input((5, 5, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras_finegrain.CenterLoss(CLASSES, loss_weight=0.1, name="center")(x)
    x = keras_finegrain.SoftTriple(CLASSES, 2, name="head")(x)
    model = keras_finegrain.Model(image, x)
    generator = np.random.default_rng(5)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape))
    model.compile(
        keras.optimizers.SGD(1e-2), keras_finegrain.losses.SoftTripleLoss()
    )
    return model


def main():
    generator = np.random.default_rng(2)
    images = generator.normal(size=(SAMPLES, 5, 5, 3)).astype("float32")
    labels = generator.integers(0, CLASSES, SAMPLES).astype("int32")
    with replicas.scope_maker()():
        model = built()
    # (Keras shards no uneven batch on JAX.)
    full = 2 * replicas.BATCH
    history = model.fit(
        images[:full],
        labels[:full],
        batch_size=replicas.BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[
            callbacks.EmbeddingMetrics(
                (images, labels),
                ("recall@1", "map@r", "intra_inter_distance_ratio"),
                batch_size=16,
            ),
            callbacks.CenterStatistics(),
        ],
    ).history
    np.savez(sys.argv[2], **history)


if __name__ == "__main__":
    main()

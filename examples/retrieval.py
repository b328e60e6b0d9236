"""Finds images of classes that the network has never seen.

    python examples/retrieval.py

trains an embedding on half of the drawn species with a loss on pairs, and
measures on the other half how often the most similar image is of the same
species, before and after. Name another data set, as `cars196` or a folder with
one folder of photos for each class; there a pretrained backbone is the start.
"""

import argparse

import keras
import numpy as np

from keras_finegrain import datasets, losses, metrics, models


def build(image_size: int, embedding_size: int) -> keras.Model:
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    # For photos take a pretrained backbone of keras.applications instead.
    for filters in (32, 64, 128):
        x = keras.layers.Conv2D(filters, 3, padding="same")(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, models.embedding_block(x, embedding_size))


def main(argv: list[str] | None = None) -> dict[str, metrics.Estimate]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default="synthetic_birds")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--classes-per-batch", type=int, default=6)
    parser.add_argument("--output", default="retrieval.keras")
    options = parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    halves = datasets.load(options.data, split_by_class=0.5)
    # A loss on pairs needs several images of a class in each batch.
    train = datasets.balanced_batches(
        halves.train,
        image_size=options.image_size,
        classes_per_batch=options.classes_per_batch,
        images_per_class=6,
    )
    unseen = datasets.batches(
        halves.test,
        image_size=options.image_size,
        batch_size=32,
        training=False,
    )
    labels = np.concatenate([y for _, y in unseen])

    def measure(when: str) -> dict[str, metrics.Estimate]:
        found = metrics.embedding_metrics(
            model.predict(unseen, verbose=0), labels, ("recall@1", "map@r")
        )
        for name, (value, low, high) in found.items():
            print(f"{when}: {name} {value:.1%} ({low:.1%} to {high:.1%})")
        return found

    model = build(options.image_size, embedding_size=64)
    steps = options.epochs * len(train)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.AdamW(rate), losses.MultiSimilarityLoss())
    measure("before")
    model.fit(train, epochs=options.epochs, verbose=2)
    found = measure("after")
    model.save(options.output)
    return found


if __name__ == "__main__":
    main()

"""A classifier of look-alike birds: the script that a person would write.

    python examples/train_birds.py

draws twelve species, trains SoftTriple on them in `model.fit`, and keeps the
model. Name another data set to train on it: `caltech_birds2011`, or a folder
with one folder of photos for each class.
"""

import argparse

import keras

import keras_finegrain
from keras_finegrain import datasets


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default="synthetic_birds")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--output", default="birds.keras")
    options = parser.parse_args(argv)

    birds = datasets.load(options.data)
    train = datasets.batches(
        birds.train,
        image_size=options.image_size,
        batch_size=32,
        training=True,
    )
    test = datasets.batches(
        birds.test,
        image_size=options.image_size,
        batch_size=32,
        training=False,
    )

    model = keras_finegrain.Sequential()
    model.add(keras.Input((options.image_size, options.image_size, 3)))
    model.add(keras.layers.Rescaling(1 / 127.5, offset=-1))
    # For photos take a pretrained backbone of keras.applications instead.
    for filters in (16, 32, 96, 192):
        model.add(
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)
        )
        model.add(keras.layers.BatchNormalization(momentum=0.9))
        model.add(keras.layers.ReLU())
        if filters < 192:
            model.add(keras.layers.MaxPooling2D())
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras_finegrain.SoftTriple(birds.num_classes))
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                3e-3, options.epochs * len(train)
            )
        ),
        keras_finegrain.losses.SoftTripleLoss(),
        metrics=["accuracy"],
    )
    model.fit(train, validation_data=test, epochs=options.epochs, verbose=2)
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    print(f"{accuracy:.1%} of {birds.test_size} test images are right")
    model.save(options.output)
    return float(accuracy)


if __name__ == "__main__":
    main()

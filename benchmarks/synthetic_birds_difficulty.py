"""How hard the synthetic birds are, for readers who look at less or at more.

A nearest-neighbour vote on colours and a linear classifier on pixels show what
can be had without looking at parts; a small network, trained from scratch,
shows what can be learned from so few photos.

    python benchmarks/synthetic_birds_difficulty.py

prints the table of docs/synthetic_birds.md. The last epoch counts, and the
interval is the 95 % t-interval of the mean over training seeds.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_finegrain.datasets.synthetic_birds import (
    SyntheticBirds,
    SyntheticBirdsConfig,
)

Split = tuple[np.ndarray, np.ndarray]

# Student's t, two-sided 95 %, for 1 to 9 degrees of freedom.
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_LEVELS = 8  # of each colour in a histogram


def main() -> None:
    arguments = parse_arguments()
    print(
        "| parts apart | chance | colour histogram, k-NN | "
        f"pixels, linear | small CNN, {arguments.epochs} epochs |"
    )
    print("|---|---|---|---|---|")
    for parts_apart in arguments.parts_apart:
        train, test = load(parts_apart, arguments)
        networks = [
            small_cnn(train, test, seed, arguments.epochs)
            for seed in range(arguments.seeds)
        ]
        cells = [
            f"{parts_apart}",
            f"{100 / arguments.num_species:.1f}",
            f"{colour_histogram(train, test):.1f}",
            f"{linear_probe(train, test):.1f}",
            mean_and_interval(networks),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts-apart", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--num-species", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--train-per-species", type=int, default=80)
    parser.add_argument("--test-per-species", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        choices=range(2, len(_T_95) + 2),
        help="networks for each row",
    )
    parser.add_argument(
        "--data-dir", help="where the photos are kept (a temporary folder)"
    )
    return parser.parse_args()


def load(parts_apart: int, arguments: argparse.Namespace) -> list[Split]:
    """The photos in [0, 1] and the labels, of train and test."""
    config = SyntheticBirdsConfig(
        num_species=arguments.num_species,
        parts_apart=parts_apart,
        image_size=arguments.image_size,
        train_per_species=arguments.train_per_species,
        test_per_species=arguments.test_per_species,
    )
    with tempfile.TemporaryDirectory() as temporary:
        builder = SyntheticBirds(
            data_dir=arguments.data_dir or temporary, config=config
        )
        with contextlib.redirect_stdout(sys.stderr):  # Only the table.
            builder.download_and_prepare()
        splits = []
        for split in ("train", "test"):
            images, labels = zip(
                *builder.as_dataset(
                    split=split, as_supervised=True
                ).as_numpy_iterator(),
                strict=True,
            )
            splits.append(
                (np.stack(images).astype("float32") / 255, np.array(labels))
            )
    return splits


def colour_histogram(train: Split, test: Split) -> float:
    """k-NN on joint colour histograms, the best of several k."""

    def histograms(images: np.ndarray) -> np.ndarray:
        level = np.minimum((images * _LEVELS).astype(int), _LEVELS - 1)
        colour = level @ np.array([_LEVELS**2, _LEVELS, 1])
        counts = [
            np.bincount(image.ravel(), minlength=_LEVELS**3) for image in colour
        ]
        # Hellinger: the Euclidean distance of square roots.
        return np.sqrt(np.stack(counts))

    features = histograms(train[0]), histograms(test[0])
    return max(
        100
        * KNeighborsClassifier(neighbours)
        .fit(features[0], train[1])
        .score(features[1], test[1])
        for neighbours in (1, 5, 15)
    )


def linear_probe(train: Split, test: Split) -> float:
    """Logistic regression on the pixels, the best of several penalties."""
    flat = [images.reshape(len(images), -1) for images, _ in (train, test)]
    return max(
        100
        * make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, max_iter=200)
        )
        .fit(flat[0], train[1])
        .score(flat[1], test[1])
        for strength in (1e-5, 1e-3)
    )


def small_cnn(train: Split, test: Split, seed: int, epochs: int) -> float:
    """Four convolutions from scratch; the accuracy after the last epoch."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential([keras.Input(train[0].shape[1:])])
    model.add(layers.RandomFlip("horizontal"))
    for filters in (16, 32, 64, 128):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.Activation("relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(int(train[1].max()) + 1))
    steps = epochs * -(-len(train[0]) // 32)
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(3e-3, steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*train, epochs=epochs, batch_size=32, verbose=0)
    return 100 * float(model.evaluate(*test, verbose=0)[1])


def mean_and_interval(values: list[float]) -> str:
    half = _T_95[len(values) - 2] * statistics.stdev(values)
    half /= len(values) ** 0.5
    return f"{statistics.mean(values):.1f} ± {half:.1f}"


if __name__ == "__main__":
    main()

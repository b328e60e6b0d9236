"""One variant, one seed: from the first weights to the metrics."""

import argparse
import time
from typing import NamedTuple

import keras
import numpy as np

from keras_finegrain.callbacks import EmbeddingRecorder
from keras_finegrain.cli.output import CommandError
from keras_finegrain.cli.progress import Progress
from keras_finegrain.metrics import intra_inter_distance_ratio, recall_at_k
from mnist_lib.data import ImageSet
from mnist_lib.networks import FEATURES, build

# More points than this hide each other.
PICTURED = 2000


class Run(NamedTuple):
    """The result of one run.

    Attributes:
        metrics: Name to number, on the test set after the last epoch.
        model: From images in [0, 255] to scores.
        features: Of the pictured test images, before the first epoch and
            after each, float32 `(samples, 2)`.
        centers: Likewise, `(classes, 2)`; empty where there are none.
    """

    metrics: dict[str, float]
    model: keras.Model
    features: list[np.ndarray]
    centers: list[np.ndarray]


def pictured(data: ImageSet) -> np.ndarray:
    """Which test images are drawn, always the same ones."""
    count = len(data.test_labels)
    drawn = np.random.default_rng(0).permutation(count)[:PICTURED]
    return np.sort(drawn)


def train(
    variant: str, seed: int, data: ImageSet, options: argparse.Namespace
) -> Run:
    """Trains one variant with one seed.

    Raises:
        CommandError: If the training diverges.
    """
    model = build(
        variant, data.train_images.shape[1:], data.num_classes, options, seed
    )
    steps = -(-len(data.train_images) // options.batch_size)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                options.lr, steps * options.epochs
            )
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    shown = pictured(data)
    recorder = EmbeddingRecorder(
        (data.test_images[shown], data.test_labels[shown]),
        layer=FEATURES,
        batch_size=256,
    )
    started = time.perf_counter()
    history = model.fit(
        data.train_images,
        data.train_labels,
        batch_size=options.batch_size,
        epochs=options.epochs,
        verbose=0,
        callbacks=[
            recorder,
            Progress(f"{variant} seed {seed}"),
            keras.callbacks.TerminateOnNaN(),
        ],
    ).history
    seconds = time.perf_counter() - started
    if not np.isfinite(history["loss"]).all():
        raise CommandError(
            f"{variant}, seed {seed}: the loss became NaN or infinite in "
            f"epoch {len(history['loss'])}; lower --lr"
        )
    both = keras.Model(
        model.input, [model.get_layer(FEATURES).output, model.output]
    )
    features, scores = both.predict(data.test_images, batch_size=256, verbose=0)
    try:
        metrics = test_metrics(features, scores, data.test_labels)
    except ValueError as error:
        raise CommandError(f"{variant}, seed {seed}: {error}") from error
    metrics["seconds"] = seconds
    return Run(metrics, model, recorder.frames, recorder.centers)


def test_metrics(
    features: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """The metrics of a test set.

    Args:
        features: `(samples, 2)`.
        scores: `(samples, num_classes)`; the highest one wins.
        labels: `(samples,)`.

    Returns:
        Accuracy in [0, 1]; Recall@1 and the distance ratio of the features as
        they are, which a picture shows, and of their directions.
    """
    return {
        "accuracy": float(np.mean(scores.argmax(axis=1) == labels)),
        "recall_at_1": recall_at_k(features, labels, k=1, distance="euclidean"),
        "intra_inter_distance_ratio": intra_inter_distance_ratio(
            features, labels, distance="euclidean"
        ),
        "direction_recall_at_1": recall_at_k(features, labels, k=1),
        "direction_intra_inter_distance_ratio": intra_inter_distance_ratio(
            features, labels
        ),
    }

"""What scoring a tenth of the classes costs in accuracy, on real photos.

    python benchmarks/sampled_classes_accuracy.py --data-dir DIR --weights FILE

Every photo of the 21 sparrows of caltech_birds2011 is a class of its own:
1,244 of them. A frozen MobileNet (alpha 0.75, ImageNet) embeds random crops of
each; a linear embedding and a SoftTriple head learn on one crop to tell the
photo that a crop was cut from, and are tested on four others, with all classes
scored in each step and with a tenth. Accuracy at the last epoch, mean and 95 %
t-interval over the seeds.
"""

import argparse
import time

import keras
import numpy as np
from scipy import stats

import keras_finegrain
from keras_finegrain import datasets

TRAIN_CROPS, TEST_CROPS = 1, 4
BATCH, EPOCHS, DIM = 64, 40, 128


def crops(data_dir: str, weights: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings `(crops, photos, 768)` of random crops; a class each."""
    birds = datasets.load(
        "caltech_birds2011", data_dir=data_dir, classes="sparrow"
    )
    photos = birds.train.concatenate(birds.test).enumerate()
    photos = photos.map(lambda index, pair: (pair[0], index))
    images = datasets.batches(
        photos, image_size=224, batch_size=BATCH, training=True, cache=True
    )
    backbone = keras.applications.MobileNet(
        input_shape=(224, 224, 3),
        alpha=0.75,
        include_top=False,
        weights=weights,
        pooling="avg",
    )
    views = []
    for _ in range(TRAIN_CROPS + TEST_CROPS):
        pairs = [
            (backbone.predict_on_batch(x / 127.5 - 1), np.asarray(y))
            for x, y in images.as_numpy_iterator()
        ]
        features, labels = map(np.concatenate, zip(*pairs, strict=True))
        views.append(features[np.argsort(labels)])
    return np.stack(views), np.arange(len(views[0]))


def accuracy(
    views: np.ndarray, photos: np.ndarray, share: float, seed: int
) -> float:
    """Trains one head; its accuracy on the crops it has not seen."""
    keras.utils.set_random_seed(seed)
    model = keras_finegrain.Sequential(
        [
            keras.Input(views.shape[2:]),
            keras.layers.Dense(DIM),
            keras_finegrain.SoftTriple(
                len(photos), 2, sampled_share=share, seed=seed
            ),
        ]
    )
    steps = TRAIN_CROPS * len(photos) // BATCH * EPOCHS
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(3e-3, steps)
        ),
        keras_finegrain.losses.SoftTripleLoss(),
        metrics=["accuracy"],
    )
    train, test = views[:TRAIN_CROPS], views[TRAIN_CROPS:]
    model.fit(
        np.concatenate(train),
        np.tile(photos, TRAIN_CROPS),
        batch_size=BATCH,
        epochs=EPOCHS,
        verbose=0,
    )
    return model.evaluate(
        np.concatenate(test),
        np.tile(photos, TEST_CROPS),
        batch_size=256,
        verbose=0,
        return_dict=True,
    )["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    views, photos = crops(options.data_dir, options.weights)
    print(
        "| classes scored | accuracy % | seeds | time |\n|---:|---:|---:|---:|"
    )
    first = None
    for share in (1.0, 0.1):
        started = time.perf_counter()
        values = [
            100 * accuracy(views, photos, share, seed)
            for seed in range(options.seeds)
        ]
        seconds = time.perf_counter() - started
        first = first or seconds
        interval = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        print(
            f"| {share:.0%} | {np.mean(values):.1f} ± {interval:.1f} "
            f"| {len(values)} | {seconds / first:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Draws what center loss does to features of two dimensions."""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_finegrain
from keras_finegrain import callbacks, metrics, visualization

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--dataset", default="digits", help="or mnist, …")
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--seeds", type=int, nargs="+", default=[0])
parser.add_argument("--output", type=Path, default="runs/mnist_features")
options = parser.parse_args()

if options.dataset == "digits":
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8) * (255 / 16)  # 16 is white there.
    split = {"test_size": 0.2, "stratify": y, "random_state": 0}
    x, test_x, y, test_y = train_test_split(x, y, **split)
else:  # Downloaded on first use.
    source = getattr(keras.datasets, options.dataset)
    (x, y), (test_x, test_y) = source.load_data()


def build(variant):
    model = keras_finegrain.Sequential([keras.Input((*x.shape[1:], 1))])
    model.add(layers.Rescaling(1 / 255))
    # LeNets++ of the center loss paper, or a smaller one for 8 x 8 pixels.
    stages, side = ((32, 64), 3) if x.shape[1] < 28 else ((32, 64, 128), 5)
    for filters in stages:
        for _ in range(2):
            model.add(layers.Conv2D(filters, side, padding="same"))
            model.add(layers.PReLU(shared_axes=(1, 2)))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(2, name="features"))
    if variant == "center_loss":
        model.add(keras_finegrain.CenterLoss(10, loss_weight=0.1))
    model.add(layers.Dense(10))
    steps = options.epochs * -(-len(x) // 64)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


MEASURED = ("accuracy", "recall_at_1", "intra_inter_distance_ratio")
features, centers = {}, {}
for variant in ("softmax", "center_loss"):
    found = []
    for seed in options.seeds:
        keras.utils.set_random_seed(seed)
        model = build(variant)
        record = callbacks.EmbeddingRecorder((test_x, test_y), "features")
        model.fit(x, y, 64, options.epochs, verbose=2, callbacks=[record])
        logs = model.evaluate(test_x, test_y, verbose=0, return_dict=True)
        space = {"labels": test_y, "distance": "euclidean"}
        recall = metrics.recall_at_k(record.frames[-1], **space)
        ratio = metrics.intra_inter_distance_ratio(record.frames[-1], **space)
        found.append([logs["accuracy"], recall, ratio])
    half = stats.sem(found) * stats.t.ppf(0.975, len(found) - 1)
    for name, *row in zip(MEASURED, np.mean(found, axis=0), half, strict=True):
        # nan for one seed
        print(f"{variant}: {name} {row[0]:.3f} ± {row[1]:.3f}")
    features[variant] = record.frames[-1]
    if record.centers:
        centers[variant] = record.centers[-1]
    path, moved = options.output / f"{variant}.gif", record.centers or None
    visualization.embedding_animation(record.frames, test_y, path, None, moved)
axes = visualization.embedding_comparison(features, test_y, centers=centers)
visualization.save_figure(axes[0], options.output / "features.png")

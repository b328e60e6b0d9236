"""Trains on the synthetic birds and draws every picture of the package.

    python examples/see_birds.py

writes a page, `report.html`, and each picture as a file to `--output`, in some
minutes on 2 CPU cores and without a network.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import keras
import matplotlib
import numpy as np

import keras_finegrain
from keras_finegrain import callbacks, datasets, visualization
from keras_finegrain.datasets.synthetic_birds import draw, species_table

matplotlib.use("Agg")

IMAGE_SIZE = 64
CHANNELS_PER_CLASS = 3
CENTERS_PER_CLASS = 3


def build(num_classes: int) -> keras.Model:
    """A small network with all three layers of the package."""
    model = keras_finegrain.Sequential(
        [
            keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3)),
            keras.layers.Rescaling(1 / 255),
        ],
        name="birds",
    )
    for filters in (32, 64, 128):
        model.add(keras.layers.Conv2D(filters, 3, padding="same"))
        # Few steps: the default of 0.99 would lag behind.
        model.add(keras.layers.BatchNormalization(momentum=0.9))
        model.add(keras.layers.ReLU())
        model.add(keras.layers.MaxPooling2D())
    model.add(
        keras.layers.Conv2D(
            CHANNELS_PER_CLASS * num_classes, 1, activation="relu"
        )
    )
    model.add(
        keras_finegrain.MCLoss(
            # Of the settings in docs/part_scores.md these spread the channels
            # over the most parts.
            num_classes,
            loss_weight=0.3,
            diversity_weight=1,
            name="mc_loss",
        )
    )
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras_finegrain.CenterLoss(num_classes, name="center_loss"))
    model.add(
        keras_finegrain.SoftTriple(num_classes, CENTERS_PER_CLASS, name="head")
    )
    return model


def train(
    model: keras.Model,
    birds: datasets.ImageDataset,
    test: Any,
    epochs: int,
    log_dir: pathlib.Path,
) -> callbacks.EmbeddingRecorder:
    """Trains it, with every callback of the package."""
    images = datasets.batches(
        birds.train, image_size=IMAGE_SIZE, batch_size=32, training=True
    )
    steps = epochs * len(images)
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(3e-3, steps)
        ),
        keras_finegrain.losses.SoftTripleLoss(),
        metrics=["accuracy"],
    )
    recorder = callbacks.EmbeddingRecorder(test)
    model.fit(
        images,
        validation_data=test,
        epochs=epochs,
        shuffle=False,
        verbose=2,
        callbacks=[
            callbacks.EmbeddingMetrics(test),
            callbacks.CenterStatistics(),
            callbacks.EmbeddingProjector(
                log_dir, test, class_names=birds.class_names, frequency=epochs
            ),
            recorder,
        ],
    )
    return recorder


def draw_all(
    model: keras.Model,
    birds: datasets.ImageDataset,
    test: Any,
    recorder: callbacks.EmbeddingRecorder,
    folder: pathlib.Path,
) -> None:
    """Draws each picture into a file."""
    names = birds.class_names
    images = np.concatenate([np.asarray(x) for x, _ in test])
    embeddings, labels = recorder.frames[-1], recorder.labels
    predicted = model.predict(images, verbose=0).argmax(axis=1)
    centers = keras.ops.convert_to_numpy(model.get_layer("head").centers)

    def save(name: str, axis: Any) -> None:
        path = visualization.save_figure(axis, folder / name, dpi=100)
        matplotlib.pyplot.close(axis.figure)
        print(path, flush=True)

    save("class_grid.jpg", visualization.class_grid(images, labels, names))
    axes = visualization.embedding_comparison(
        {"before training": recorder.frames[0], "after": embeddings},
        labels,
        names,
    )
    save("embedding_comparison.png", axes[0])
    save(
        "look_alike_confusions.png",
        visualization.look_alike_confusions(labels, predicted, names),
    )
    save(
        "retrieval_gallery.jpg",
        visualization.retrieval_gallery(
            images, embeddings, labels, class_names=names
        ),
    )
    save("center_distances.png", visualization.center_distances(centers, names))
    save(
        "center_images.jpg",
        visualization.center_images(
            centers, embeddings, labels, images, names, classes=range(4)
        ),
    )
    visualization.embedding_animation(
        recorder.frames,
        labels,
        folder / "embedding.html",
        names,
        titles=[f"epoch {epoch}" for epoch in recorder.epochs],
    )
    draw_channels(model, names, save)


def draw_channels(
    model: keras.Model,
    names: tuple[str, ...],
    save: Callable[[str, Any], None],
) -> None:
    """Draws the channels of a class, and Grad-CAM, on a new photo."""
    label = 1
    species = species_table(num_species=len(names), parts_apart=2)[label]
    photo, annotations = draw(species, seed=3, size=IMAGE_SIZE)
    parts = {
        name: point
        for name, point in annotations.parts.items()
        if point.visible and name in ("beak", "crown", "breast", "tail")
    }
    to_map = keras.Model(model.inputs, model.get_layer("mc_loss").output)
    feature_map = to_map.predict(photo[None], verbose=0)[0]
    channels = visualization.class_channels(
        feature_map.shape[-1], len(names), label
    )
    save(
        "channel_strip.png",
        visualization.channel_strip(
            photo, feature_map, channels, names[label], parts
        ),
    )
    save(
        "channel_overlay.png",
        visualization.channel_overlay(photo, feature_map, channels, parts),
    )
    heat = visualization.grad_cam(model, photo.astype("float32"), label)
    save(
        "grad_cam.png",
        visualization.heat_map_overlay(photo, heat, title=names[label]),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="where the birds are drawn to")
    parser.add_argument(
        "--dataset",
        default="synthetic_birds",
        choices=["synthetic_birds", "synthetic_birds/tiny"],
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--output", default="runs/see_birds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    folder = pathlib.Path(options.output)
    keras.utils.set_random_seed(options.seed)
    birds = datasets.load(options.dataset, data_dir=options.data_dir)
    test = datasets.batches(
        birds.test,
        image_size=IMAGE_SIZE,
        batch_size=32,
        training=False,
        cache=True,
    )
    model = build(birds.num_classes)
    recorder = train(model, birds, test, options.epochs, folder / "projector")
    model.save(folder / "birds.keras")
    draw_all(model, birds, test, recorder, folder)
    path = keras_finegrain.report(
        model, test, folder / "report.html", birds.class_names
    )
    print(path)


if __name__ == "__main__":
    sys.exit(main())

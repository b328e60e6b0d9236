"""Trains on the synthetic birds and draws what the network has learned.

python examples/see_birds.py; docs/seeing.md shows the pictures.
"""

import argparse
import pathlib

import keras
import numpy as np

import keras_finegrain
from keras_finegrain import callbacks, datasets
from keras_finegrain import visualization as see
from keras_finegrain.datasets.synthetic_birds import draw, species_table

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--dataset", default="synthetic_birds")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--output", default="runs/see_birds")
options = parser.parse_args()
folder = pathlib.Path(options.output)

keras.utils.set_random_seed(0)
birds = datasets.load(options.dataset)
names, classes = birds.class_names, birds.num_classes
sizes = {"image_size": 64, "batch_size": 32}
train = datasets.batches(birds.train, **sizes, training=True)
test = datasets.batches(birds.test, **sizes, training=False, cache=True)

model = keras_finegrain.Sequential([keras.Input((64, 64, 3))], name="birds")
model.add(keras.layers.Rescaling(1 / 255))
for filters in (32, 64, 128):
    model.add(keras.layers.Conv2D(filters, 3, padding="same"))
    model.add(keras.layers.BatchNormalization(momentum=0.9))
    model.add(keras.layers.ReLU())
    model.add(keras.layers.MaxPooling2D())
model.add(keras.layers.Conv2D(3 * classes, 1, activation="relu"))
# These weights spread the channels over the most parts: docs/part_scores.md.
model.add(keras_finegrain.MCLoss(classes, 0.3, diversity_weight=1, name="mc"))
model.add(keras.layers.GlobalAveragePooling2D())
model.add(keras_finegrain.CenterLoss(classes))
model.add(keras_finegrain.SoftTriple(classes, centers_per_class=3, name="head"))
rate = keras.optimizers.schedules.CosineDecay(3e-3, options.epochs * len(train))
loss = keras_finegrain.losses.SoftTripleLoss()
model.compile(keras.optimizers.AdamW(rate), loss, metrics=["accuracy"])
record = callbacks.EmbeddingRecorder(test)
model.fit(
    train, epochs=options.epochs, callbacks=[record], validation_data=test
)

images = np.concatenate([x.numpy() for x, _ in test])
labels, after = record.labels, record.frames[-1]
taken_for = model.predict(images, verbose=0).argmax(axis=1)
centers = keras.ops.convert_to_numpy(model.get_layer("head").centers)
# A bird of its own, with the places of its parts.
species = species_table(num_species=classes, parts_apart=2)[1]
photo, annotations = draw(species, seed=3, size=64)
parts = {k: annotations.parts[k] for k in ("beak", "crown", "tail")}
to_map = keras.Model(model.inputs, model.get_layer("mc").output)
maps = to_map.predict(photo[None], verbose=0)[0]
channels = see.class_channels(maps.shape[-1], classes, 1)
heat = see.grad_cam(model, photo.astype("float32"), 1)
stages = {"before training": record.frames[0], "after": after}
pictures = {
    "classes": see.class_grid(images, labels, names),
    "embedding": see.embedding_comparison(stages, labels, names)[0],
    "confusions": see.look_alike_confusions(labels, taken_for, names),
    "gallery": see.retrieval_gallery(images, after, labels, None, names),
    "center_distances": see.center_distances(centers, names),
    "centers": see.center_images(
        centers, after, labels, images, names, classes=range(4)
    ),
    "channels": see.channel_strip(photo, maps, channels, names[1], parts),
    "grad_cam": see.heat_map_overlay(photo, heat, title=names[1]),
}
for name, axes in pictures.items():
    see.save_figure(axes, folder / f"{name}.png")
keras_finegrain.report(model, test, folder / "report.html", names)

"""Writes the model that every later version must read.

    KERAS_BACKEND=tensorflow python tests/data/make_saved_models.py FOLDER

Once for each backend: the weights and inputs are the same, drawn from a seed.
What is committed stays as it is: a new version adds files of its own beside
it.
"""

import pathlib
import sys
import zipfile

import keras
import numpy as np

import keras_finegrain
from keras_finegrain import layers, losses, optimizers, regularizers


def make_model() -> keras.Model:
    """A model with every layer, a regularizer, a loss and an optimizer."""
    inputs = keras.Input((4, 4, 3), name="image")
    maps = keras.layers.Conv2D(4, 3, activation="tanh", name="conv")(inputs)
    maps = layers.MCLoss(2, loss_weight=0.1, seed=1, name="mc")(maps)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(maps)
    pooled = layers.CenterLoss(2, loss_weight=0.1, name="center")(pooled)
    scores = layers.SoftTriple(2, 3, name="soft_triple")(pooled)
    cosines = layers.CosineSimilarity(
        2,
        2,
        pooling="soft",
        centers_regularizer=regularizers.CenterMerging(0.1),
        name="cosine",
    )(pooled)
    model = keras_finegrain.Model(inputs, [scores, cosines])
    model.compile(
        optimizers.LayerwiseLearningRate("sgd", {"soft_triple/": 10.0}),
        [losses.SoftTripleLoss(), losses.ArcFaceLoss(scale=8.0)],
    )
    return model


def draw(model: keras.Model) -> np.ndarray:
    """Sets all weights, and returns images."""
    generator = np.random.default_rng(0)
    for weight in sorted(model.weights, key=lambda weight: weight.path):
        if "seed" not in weight.path:
            weight.assign(generator.normal(size=weight.shape))
    return generator.normal(size=(5, 4, 4, 3)).astype("float32")


def main() -> None:
    """Writes the model, and what it gives on TensorFlow."""
    folder = pathlib.Path(sys.argv[1])
    model = make_model()
    images = draw(model)
    backend = keras.backend.backend()
    path = folder / f"model_0_1_{backend}.keras"
    model.save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    # (Keras does not compress.)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    if backend == "tensorflow":
        scores, cosines = model.predict(images, verbose=0)
        np.savez(
            folder / "model_0_1.npz",
            images=images,
            scores=scores,
            cosines=cosines,
        )


if __name__ == "__main__":
    main()

"""TensorBoard itself must find what the callback wrote."""

import keras
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins import base_plugin
from tensorboard.plugins.projector import (
    ProjectorConfig,
    projector_plugin,
)
from werkzeug.test import Client

from keras_finegrain.callbacks import EmbeddingProjector
from keras_finegrain.embedding import embed, embedding_model

NAMES = ["Song Sparrow", "Junco"]


def data(samples=10, channels=3, brightest=255):
    x = np.zeros((samples, 6, 8, channels), "float32")
    x += np.linspace(0, brightest, samples)[:, None, None, None]
    return x, np.arange(samples) % 2


def classifier(channels=3):
    model = keras.Sequential(
        [
            keras.Input((6, 8, channels)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
            keras.layers.Dense(2),
        ]
    )
    model.compile(
        keras.optimizers.SGD(1e-6),
        keras.losses.SparseCategoricalCrossentropy(True),
    )
    return model


def fit(folder, epochs=3, **arguments):
    model = classifier()
    callback = EmbeddingProjector(folder, data(), **arguments)
    model.fit(*data(), epochs=epochs, verbose=0, callbacks=[callback])
    return model


def test_tensorboard_serves_embeddings_names_and_pictures(tmp_path):
    model = fit(tmp_path, class_names=NAMES, thumbnail_size=4)
    context = base_plugin.TBContext(logdir=str(tmp_path))
    plugin = projector_plugin.ProjectorPlugin(context)
    apps = plugin.get_plugin_apps()

    def get(app, **query):
        query = {"run": ".", **query}
        response = Client(apps[app]).get("/", query_string=query)
        assert response.status_code == 200, response.data
        return response

    config = get("/info").get_json()
    names = [entry["tensorName"] for entry in config["embeddings"]]
    assert names == ["epoch_0003", "epoch_0002", "epoch_0001"]
    tensor = get("/tensor", name="epoch_0003").data
    served = np.frombuffer(tensor, np.float32).reshape(10, 3)
    expected, _ = embed(embedding_model(model), data())
    np.testing.assert_allclose(served, expected, rtol=1e-5)
    lines = get("/metadata", name="epoch_0003").text.splitlines()
    assert lines[:3] == ["class\tlabel", "Song Sparrow\t0", "Junco\t1"]
    assert len(lines) == 11
    sprite = get("/sprite_image", name="epoch_0003").data
    assert sprite == (tmp_path / "sprite.png").read_bytes()


@pytest.mark.parametrize("brightest", [1, 255])
def test_each_thumbnail_stands_in_its_place(tmp_path, brightest):
    model = classifier(channels=1)
    images = data(channels=1, brightest=brightest)
    model.fit(
        *images,
        verbose=0,
        callbacks=[EmbeddingProjector(tmp_path, images, thumbnail_size=4)],
    )

    sheet = np.asarray(Image.open(tmp_path / "sprite.png"))

    # Ten samples in rows of four.
    assert sheet.shape == (16, 16, 3)
    shades = sheet[::4, ::4, 0].reshape(-1)
    expected = np.round(np.linspace(0, 255, 10))
    np.testing.assert_allclose(shades[:10], expected, atol=1)
    assert not shades[10:].any()


def test_without_pictures_and_names_only_numbers_are_written(tmp_path):
    fit(tmp_path, thumbnails=False)

    config = ProjectorConfig()
    text = (tmp_path / "projector_config.pbtxt").read_text()
    text_format.Parse(text, config)
    assert not any(entry.HasField("sprite") for entry in config.embeddings)
    assert not (tmp_path / "sprite.png").exists()
    assert (tmp_path / "metadata.tsv").read_text() == "0\n1\n" * 5


def test_the_last_epoch_is_written_whatever_the_frequency(tmp_path):
    fit(tmp_path, epochs=5, frequency=2, thumbnails=False)

    written = sorted(path.name for path in tmp_path.glob("epoch_*"))
    assert written == ["epoch_0002.tsv", "epoch_0004.tsv", "epoch_0005.tsv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["one"]}, "received 1 and a maximum of 1"),
        ({"thumbnail_size": 8192}, "at most 1 samples .*received 10"),
    ],
)
def test_what_does_not_fit_is_an_error_before_training(
    tmp_path, arguments, message
):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, **arguments)


def test_vectors_have_no_thumbnails(tmp_path):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(3), keras.layers.Dense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    vectors = np.ones((4, 6)), np.arange(4) % 2

    with pytest.raises(ValueError, match="thumbnails=False"):
        model.fit(
            *vectors,
            verbose=0,
            callbacks=[EmbeddingProjector(tmp_path, vectors)],
        )

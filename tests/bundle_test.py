"""Bundles: a trained model with all that an answer needs."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_finegrain
from keras_finegrain.bundle import TESTED

NAMES = ("red", "blue")


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )


def bundle(**kwargs):
    return keras_finegrain.Bundle(model(), NAMES, 8, **kwargs)


def test_a_saved_bundle_gives_the_same_answers(tmp_path):
    pytest.importorskip("faiss")
    # A path whose bytes are no UTF-8.
    about = {"method": "softmax", "data_path": "caf\udce9"}
    whole = bundle(temperature=0.5, about=about)
    photos = np.zeros((2, 8, 8, 3), "float32")
    photos[0, ..., 0] = photos[1, ..., 2] = 250
    whole.gallery = keras_finegrain.Gallery.of(
        whole.model, (photos, np.array([0, 1])), NAMES
    )
    yellow = photos[0] + np.array([0, 250, 0])
    whole.add(yellow, "yellow")
    whole.save(tmp_path)
    again = keras_finegrain.Bundle.load(tmp_path)
    np.testing.assert_allclose(
        again.predict(photos), whole.predict(photos), atol=1e-6
    )
    assert again.about == about
    assert [a.class_name for a in again.identify(photos)] == list(NAMES)
    nearest = again.similar(yellow, k=1)[0][0]
    assert nearest.class_name == "yellow"


@pytest.mark.parametrize("part", ["model", "gallery"])
def test_a_bundle_stays_when_the_disk_is_full(tmp_path, monkeypatch, part):
    pytest.importorskip("faiss")
    whole = bundle(about={"number": 1})
    photos = np.zeros((2, 8, 8, 3), "float32")
    photos[0, ..., 0] = photos[1, ..., 2] = 250
    whole.gallery = keras_finegrain.Gallery.of(
        whole.model, (photos, np.array([0, 1])), NAMES
    )
    whole.save(tmp_path)
    files = sorted(tmp_path.iterdir())

    def full(path):
        raise OSError(28, "No space left on device")

    again = dataclasses.replace(whole, about={"number": 2})
    monkeypatch.setattr(getattr(again, part), "save", full)
    with pytest.raises(OSError, match="No space left"):
        again.save(tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    earlier = keras_finegrain.Bundle.load(tmp_path)
    assert earlier.about == {"number": 1}
    assert len(earlier.gallery) == 2


def test_files_are_read_as_the_model_takes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (20, 12), "red").save(tmp_path / "a.png")
    Image.new("RGB", (9, 30), "blue").save(tmp_path / "b.png")
    images = np.zeros((2, 8, 8, 3))
    images[0, ..., 0] = images[1, ..., 2] = 255
    whole = bundle(temperature=1.0)
    expected = whole.predict(images)
    paths = [tmp_path / "a.png", str(tmp_path / "b.png")]
    for photos in (tmp_path, "~", paths, iter(paths)):
        found = whole.predict(photos, batch_size=1)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_of_a_run_the_method_that_is_right_most_often_is_loaded(tmp_path):
    for method, right in (("a", 1), ("b", 2), ("c", 0)):
        own = tmp_path / method
        bundle(about={"method": method}).save(own)
        scores = np.eye(2)[[0] * right + [1] * (2 - right)]
        np.savez(own / TESTED, labels=np.zeros(2, int), scores=scores)
    assert keras_finegrain.Bundle.load(tmp_path).about["method"] == "b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("a",)}, "one name for each score, received 1 name"),
        ({"image_size": 9}, "image_size must be that of the model"),
        ({"temperature": 0}, "temperature must be a finite number above 0"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(change, message):
    given = {"model": model(), "class_names": NAMES, "image_size": 8}
    with pytest.raises(ValueError, match=message):
        keras_finegrain.Bundle(**(given | change))


def test_no_photos_have_no_probabilities():
    assert bundle().predict(np.zeros((0, 8, 8, 3))).shape == (0, 2)


def test_photos_of_another_shape_and_no_gallery_are_said():
    with pytest.raises(ValueError, match=r"of the shape \(n, 8, 8, 3\)"):
        bundle().predict(np.zeros((1, 9, 9, 3)))
    with pytest.raises(ValueError, match="has no gallery"):
        bundle().identify(np.zeros((8, 8, 3)))


def test_damaged_and_newer_bundles_are_named(tmp_path):
    with pytest.raises(ValueError, match="must be the folder of a bundle"):
        keras_finegrain.Bundle.load(tmp_path)
    bundle().save(tmp_path)
    description = tmp_path / "bundle.json"
    newer = json.loads(description.read_text()) | {"format": 99}
    description.write_text(json.dumps(newer))
    with pytest.raises(ValueError, match="has the format 99"):
        keras_finegrain.Bundle.load(tmp_path)
    description.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        keras_finegrain.Bundle.load(tmp_path)
    bundle().save(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"half")
    with pytest.raises(ValueError, match="cannot be read"):
        keras_finegrain.Bundle.load(tmp_path)

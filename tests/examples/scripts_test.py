"""The scripts that people copy run as they stand."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest

for package in ("tensorflow_datasets", "PIL", "faiss"):
    pytest.importorskip(package)

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def script(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_scripts_that_people_copy_are_short_and_use_public_names():
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) < 80, path.name
        assert "keras_finegrain._" not in text, path.name


def test_every_script_is_run_by_a_test():
    tests = "".join(
        path.read_text() for path in pathlib.Path(__file__).parent.glob("*.py")
    )
    for path in EXAMPLES.glob("*.py"):
        assert path.name in tests or f'script("{path.stem}")' in tests


def test_train_birds_leaves_a_model_with_the_accuracy_that_it_says(tmp_path):
    output = tmp_path / "birds.keras"
    accuracy = script("train_birds")(
        [
            *("synthetic_birds/tiny", "--epochs", "1", "--image-size", "16"),
            *("--output", str(output)),
        ]
    )
    assert 0 <= accuracy <= 1
    model = keras.models.load_model(output)
    assert model.predict(np.zeros((1, 16, 16, 3)), verbose=0).ndim == 2


def test_retrieval_keeps_an_embedding_and_says_how_good_it_is(tmp_path):
    output = tmp_path / "retrieval.keras"
    found = script("retrieval")(
        [
            *("synthetic_birds/tiny", "--epochs", "1", "--image-size", "16"),
            *("--classes-per-batch", "2", "--output", str(output)),
        ]
    )
    for estimate in found.values():
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    model = keras.models.load_model(output)
    assert model.predict(np.zeros((1, 16, 16, 3)), verbose=0).shape == (1, 64)


def test_identify_names_known_photos_and_a_class_that_it_has_just_learned(
    tmp_path,
):
    import keras_finegrain

    colors = {"red": (200, 0, 0), "blue": (0, 0, 200), "green": (0, 200, 0)}
    rng = np.random.default_rng(0)
    images = {
        name: np.clip(rng.integers(0, 50, (5, 8, 8, 3)) + color, 0, 255)
        for name, color in colors.items()
    }
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    photos = np.concatenate([images["red"], images["blue"]]).astype("float32")
    gallery = keras_finegrain.Gallery.of(
        model, (photos, np.repeat([0, 1], 5)), ["red", "blue"]
    )
    bundle = keras_finegrain.Bundle(model, ["red", "blue"], 8, gallery=gallery)
    bundle.save(tmp_path / "bundle")
    green = tmp_path / "green"
    green.mkdir()
    from PIL import Image

    for number, image in enumerate(images["green"]):
        Image.fromarray(image.astype("uint8")).save(green / f"{number}.png")
    Image.fromarray(images["red"][0].astype("uint8")).save(tmp_path / "r.png")

    names = script("identify")(
        [
            *(str(tmp_path / "bundle"), str(tmp_path / "r.png")),
            *(str(green / "0.png"), "--learn", "green", str(green)),
        ]
    )

    assert names == ["red", "green"]

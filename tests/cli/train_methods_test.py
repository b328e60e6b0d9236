"""Every method trains by its name, those on pairs included."""

import csv
import json

import keras
import numpy as np
import pytest

for package in ("tensorflow_datasets", "matplotlib", "sklearn", "tqdm", "PIL"):
    pytest.importorskip(package)


def test_the_command_knows_every_method_by_its_name(command):
    from keras_finegrain.cli.train_arguments import DEFAULT_METHODS, METHODS
    from keras_finegrain.training import methods

    assert set(METHODS) == set(methods.METHODS)
    assert len(METHODS) == len(methods.METHODS)
    assert METHODS[: len(DEFAULT_METHODS)] == DEFAULT_METHODS


@pytest.fixture(scope="module")
def run(folder, command, tmp_path_factory):
    """A method on similarities and one on pairs, for two epochs."""
    output = tmp_path_factory.mktemp("run") / "output"
    status = command(
        [
            *(str(folder), "--method", "triplet_all", "arcface"),
            *("--image-size", "16", "--epochs", "2", "--batch-size", "12"),
            *("--loss-args", "margin=0.3", "--output", str(output)),
        ]
    )
    assert status == 0
    return output


def test_a_method_on_pairs_stands_in_the_table_beside_a_classifier(run):
    seeds = json.loads((run / "results.json").read_text())["seeds"]
    assert list(seeds) == ["triplet_all", "arcface"]
    for metrics in seeds.values():
        assert 0 <= metrics["0"]["top_1"] <= 1
        assert 0 <= metrics["0"]["recall_at_1"] <= 1
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["triplet_all"] * 2 + (
        ["arcface"] * 2
    )
    assert rows[0]["accuracy"] == ""
    assert float(rows[2]["accuracy"]) >= 0
    assert (run / "learning_curves.png").stat().st_size > 5000


def test_the_saved_model_classifies_by_the_nearest_class_mean(run, folder):
    from keras_finegrain import datasets

    data = datasets.load(str(folder))
    images, labels = next(
        iter(
            datasets.batches(
                data.train,
                image_size=16,
                batch_size=data.train_size,
                training=False,
            )
        )
    )
    images, labels = np.asarray(images), np.asarray(labels)
    model = keras.models.load_model(run / "triplet_all" / "model.keras")
    scores = model.predict(images, verbose=0)
    assert scores.shape == (data.train_size, 3)

    compared = keras.Model(model.input, model.get_layer("head").input)
    embeddings = compared.predict(images, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    means = np.stack([embeddings[labels == c].mean(0) for c in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(scores, embeddings @ means.T, atol=1e-5)


def test_a_frozen_backbone_feeds_balanced_batches_from_its_cache(
    folder, command, small_weights, tmp_path
):
    status = command(
        [
            *(str(folder), "--method", "n_pairs"),
            *("--image-size", "16", "--epochs", "1", "--batch-size", "4"),
            *("--images-per-class", "2", "--weights", str(small_weights)),
            *("--freeze", "relu_2", "--output", str(tmp_path / "output")),
        ]
    )
    assert status == 0
    # With no classifier among the methods the curves are those of the loss.
    assert (tmp_path / "output" / "learning_curves.png").exists()

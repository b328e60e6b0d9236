"""Every method trains by its name, those on pairs included."""

import csv
import json

import keras
import numpy as np
import pytest

import keras_finegrain

for package in ("tensorflow_datasets", "matplotlib", "sklearn", "tqdm", "PIL"):
    pytest.importorskip(package)


@pytest.fixture
def options(command):
    from birds_lib.arguments import parse_arguments

    return parse_arguments(["--soft-triple-centers", "2"])


def test_every_name_builds_a_head_whose_loss_takes_what_it_is_given(options):
    from birds_lib.arguments import METHODS
    from birds_lib.methods import build_head

    labels = np.array([0, 0, 1, 1, 2, 2])
    features = np.random.default_rng(0).normal(size=(6, 3, 3, 12))
    built = {}
    for method in METHODS:
        feature_map = keras.Input((3, 3, 12))
        head = build_head(method, feature_map, 3, options)
        model = keras_finegrain.Model(feature_map, head.trained)
        value = head.loss(labels, model(features))
        assert np.isfinite(float(value)), method
        assert head.scores.shape == (None, 3), method
        built[method] = type(head.loss)
    # One word, one method: what shares a loss differs in its head.
    assert built["arcface"] is built["subcenter_arcface"]
    assert built["soft_triple"] is built["hard_triple"]
    assert built["triplet_hard"] is built["triplet_soft"]
    # (As softmax, center and mc share Keras's cross-entropy.)
    assert len(set(built.values())) == len(METHODS) - 5


def test_the_arguments_of_a_loss_reach_it(options):
    from birds_lib.methods import build_loss

    options.loss_args = [("scale", 16), ("margin", 0.3)]
    loss = build_loss("arcface", options)
    assert (loss.scale, loss.margin) == (16, 0.3)
    options.loss_args = [("margin", 0.5)]
    loss = build_loss("triplet", options)
    assert (loss.margin, loss.distance_metric) == (0.5, "squared-L2")


@pytest.fixture(scope="module")
def run(folder, command, tmp_path_factory):
    """A method on similarities and one on pairs, for two epochs."""
    output = tmp_path_factory.mktemp("run") / "output"
    status = command(
        [
            *("--dataset", str(folder), "--method", "triplet_all", "arcface"),
            *("--image-size", "16", "--epochs", "2", "--batch-size", "12"),
            *("--loss-args", "margin=0.3", "--output", str(output)),
        ]
    )
    assert status == 0
    return output


def test_a_method_on_pairs_stands_in_the_table_beside_a_classifier(run):
    seeds = json.loads((run / "results.json").read_text())["seeds"]
    assert list(seeds) == ["triplet_all", "arcface"]
    for figures in seeds.values():
        assert 0 <= figures["0"]["top_1"] <= 1
        assert 0 <= figures["0"]["recall_at_1"] <= 1
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
    model = keras.models.load_model(run / "triplet_all.keras")
    scores = model.predict(images, verbose=0)
    assert scores.shape == (data.train_size, 3)

    compared = keras.Model(model.input, model.get_layer("head").input)
    embeddings = compared.predict(images, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    means = np.stack([embeddings[labels == c].mean(0) for c in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(scores, embeddings @ means.T, atol=1e-5)


def test_the_learning_rate_falls_over_the_steps_that_there_are(
    folder, command, small_weights
):
    import contextlib

    from birds_lib.arguments import parse_arguments
    from birds_lib.training import Trainer

    from keras_finegrain import datasets

    # Six images of each of three classes in fives are two groups each, and
    # three batches of two groups; without balance they would be two of ten.
    options = parse_arguments(
        [
            *("--dataset", str(folder), "--image-size", "16"),
            *("--epochs", "2", "--batch-size", "10", "--lr", "0.01"),
            *("--images-per-class", "5", "--output", "unused"),
        ]
    )
    data = datasets.load(folder)
    trainer = Trainer(options, data, contextlib.nullcontext)
    rates = {}

    class LastRate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates[batch] = float(self.model.optimizer.learning_rate)

    build = trainer.build

    def observed(method, seed):
        models = build(method, seed)
        fit = models.model.fit
        models.model.fit = lambda *args, callbacks, **kwargs: fit(
            *args, callbacks=[*callbacks, LastRate()], **kwargs
        )
        return models

    trainer.build = observed
    trainer.train("triplet", 0)
    assert max(rates) == 2
    last = rates[2]
    assert 0 < last < 0.01 * 0.1


def test_a_frozen_backbone_feeds_balanced_batches_from_its_cache(
    folder, command, small_weights, tmp_path
):
    status = command(
        [
            *("--dataset", str(folder), "--method", "n_pairs"),
            *("--image-size", "16", "--epochs", "1", "--batch-size", "4"),
            *("--images-per-class", "2", "--weights", str(small_weights)),
            *("--freeze", "relu_2", "--output", str(tmp_path / "output")),
        ]
    )
    assert status == 0
    # With no classifier among the methods the curves are those of the loss.
    assert (tmp_path / "output" / "learning_curves.png").exists()


def test_balanced_features_hold_every_sample_and_the_classes_asked_for(command):
    from birds_lib.frozen import FeatureBatches

    labels = np.array([0] * 7 + [1] * 5 + [2] * 4)
    views = np.arange(2 * 16).reshape(2, 16, 1)
    batches = FeatureBatches(
        views, labels, batch_size=5, seed=0, balanced=(2, 2)
    )
    epochs = []
    for _ in range(2):
        parts = [batches[index] for index in range(len(batches))]
        for features, y in parts:
            assert sorted(np.unique(y, return_counts=True)[1]) == [2, 2]
            np.testing.assert_array_equal(labels[features[:, 0] % 16], y)
        epochs.append(np.concatenate([features for features, _ in parts]))
        assert set(epochs[-1][:, 0] % 16) == set(range(16))
        batches.on_epoch_end()
    assert epochs[0].tolist() != epochs[1].tolist()

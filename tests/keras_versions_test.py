"""What has to work under any Keras, the coming one too: short, and all of it.

`NIGHTLY=1 .ci/run` runs this file under keras-nightly.
"""

import os

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain._base.private_keras import trains_on_ranks
from tests import workers

BACKEND = keras.backend.backend()
CLASSES = 3
BASES = ("MarginSoftmaxLoss",)
NEEDED = {
    "COCOLoss": {"num_classes": CLASSES},
    "LogitAdjustedLoss": {"class_counts": [1, 2, 3]},
}


def data():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(12, 6, 6, 3)).astype("float32")
    return images, np.arange(12, dtype="int32") % CLASSES


def layers_model():
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(6, 3)(image)
    x = keras_finegrain.MCLoss(CLASSES)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras_finegrain.CenterLoss(CLASSES)(x)
    model = keras_finegrain.Model(image, keras_finegrain.SoftTriple(CLASSES)(x))
    optimizer = keras_finegrain.optimizers.LayerwiseLearningRate(
        keras.optimizers.Adam(0.01), {"soft_triple": 10}
    )
    model.compile(optimizer, keras_finegrain.losses.SoftTripleLoss())
    return model


def test_the_layers_train_are_saved_and_train_on(tmp_path):
    images, labels = data()
    model = layers_model()
    logs = model.fit(
        images, labels, batch_size=6, validation_data=data(), verbose=0
    ).history
    assert all(np.isfinite(values).all() for values in logs.values())
    assert np.any(keras.ops.convert_to_numpy(model.layers[-2].centers))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    loaded.fit(images, labels, batch_size=6, verbose=0)


def test_a_sequential_model_trains():
    images, labels = data()
    model = keras_finegrain.Sequential(
        [
            keras.layers.Flatten(),
            keras_finegrain.CenterLoss(CLASSES),
            keras_finegrain.CosineSimilarity(CLASSES, sampled_share=1.0),
        ]
    )
    model.compile("sgd", keras_finegrain.losses.ArcFaceLoss())
    logs = model.fit(images, labels, batch_size=6, verbose=0).history
    assert np.isfinite(logs["loss"]).all()


def head_of(loss):
    if loss.takes_logits:
        return "logits"
    return "densities" if loss.takes_densities else loss.scores_classes


def test_every_loss_trains():
    images, labels = data()
    x = keras.layers.Flatten()(image := keras.Input((6, 6, 3)))
    embedding = keras.layers.Dense(4)(x)
    heads = {
        False: embedding,
        True: keras_finegrain.CosineSimilarity(CLASSES)(embedding),
        "logits": keras.layers.Dense(CLASSES)(embedding),
    }
    classes = vars(keras_finegrain.losses)
    losses = {
        name: classes[name](**NEEDED.get(name, {}))
        for name in keras_finegrain.losses.__all__
        if name.endswith("Loss") and name not in BASES
    }
    heads["densities"] = keras_finegrain.layers.GaussianMixture(CLASSES)(
        embedding
    )
    outputs = {
        name: keras.layers.Identity(name=name)(heads[head_of(loss)])
        for name, loss in losses.items()
    }
    model = keras_finegrain.Model(image, outputs)
    model.compile("sgd", losses)
    logs = model.fit(
        images, dict.fromkeys(losses, labels), batch_size=12, verbose=0
    ).history
    assert np.isfinite(logs["loss"]).all()


@pytest.mark.slow
@pytest.mark.skipif(
    "dev" not in keras.__version__,
    reason="tests/distribution_test.py has it for what is published",
)
def test_two_replicas_train_like_one(tmp_path):
    # (Keras shards no ragged batch on JAX, and has no normalisation over the
    # processes of PyTorch.)
    scenario = "all_layers" if BACKEND == "jax" else "soft_triple_ragged"
    program = ["-m", "tests.programs.replicas"]
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    processes = [workers.start([*program, 1, one, scenario], os.environ)]
    if BACKEND == "torch":
        processes += [
            workers.start([*program, 1, tmp_path / name, scenario], each)
            for name, each in zip(
                ("two.npz", "other.npz"),
                workers.worker_environments(2),
                strict=True,
            )
        ]
    else:
        processes.append(
            workers.start([*program, 2, two, scenario], os.environ)
        )
    workers.finish(processes)
    with np.load(one) as expected, np.load(two) as results:
        assert f"{scenario}/fit loss" in expected
        if BACKEND != "torch" or trains_on_ranks():
            assert f"{scenario}/fit loss" in results
        for key in results.files:
            np.testing.assert_allclose(
                results[key], expected[key], 1e-6, 1e-6, err_msg=key
            )

"""What is written is read: configs, files, and files of other backends."""

import inspect
import pathlib

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import layers, losses, regularizers
from tests.data import make_saved_models

DATA = pathlib.Path(__file__).parents[1] / "data"
BACKENDS = ("tensorflow", "jax", "torch")
# An argument of each class is another than its default.
OBJECTS = [
    losses.ArcFaceLoss(margin=0.3),
    losses.CenterContrastiveLoss(center_weight=0.5),
    losses.CombinedMarginLoss(cosine_margin=0.1),
    losses.ContrastiveLoss(exponent=1.0),
    losses.CosFaceLoss(scale=30.0, margin=[0.1, 0.2, 0.3]),
    losses.CosineLoss(reduction="sum"),
    losses.COCOLoss(3, epsilon=0.1),
    losses.LogitAdjustedLoss([4, 2, 1], tau=0.5),
    losses.LargeMarginGaussianMixtureLoss(margin=0.3),
    losses.MultiSimilarityLoss(epsilon=None),
    losses.SupConLoss(0.3),
    losses.CircleLoss(0.1, 20.0),
    losses.NPairsLoss(name="pairs"),
    losses.NormFaceLoss(scale=3.0),
    losses.ProxyAnchorLoss(margin=0.2),
    losses.ProxyNCALoss(scale=3.0),
    losses.ProxyNCAPlusPlusLoss(temperature=0.5),
    losses.SoftTripleLoss(margin=0.1),
    losses.SphereFaceLoss(margin=3),
    losses.TripletAllLoss(distance_metric="angular"),
    losses.TripletHardLoss(soft=True),
    losses.TripletSemiHardLoss(margin=0.2),
    layers.CenterLoss(3, update="gradient", ignore_class=-1),
    layers.ClassChannelPooling(3, [1, 2, 3], "channels_first"),
    layers.CosineSimilarity(
        3, centers_regularizer=regularizers.CenterMerging(0.1), seed=3
    ),
    layers.CrossBatchMemory(losses.SupConLoss(0.3), 20, warmup_steps=3),
    layers.GaussianMixture(3, means_initializer="zeros"),
    layers.GeneralizedMeanPooling2D(4.0, epsilon=1e-3, keepdims=True),
    layers.Jigsaw(4, data_format="channels_first", seed=3),
    layers.MCLoss(3, channels_per_class=[1, 2, 3], drop=False),
    layers.SoftTriple(3, 4, pooling="max", tau=0.0),
    regularizers.CenterMerging(0.7),
]


def test_every_public_class_is_among_the_objects():
    public = [
        getattr(module, name)
        for module in (losses, layers)
        for name in module.__all__
        if inspect.isclass(getattr(module, name))
    ]
    made = {type(item) for item in OBJECTS}
    # (The base of losses cannot be used by itself.)
    assert made >= set(public) - {losses.MarginSoftmaxLoss}


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: type(item).__name__)
def test_an_object_is_that_of_its_config(item):
    config = keras.saving.serialize_keras_object(item)
    again = keras.saving.deserialize_keras_object(config)

    assert type(again) is type(item)
    assert again.get_config() == item.get_config()
    # Every argument of the constructor is kept.
    arguments = inspect.signature(type(item)).parameters
    kept = set(item.get_config())
    # (SoftTriple's own regularizer is told by `tau`.)
    assert set(arguments) - {"kwargs"} <= kept


def compared(model, path):
    """That a model reads a file of this backend's or another's."""
    with np.load(DATA / "model_0_1.npz") as expected:
        found = model.predict(expected["images"], verbose=0)
        for name, output in zip(("scores", "cosines"), found, strict=True):
            np.testing.assert_allclose(
                output, expected[name], atol=2e-6, err_msg=str(path)
            )
        return expected["images"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_of_this_version_and_any_backend_is_read(backend):
    path = DATA / f"model_0_1_{backend}.keras"
    model = keras.saving.load_model(path)

    compared(model, path)
    assert type(model).__mro__[1] is keras_finegrain.Model
    assert [loss.name for loss in model.loss] == [
        "soft_triple_loss",
        "arc_face_loss",
    ]
    # (Which drew the weights of the file.)
    made = make_saved_models.make_model()
    make_saved_models.draw(made)
    for layer in ("center", "soft_triple", "cosine"):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(model.get_layer(layer).centers),
            keras.ops.convert_to_numpy(made.get_layer(layer).centers),
            rtol=1e-6,
        )
        assert model.get_layer(layer).get_config() == (
            made.get_layer(layer).get_config()
        )


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_a_file_written_now_is_read(tmp_path, ending):
    model = make_saved_models.make_model()
    images = make_saved_models.draw(model)
    path = tmp_path / f"model{ending}"
    if ending == ".keras":
        model.save(path)
        again = keras.saving.load_model(path)
    else:
        model.save_weights(path)
        again = make_saved_models.make_model()
        again.load_weights(path)

    assert not list(tmp_path.glob("*.partial"))
    np.testing.assert_array_equal(compared(again, path), images)

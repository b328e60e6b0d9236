"""Heads and losses that cannot go together are told so."""

import warnings

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import losses

X = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
LABELS = np.array([0, 0, 1, 1, 2, 2])
Crossentropy = keras.losses.SparseCategoricalCrossentropy


def cosines():
    return keras_finegrain.CosineSimilarity(3)


def fit(layers, loss, labels=LABELS, **kwargs):
    model = keras_finegrain.Sequential([keras.Input((5,)), *layers])
    # (Compiled each takes seconds.)
    model.compile("sgd", loss, run_eagerly=True, jit_compile=False)
    model.fit(X[: len(labels)], labels, verbose=0, **kwargs)


@pytest.mark.parametrize(
    ("layers", "loss", "message"),
    [
        (
            [keras_finegrain.SoftTriple(3)],
            "sparse_categorical_crossentropy",
            r"takes probabilities, received cosines.*losses\.SoftTripleLoss",
        ),
        ([cosines()], Crossentropy(), r"probabilities.*losses\.ArcFaceLoss"),
        (
            [cosines(), keras.layers.Rescaling(20.0)],
            Crossentropy(),
            "takes probabilities, received scaled cosines",
        ),
        (
            [keras_finegrain.layers.GaussianMixture(3)],
            Crossentropy(),
            "probabilities, received log-densities.*losses.LargeMarginGaussian",
        ),
        (
            [keras_finegrain.layers.GaussianMixture(3)],
            losses.ArcFaceLoss(),
            "takes cosines in .* received log-densities",
        ),
        (
            [keras.layers.Dense(3)],
            losses.LargeMarginGaussianMixtureLoss(),
            "takes log-densities, received unbounded logits.*GaussianMixture",
        ),
        (
            [keras.layers.Dense(3)],
            losses.ArcFaceLoss(),
            "takes cosines in .* received unbounded logits.*CosineSimilarity",
        ),
        (
            [keras.layers.Dense(3, activation="softmax")],
            losses.SoftTripleLoss(),
            "takes cosines in .* received probabilities of a softmax",
        ),
        (
            [keras.layers.Dense(3), keras.layers.Activation("softmax")],
            losses.ProxyAnchorLoss(),
            "takes cosines in .* received probabilities of a softmax",
        ),
        (
            [cosines()],
            losses.LogitAdjustedLoss([4, 2, 1]),
            "LogitAdjustedLoss takes logits, received cosines.*Rescaling",
        ),
        (
            [keras.layers.Dense(3, activation="softmax")],
            losses.LogitAdjustedLoss([4, 2, 1]),
            "takes logits, received probabilities.*without an activation",
        ),
        (
            [cosines(), keras.layers.Rescaling(20.0)],
            losses.NormFaceLoss(),
            "Leave the Rescaling out",
        ),
        (
            [keras_finegrain.SoftTriple(3), keras.layers.Dropout(0.0)],
            losses.TripletHardLoss(),
            "compares embeddings .* received cosines, of the layer 'soft_tri",
        ),
        (
            [keras.layers.Dense(3, activation="softmax")],
            losses.ContrastiveLoss(),
            "compares embeddings .* received probabilities of a softmax",
        ),
    ],
)
def test_pairs_that_cannot_train_are_refused(layers, loss, message):
    with pytest.raises(ValueError, match=message):
        fit(layers, loss)


@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ([keras_finegrain.SoftTriple(3)], Crossentropy(from_logits=True)),
        ([cosines(), keras.layers.Softmax()], Crossentropy()),
    ],
)
def test_unscaled_cosines_in_a_softmax_are_warned_of_once(layers, loss):
    with pytest.warns(UserWarning, match="never sure of a class") as caught:
        fit(layers, loss, epochs=2, batch_size=2)
    # (NumPy deprecates something of PyTorch's as well.)
    assert [warning.category for warning in caught].count(UserWarning) == 1


@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ([cosines()], losses.ArcFaceLoss()),
        (
            [keras_finegrain.layers.GaussianMixture(3)],
            losses.LargeMarginGaussianMixtureLoss(),
        ),
        (
            [keras_finegrain.layers.GaussianMixture(3)],
            Crossentropy(from_logits=True),
        ),
        ([cosines(), keras.layers.Activation("linear")], losses.CosFaceLoss()),
        (
            [cosines(), keras.layers.Rescaling(20.0)],
            Crossentropy(from_logits=True),
        ),
        ([keras.layers.Dense(3)], losses.TripletHardLoss()),
        ([keras.layers.Dense(3)], losses.CosineLoss()),
        ([keras.layers.Dense(3)], losses.LogitAdjustedLoss([4, 2, 1])),
        (
            [cosines(), keras.layers.Rescaling(20.0)],
            losses.LogitAdjustedLoss([4, 2, 1]),
        ),
        ([keras.layers.Dense(3)], Crossentropy(from_logits=True)),
        ([keras.layers.Dense(3, activation="softmax")], Crossentropy()),
        (
            [
                keras.layers.UnitNormalization(),
                keras.layers.Dense(
                    3,
                    use_bias=False,
                    kernel_initializer=keras.initializers.Constant(0.1),
                    kernel_constraint=keras.constraints.UnitNorm(),
                ),
            ],
            losses.CosFaceLoss(),
        ),
    ],
)
def test_pairs_that_train_are_not_talked_of(layers, loss):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(layers, loss)


@pytest.mark.parametrize("as_dict", [False, True], ids=["list", "dict"])
def test_each_of_several_outputs_is_held_to_its_own_loss(as_dict):
    inputs = keras.Input((5,))
    embedding = keras.layers.Dense(4, name="embedding")(inputs)
    head = keras_finegrain.CosineSimilarity(3, name="head")(embedding)
    outputs = {"head": head, "embedding": embedding}
    chosen = {
        "embedding": losses.TripletHardLoss(),
        "head": losses.ArcFaceLoss(),
    }
    swapped = dict(zip(chosen, reversed(chosen.values()), strict=True))

    def step(chosen):
        structure = outputs if as_dict else list(outputs.values())
        model = keras_finegrain.Model(inputs, structure)
        model.compile("sgd", chosen, run_eagerly=True, jit_compile=False)
        labels = dict.fromkeys(outputs, LABELS)
        model.fit(X, labels if as_dict else list(labels.values()), verbose=0)

    step(chosen)
    with pytest.raises(ValueError, match=r"layer '(head|embedding)'"):
        step(swapped)


def test_the_head_of_a_nested_model_is_found():
    head = keras.Sequential([keras.Input((5,)), cosines()])

    with pytest.raises(ValueError, match="takes probabilities"):
        fit([head], "sparse_categorical_crossentropy")


def test_a_compiled_step_says_the_same():
    model = keras_finegrain.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", losses.ArcFaceLoss())

    with pytest.raises(ValueError, match="received unbounded logits"):
        model.fit(X, LABELS, verbose=0)


@pytest.mark.parametrize(
    ("labels", "arguments"),
    [(np.arange(6), {}), (np.zeros(6, int), {}), (LABELS, {"batch_size": 1})],
)
def test_data_without_a_pair_is_refused(labels, arguments):
    with pytest.raises(ValueError, match=r"batches of `fit` must hold"):
        fit(
            [keras.layers.Dense(3)],
            losses.TripletHardLoss(),
            labels,
            **arguments,
        )


def test_data_without_a_pair_is_refused_in_lists_of_one_output():
    model = keras_finegrain.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", [losses.TripletHardLoss()])

    with pytest.raises(ValueError, match=r"batches of `fit` must hold"):
        model.fit(X, [np.arange(6)], verbose=0)

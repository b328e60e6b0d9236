"""Arguments that cannot be meant are refused, by one rule for each kind."""

import inspect

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import callbacks, losses, metrics
from keras_finegrain._base.checks import number, refuse_no_floats

HUGE = 10**400
EMBEDDINGS = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
LABELS = np.array([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (keras_finegrain.CenterLoss, {"normalize": "False"}, "True or False"),
        (keras_finegrain.MCLoss, {"drop": 0.5}, "True or False"),
        (keras_finegrain.CenterLoss, {"trainable": "no"}, "True or False"),
        (keras_finegrain.MCLoss, {"seed": -1}, r"in \[0, 2\*\*32\)"),
        (keras_finegrain.MCLoss, {"seed": "a"}, r"in \[0, 2\*\*32\)"),
        (keras_finegrain.SoftTriple, {"seed": 1.5}, r"in \[0, 2\*\*32\)"),
        (keras_finegrain.MCLoss, {"channels_per_class": []}, "a list of 3"),
        (keras_finegrain.MCLoss, {"channels_per_class": 2.5}, "a list of 3"),
        (keras_finegrain.MCLoss, {"data_format": ""}, "must be one of"),
        (keras_finegrain.CenterLoss, {"loss_weight": HUGE}, "finite number"),
        (keras_finegrain.CenterLoss, {"loss_weight": 1j}, "finite number"),
        (keras_finegrain.CenterLoss, {"loss_weight": 1e300}, "finite number"),
        (
            keras_finegrain.CenterLoss,
            {"centers_initializer": None},
            "must be an initializer.* None",
        ),
        (
            keras_finegrain.SoftTriple,
            {"centers_initializer": "zero-ish"},
            "must be an initializer.* 'zero-ish'",
        ),
        (
            keras_finegrain.CosineSimilarity,
            {"centers_regularizer": 0.1},
            "must be a regularizer",
        ),
        (keras_finegrain.CenterLoss, {"dtype": "int32"}, "of floats"),
        (keras_finegrain.SoftTriple, {"dtype": "no_dtype"}, "of floats"),
    ],
)
def test_layers(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(3, **arguments)


@pytest.mark.parametrize("value", [0, 2.5, HUGE, True, "3", [3], None])
def test_a_count_is_an_integer(value):
    with pytest.raises(ValueError, match="num_classes must be an integer"):
        keras_finegrain.SoftTriple(value)


@pytest.mark.parametrize(
    "loss", [loss for loss in vars(losses).values() if inspect.isclass(loss)]
)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("dtype", "int32"),
        ("dtype", "complex64"),
        ("dtype", "bool"),
        ("reduction", []),
        ("name", 3),
    ],
)
def test_losses(loss, argument, value):
    needed = {
        losses.COCOLoss: {"num_classes": 3},
        losses.LogitAdjustedLoss: {"class_counts": [1, 2, 3]},
        losses.MarginSoftmaxLoss: {"scale": 1.0, "name": "margin"},
    }
    arguments = {**needed.get(loss, {}), argument: value}

    with pytest.raises(ValueError, match=f"{argument} must be"):
        loss(**arguments)


@pytest.mark.parametrize("margin", [0, 65, 10**6, 2.5])
def test_sphere_face_takes_few_margins(margin):
    with pytest.raises(ValueError, match="margin must be"):
        losses.SphereFaceLoss(margin=margin)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.recall_at_k(EMBEDDINGS, LABELS, k=1000),
            "at most the number of neighbours, 5, received 1000",
        ),
        (
            lambda: metrics.embedding_metrics(EMBEDDINGS, LABELS, "recall@1"),
            "metrics must be a list of names",
        ),
        (
            lambda: metrics.nmi(EMBEDDINGS, LABELS, seed=-1),
            "seed must be an integer",
        ),
        (
            lambda: metrics.map_at_r(EMBEDDINGS + 1j, LABELS),
            "must be a dense tensor of real numbers, received complex",
        ),
        (
            lambda: metrics.map_at_r([[1.0], [1.0, 2.0]], LABELS),
            "must be an array of numbers",
        ),
        (
            lambda: callbacks.EmbeddingProjector(
                "log", (EMBEDDINGS, LABELS), class_names="abc"
            ),
            "must be a list of strings",
        ),
        (lambda: callbacks.EmbeddingMetrics(None), "data must be"),
        (lambda: callbacks.CenterStatistics(seed="a"), "seed must be"),
        (
            lambda: keras_finegrain.regularizers.center_spread(EMBEDDINGS),
            "centers must have the shape",
        ),
    ],
)
def test_metrics_and_callbacks(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "take",
    [
        keras_finegrain.CenterLoss(3),
        keras_finegrain.CosineSimilarity(3),
        lambda values: losses.ArcFaceLoss()(LABELS, values),
        lambda values: losses.ProxyAnchorLoss()(LABELS, values),
        lambda values: losses.TripletHardLoss()(LABELS, values),
    ],
)
def test_complex_inputs_are_refused(take):
    with pytest.raises(ValueError, match="complex64, of which a part"):
        take(EMBEDDINGS.astype("complex64"))


@pytest.mark.parametrize(
    "loss", [losses.ArcFaceLoss(), losses.TripletHardLoss()]
)
def test_swapped_arguments_are_told_the_order(loss):
    with pytest.raises(ValueError, match=r"labels first: loss\(labels, output"):
        loss(EMBEDDINGS, LABELS)


def test_numpy_numbers_are_numbers():
    assert number("me", "x", np.float16(0.5), at_least=0) == 0.5
    assert number("me", "x", np.int64(3)) == 3.0


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its own")
def test_tensors_that_are_not_in_one_piece_are_refused():
    import tensorflow as tf

    with pytest.raises(ValueError, match="sparse or ragged"):
        refuse_no_floats("me", "x", tf.ragged.constant([[1.0], [2.0, 3.0]]))
    with pytest.raises(ValueError, match="sparse or ragged"):
        refuse_no_floats("me", "x", tf.sparse.from_dense(EMBEDDINGS))

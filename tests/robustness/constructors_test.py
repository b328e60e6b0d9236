"""Every argument of every public class, with values that it cannot take."""

import inspect

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import callbacks, layers, losses, regularizers
from tests.robustness.table import Error, Row, Value, check, unique

pytestmark = pytest.mark.one_backend

X = np.ones((4, 3), "float32")
Y = np.array([0, 0, 1, 1])
NOT_A_NUMBER = {
    "none": None,
    "text": "a",
    "digits": "1",
    "nan": float("nan"),
    "inf": float("inf"),
    "huge": 10**400,
    "complex": 1j,
    "list": [],
    "list_of_one": [0.5],
    "true": True,
    "array": np.ones(2),
    "dict": {},
}
NOT_AN_INTEGER = {
    "none": None,
    "text": "a",
    "digits": "3",
    "fraction": 2.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "complex": 1j,
    "list": [],
    "true": True,
    "array": np.ones(2, "int32"),
}
BAD = {
    "number": NOT_A_NUMBER,
    "positive": {**NOT_A_NUMBER, "zero": 0, "negative": -1},
    "not_negative": {**NOT_A_NUMBER, "negative": -1, "small": -1e-9},
    "at_least_one": {**NOT_A_NUMBER, "zero": 0, "half": 0.5},
    "share": {**NOT_A_NUMBER, "zero": 0, "negative": -0.1, "above": 1.001},
    "rate": {**NOT_A_NUMBER, "negative": -0.1, "above": 1.001},
    "angle": {**NOT_A_NUMBER, "negative": -0.1, "above": 1.6},
    "cosine": {**NOT_A_NUMBER, "negative": -0.1, "two": 2},
    "count": {**NOT_AN_INTEGER, "zero": 0, "negative": -1},
    "bounded_count": {
        **NOT_AN_INTEGER,
        "zero": 0,
        "negative": -1,
        "million": 10**6,
        "huge": 10**400,
    },
    "integer": NOT_AN_INTEGER,
    "seed": {**NOT_AN_INTEGER, "negative": -1},
    "boolean": {
        "none": None,
        "text": "False",
        "half": 0.5,
        "two": 2,
        "list": [],
        "nan": float("nan"),
    },
    "choice": {
        "none": None,
        "text": "a",
        "upper": "MEAN",
        "number": 0,
        "list": [],
        "true": True,
    },
    "initializer": {
        "text": "a",
        "number": 5,
        "list": [],
        "true": True,
        "dict": {},
    },
    "channels": {
        "text": "a",
        "fraction": 2.5,
        "empty": [],
        "zero": 0,
        "negative": -1,
        "fractions": [1.5, 2],
        "zeros": [0, 0, 0],
        "true": True,
        "nan": float("nan"),
    },
    "names": {"text": "recall@1", "unknown": ["a"], "number": 3, "none": None},
    "multipliers": {
        "none": None,
        "text": "a",
        "list": [1],
        "number_key": {1: 2.0},
        "pattern": {"(": 2.0},
        "text_value": {"head/": "a"},
        "negative": {"head/": -1.0},
        "nan": {"head/": float("nan")},
        "huge": {"head/": 10**400},
        "true": {"head/": True},
    },
    "optimizer": {"none": None, "text": "a", "number": 3, "list": []},
    "dtype": {
        "integer": "int32",
        "complex": "complex64",
        "boolean": "bool",
        "text": "a",
    },
    "text": {"none": None, "number": 3, "list": [], "bytes": b"a"},
}


def _without(rule, *names):
    return {key: value for key, value in BAD[rule].items() if key not in names}


def _for_each_class(rule):
    """Bad values of an argument that takes a number or one for each class."""
    return {
        **_without(rule, "list_of_one", "array"),
        "bad_in_list": [0.1, -1.0],
        "text_in_list": [0.1, "a"],
        "matrix": np.ones((2, 2)),
        "no_numbers": np.ones(0),
    }


# What each argument is, or its bad values by name. Losses also take a dtype.
CENTERS = {
    "num_classes": "count",
    "centers_per_class": "count",
    "pooling": "choice",
    "gamma": "positive",
    "centers_initializer": "initializer",
    "sampled_share": "share",
    "seed": _without("seed", "none"),
}
OUTPUT = {"negative": -1, "fraction": 0.5, "true": True, "list": []}
CLASS_SIZES = {
    **_without("number", "list_of_one", "array"),
    "zero": [0, 1],
    "nan_in_list": [float("nan"), 1],
    "inf_in_list": [float("inf"), 1],
    "matrix": np.ones((2, 2)),
}
TRIPLET = {"margin": "not_negative", "distance_metric": "choice"}
RULES = {
    losses.ArcFaceLoss: {
        "scale": "positive",
        "margin": _for_each_class("angle"),
    },
    losses.CenterContrastiveLoss: {
        "scale": "positive",
        "margin": _for_each_class("not_negative"),
        "center_weight": "not_negative",
    },
    losses.CombinedMarginLoss: {
        "scale": "positive",
        "angle_factor": "positive",
        "angle_margin": _for_each_class("angle"),
        "cosine_margin": _for_each_class("cosine"),
    },
    losses.ContrastiveLoss: {
        "margin": "positive",
        "positive_margin": "not_negative",
        "exponent": "at_least_one",
    },
    losses.CircleLoss: {
        "margin": {**BAD["number"], "one": 1, "below": -1},
        "scale": "positive",
    },
    losses.CosFaceLoss: {
        "scale": "positive",
        "margin": _for_each_class("cosine"),
    },
    losses.CosineLoss: {},
    losses.COCOLoss: {
        "num_classes": {**BAD["count"], "one": 1},
        "epsilon": {**BAD["positive"], "one": 1.0},
    },
    losses.LogitAdjustedLoss: {
        "class_counts": CLASS_SIZES,
        "tau": "not_negative",
    },
    losses.LargeMarginGaussianMixtureLoss: {
        "margin": "not_negative",
        "likelihood_weight": "not_negative",
    },
    losses.MultiSimilarityLoss: {
        "alpha": "positive",
        "beta": "positive",
        "base": "number",
        "epsilon": _without("number", "none"),
    },
    losses.NPairsLoss: {},
    losses.NormFaceLoss: {"scale": "positive"},
    losses.ProxyAnchorLoss: {"scale": "positive", "margin": "not_negative"},
    losses.ProxyNCALoss: {"scale": "positive"},
    losses.ProxyNCAPlusPlusLoss: {"temperature": "positive"},
    losses.SoftTripleLoss: {
        "scale": "positive",
        "margin": _for_each_class("not_negative"),
    },
    losses.SphereFaceLoss: {"scale": "positive", "margin": "bounded_count"},
    losses.SupConLoss: {"temperature": "positive"},
    losses.TripletAllLoss: TRIPLET,
    losses.TripletHardLoss: {**TRIPLET, "soft": "boolean"},
    losses.TripletSemiHardLoss: TRIPLET,
    layers.CenterLoss: {
        "num_classes": "count",
        "loss_weight": "not_negative",
        "alpha": "rate",
        "update": "choice",
        "normalize": "boolean",
        "reduction": "choice",
        "centers_initializer": {**BAD["initializer"], "none": None},
        "ignore_class": _without("integer", "none"),
        "output_name": OUTPUT,
    },
    layers.CosineSimilarity: {
        **CENTERS,
        "centers_regularizer": "initializer",
    },
    losses.class_size_margins: {
        "counts": CLASS_SIZES,
        "largest": "not_negative",
        "smallest": "not_negative",
        "power": "share",
    },
    layers.CrossBatchMemory: {
        "loss": {
            "none": None,
            "text": "contrastive",
            "of_classes": losses.ArcFaceLoss(),
            "of_one_pair": losses.NPairsLoss(),
        },
        "memory_size": "count",
        "loss_weight": "not_negative",
        "warmup_steps": {"none": None, "below": -1, "half": 0.5, "bool": True},
        "ignore_class": _without("integer", "none"),
        "output_name": OUTPUT,
    },
    layers.ClassChannelPooling: {
        "num_classes": "count",
        "channels_per_class": "channels",
        "data_format": _without("choice", "none"),
    },
    layers.GaussianMixture: {
        "num_classes": "count",
        "means_initializer": {**BAD["initializer"], "none": None},
    },
    layers.GeneralizedMeanPooling2D: {
        "exponent": {**BAD["at_least_one"], "large": 65},
        "train_exponent": "boolean",
        "epsilon": "positive",
        "data_format": _without("choice", "none"),
        "keepdims": "boolean",
    },
    layers.Jigsaw: {
        "pieces": "count",
        "data_format": _without("choice", "none"),
        "seed": _without("seed", "none"),
    },
    layers.MCLoss: {
        "num_classes": "count",
        "loss_weight": "not_negative",
        "diversity_weight": _without("not_negative", "none"),
        "channels_per_class": "channels",
        "drop": "boolean",
        "data_format": _without("choice", "none"),
        "output_name": OUTPUT,
        "seed": _without("seed", "none"),
    },
    layers.SoftTriple: {**CENTERS, "tau": "not_negative"},
    regularizers.CenterMerging: {"tau": "not_negative"},
    callbacks.CenterStatistics: {
        "tolerance": "not_negative",
        "max_classes": "count",
        "seed": "seed",
    },
    callbacks.EmbeddingMetrics: {
        "metrics": "names",
        "distance": "choice",
        "frequency": "count",
        "batch_size": "count",
        "prefix": "text",
    },
    callbacks.EmbeddingProjector: {
        "thumbnails": "boolean",
        "thumbnail_size": "count",
        "frequency": "count",
        "batch_size": "count",
    },
    callbacks.EmbeddingRecorder: {"frequency": "count", "batch_size": "count"},
    keras_finegrain.optimizers.LayerwiseLearningRate: {
        "optimizer": "optimizer",
        "multipliers": "multipliers",
        "may_be_frozen": {
            "none": None,
            "text": "head/",
            "number": 3,
            "unknown": ["tail/"],
        },
    },
}
# The arguments that a constructor needs beside the one that is tried.
NEEDED = {
    layers.CenterLoss: {"num_classes": 3},
    layers.ClassChannelPooling: {"num_classes": 3},
    layers.CosineSimilarity: {"num_classes": 3},
    layers.CrossBatchMemory: {"loss": losses.ContrastiveLoss()},
    layers.Jigsaw: {"pieces": 2},
    layers.MCLoss: {"num_classes": 3},
    layers.SoftTriple: {"num_classes": 3},
    layers.GaussianMixture: {"num_classes": 3},
    losses.class_size_margins: {"counts": [3, 5]},
    losses.COCOLoss: {"num_classes": 3},
    losses.LogitAdjustedLoss: {"class_counts": [3, 5, 1]},
    callbacks.EmbeddingMetrics: {"data": (X, Y)},
    callbacks.EmbeddingProjector: {"log_dir": "logs", "data": (X, Y)},
    callbacks.EmbeddingRecorder: {"data": (X, Y)},
    keras_finegrain.optimizers.LayerwiseLearningRate: {
        "optimizer": "sgd",
        "multipliers": {"head/": 2.0},
    },
}
# What these tables leave to others: names, data and layers of models.
ELSEWHERE = {
    "name", "kwargs", "data", "layer", "gallery", "log_dir", "class_names",
}  # fmt: skip
KNOWN = {
    r"^LayerwiseLearningRate\(optimizer=(text|number|list)\)": (
        "Keras's own words for what names no optimizer"
    ),
}


def call(made, arguments):
    return lambda: made(**arguments)


def rows_of(made):
    """Each bad value of each argument of a class."""
    rules = dict(RULES[made])
    if inspect.isclass(made) and issubclass(made, keras.losses.Loss):
        rules["dtype"] = "dtype"
    rows = []
    for argument, rule in rules.items():
        if argument not in (*inspect.signature(made).parameters, "dtype"):
            continue
        for name, value in (
            BAD[rule] if isinstance(rule, str) else rule
        ).items():
            arguments = {**NEEDED.get(made, {}), argument: value}
            rows.append(
                Row(
                    f"{made.__name__}({argument}={name})",
                    call(made, arguments),
                    Error(made.__name__, argument),
                )
            )
    return unique(rows)


@pytest.mark.parametrize("made", RULES, ids=lambda made: made.__name__)
def test_a_bad_value_is_an_error_that_names_the_argument(made):
    check(rows_of(made), KNOWN)


def test_the_tables_know_every_argument_of_every_public_class():
    public = [
        getattr(module, name)
        for module in (losses, layers, callbacks)
        for name in module.__all__
    ]
    # (The base is given its scale by the losses.)
    public = [item for item in public if item is not losses.MarginSoftmaxLoss]
    assert set(public) <= set(RULES)
    for made, rules in RULES.items():
        arguments = set(inspect.signature(made).parameters) - ELSEWHERE
        assert arguments <= set(rules), made


GOOD = {
    "NumPy integer": (layers.CenterLoss, "num_classes", np.int64(3), 3),
    "NumPy float": (losses.ArcFaceLoss, "scale", np.float32(8), 8.0),
    "integer": (losses.ArcFaceLoss, "scale", 8, 8.0),
    "0 of weights": (layers.CenterLoss, "loss_weight", 0, 0.0),
    "NumPy boolean": (losses.TripletHardLoss, "soft", np.bool_(True), True),
    "seed 0": (layers.MCLoss, "seed", 0, 0),
    "NumPy seed": (layers.MCLoss, "seed", np.int32(5), 5),
    "no epsilon": (losses.MultiSimilarityLoss, "epsilon", None, None),
    "groups": (layers.MCLoss, "channels_per_class", [1, 2, 3], (1, 2, 3)),
    "a right angle": (losses.ArcFaceLoss, "margin", np.pi / 2, np.pi / 2),
    "nearly 2": (losses.CosFaceLoss, "margin", 1.99, 1.99),
    "a right angle and more": (
        losses.CombinedMarginLoss,
        "angle_margin",
        np.pi / 2,
        np.pi / 2,
    ),
    "the most": (losses.SphereFaceLoss, "margin", 64, 64),
    "the whole share": (layers.SoftTriple, "sampled_share", 1, 1.0),
    "exponent 1": (losses.ContrastiveLoss, "exponent", 1, 1.0),
    "no step": (layers.CenterLoss, "alpha", 0, 0.0),
    "the whole step": (layers.CenterLoss, "alpha", 1, 1.0),
}


def test_what_a_user_may_give_is_kept():
    def kept(made, argument, value):
        arguments = {**NEEDED.get(made, {}), argument: value}
        return lambda: made(**arguments).get_config()[argument]

    check(
        Row(
            name,
            kept(made, argument, value),
            Value(lambda found, expected=expected: found == expected),
        )
        for name, (made, argument, value, expected) in GOOD.items()
    )


# The papers' own, which a change would alter in silence.
DEFAULTS = {
    losses.COCOLoss: {"epsilon": 1e-4},
    losses.LogitAdjustedLoss: {"tau": 1.0},
    losses.ArcFaceLoss: {"scale": 64.0, "margin": 0.5},
    losses.CosFaceLoss: {"scale": 64.0, "margin": 0.35},
    losses.SoftTripleLoss: {"scale": 20.0, "margin": 0.01},
    losses.ProxyAnchorLoss: {"scale": 32.0, "margin": 0.1},
    losses.ProxyNCALoss: {"scale": 1.0},
    losses.ProxyNCAPlusPlusLoss: {"temperature": 1 / 9},
    losses.NormFaceLoss: {"scale": 20.0},
    losses.SphereFaceLoss: {"scale": 30.0, "margin": 4},
    losses.CombinedMarginLoss: {
        "scale": 64.0,
        "angle_factor": 1.0,
        "angle_margin": 0.3,
        "cosine_margin": 0.2,
    },
    losses.CenterContrastiveLoss: {
        "scale": 20.0,
        "margin": 0.1,
        "center_weight": 1.0,
    },
    losses.ContrastiveLoss: {
        "margin": 1.0,
        "positive_margin": 0.0,
        "exponent": 2.0,
    },
    losses.MultiSimilarityLoss: {
        "alpha": 2.0,
        "beta": 50.0,
        "base": 0.5,
        "epsilon": 0.1,
    },
    losses.SupConLoss: {"temperature": 0.1},
    losses.LargeMarginGaussianMixtureLoss: {
        "margin": 0.1,
        "likelihood_weight": 0.01,
    },
    losses.CircleLoss: {"margin": 0.4, "scale": 80.0},
    losses.TripletAllLoss: {"margin": 0.2, "distance_metric": "L2"},
    losses.TripletHardLoss: {
        "margin": 1.0,
        "soft": False,
        "distance_metric": "L2",
    },
    losses.TripletSemiHardLoss: {"margin": 1.0, "distance_metric": "L2"},
    regularizers.CenterMerging: {"tau": 0.2},
    layers.CenterLoss: {
        "loss_weight": 0.001,
        "alpha": 0.5,
        "update": "moving_average",
        "normalize": False,
        "reduction": "mean",
    },
    layers.MCLoss: {
        "loss_weight": 0.3,
        "diversity_weight": None,
        "drop": True,
    },
    layers.SoftTriple: {
        "centers_per_class": 10,
        "gamma": 0.1,
        "tau": 0.2,
        "pooling": "soft",
        "sampled_share": 1.0,
    },
    layers.CosineSimilarity: {
        "centers_per_class": 1,
        "pooling": "max",
        "gamma": 0.1,
        "sampled_share": 1.0,
    },
}


@pytest.mark.parametrize("made", DEFAULTS, ids=lambda made: made.__name__)
def test_the_defaults_are_those_that_are_documented(made):
    config = made(**NEEDED.get(made, {})).get_config()
    assert DEFAULTS[made].items() <= config.items()

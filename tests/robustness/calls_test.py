"""Bad labels, weights and features, through every loss and layer."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import layers, losses
from tests.robustness.table import Error, Row, Value, check, unique

pytestmark = pytest.mark.one_backend

BACKEND = keras.backend.backend()
NAN, INF = float("nan"), float("inf")
DRAW = np.random.default_rng(0)
Y = np.array([0, 1, 2, 0, 1, 2])
ONE_HOT = np.eye(3)[Y]
# Inside of [-1, 1], as similarities are.
SCORES = DRAW.uniform(-0.9, 0.9, (6, 3)).astype("float32")
EMBEDDINGS = DRAW.normal(size=(6, 4)).astype("float32")
MAPS = DRAW.normal(size=(6, 2, 2, 6)).astype("float32")
ON_SCORES = [
    losses.ArcFaceLoss(),
    losses.CenterContrastiveLoss(),
    losses.CombinedMarginLoss(),
    losses.CosFaceLoss(),
    losses.CosineLoss(),
    losses.COCOLoss(3),
    losses.LogitAdjustedLoss([4, 2, 1]),
    losses.LargeMarginGaussianMixtureLoss(),
    losses.NormFaceLoss(),
    losses.ProxyAnchorLoss(),
    losses.ProxyNCALoss(),
    losses.ProxyNCAPlusPlusLoss(),
    losses.SoftTripleLoss(),
    losses.SphereFaceLoss(),
]
ON_PAIRS = [
    losses.ContrastiveLoss(),
    losses.MultiSimilarityLoss(),
    losses.SupConLoss(),
    losses.CircleLoss(),
    losses.NPairsLoss(),
    losses.TripletAllLoss(),
    losses.TripletHardLoss(),
    losses.TripletHardLoss(soft=True, name="soft"),
    losses.TripletSemiHardLoss(),
]
LAYERS = {
    "CenterLoss": (lambda **kw: layers.CenterLoss(3, **kw), EMBEDDINGS),
    "MCLoss": (lambda **kw: layers.MCLoss(3, **kw), MAPS),
}
HEADS = {
    "SoftTriple": lambda **kw: layers.SoftTriple(3, 2, **kw),
    "CosineSimilarity": lambda **kw: layers.CosineSimilarity(3, **kw),
}


def changed(place, value, labels=Y):
    """Labels, one of them another."""
    labels = np.array(labels, np.result_type(labels, np.asarray(value)))
    labels[place] = value
    return labels


# What no loss and no layer can take for 6 samples.
BAD_LABELS = {
    "fractions": np.array([0.5, 1, 2, 0, 1, 2]),
    "fractions_above_a_class": Y + 0.9,
    "nan": changed(1, NAN),
    "infinite": changed(1, INF),
    "five": Y[:5],
    "seven": np.append(Y, 0),
    "one": Y[:1],
    "twelve": np.tile(Y, 2),
    "none": Y[:0],
    "scalar": np.array(1),
    "two_columns": np.stack([Y, Y], 1),
    "rank_3": ONE_HOT[:, None],
    "row_of_one_sample": Y[None],
    "five_rows": ONE_HOT[:5],
    "rows_of_seven": np.eye(3)[np.append(Y, 0)],
    "row_of_zeros": changed(2, 0.0, ONE_HOT),
    "row_of_two_ones": changed((2, 0), 1.0, ONE_HOT),
    "row_of_negatives": -ONE_HOT,
    "row_of_logits": 5 * SCORES,
    "row_with_nan": changed((2, 0), NAN, ONE_HOT),
    "row_with_infinity": changed((2, 0), INF, ONE_HOT),
    "rows_that_sum_to_two": 2 * ONE_HOT,
    "integer_row_of_zeros": changed(2, 0, ONE_HOT.astype("int32")),
    "integer_rows_of_two": 2 * ONE_HOT.astype("int32"),
    "text": np.array(list("abcabc")),
    "bytes": np.array([b"a", b"b", b"c"] * 2),
    "objects": np.array(list("abcabc"), dtype=object),
    "complex": Y.astype("complex64"),
    "absent": None,
    "dates": np.array(["2020-01-01"] * 6, dtype="datetime64[D]"),
}
# And what those that know the number of classes cannot.
OUTSIDE = {
    "negative": changed(1, -1),
    "too_large": changed(1, 3),
    "far_too_large": changed(1, 2**40),
    "lowest_int64": changed(1, -(2**63)),
    "largest_uint64": changed(1, 2**64 - 1, Y.astype("uint64")),
    "rows_of_two_classes": np.eye(2)[Y % 2],
    "rows_of_four_classes": np.eye(4)[Y],
    "negative_uint8": Y.astype("uint8") - 1,
}
SIGNED = ("int8", "int16", "int32", "int64")
# Forms that mean the same as Y.
GOOD_LABELS = {
    **{
        name: Y.astype(name)
        for name in (*SIGNED, *(f"u{name}" for name in SIGNED))
    },
    "column": Y[:, None],
    "list": Y.tolist(),
    "tensor": ops.convert_to_tensor(Y),
    **{
        f"rows_{name}": ONE_HOT.astype(name)
        for name in ("bool", "uint8", "int32", "float16", "float32", "float64")
    },
    "rows_of_a_list": ONE_HOT.tolist(),
}
BAD_WEIGHTS = {
    "negative": np.array([1, 1, -1, 1, 1, 1.0]),
    "all_negative": -np.ones(6),
    "nan": np.array([1, 1, NAN, 1, 1, 1.0]),
    "infinite": np.array([1, 1, INF, 1, 1, 1.0]),
    "one": np.ones(1),
    "five": np.ones(5),
    "seven": np.ones(7),
    "none": np.ones(0),
    "two_columns": np.ones((6, 2)),
    "text": np.array(list("abcabc")),
    "complex": np.ones(6, "complex64"),
}
# Of which a part would be lost.
BAD_FLOATS = {"complex": "complex64", "complex128": "complex128"}
# Which are floats as well.
GOOD_FLOATS = ("int32", "uint8", "float16", "bfloat16", "float64")
KNOWN = {
    r"^CenterLoss features no_dim$|^MCLoss features no_pixel$"
    r"|^(SoftTriple|CosineSimilarity) embeddings no_dim$": (
        "the backend's own words for an axis without an entry"
    ),
    r"^\w+ samples classes with labels row_of_two_ones$": (
        "the draw takes the largest of a row; `fit` checks the rows before it"
    ),
    r"^CenterMerging of centers times": (
        "products of centers: the lengths that training gives are near 1"
    ),
}


def scored(loss, labels, scores=SCORES, **weights):
    return lambda: loss(labels, scores, **weights)


def class_loss_rows(loss):
    who = type(loss).__name__
    expected = float(loss(Y, SCORES))
    for name, labels in {**BAD_LABELS, **OUTSIDE}.items():
        yield Row(
            f"{who} labels {name}", scored(loss, labels), Error(who, "y_true")
        )
    for name, labels in GOOD_LABELS.items():
        yield Row(f"{who} takes {name}", scored(loss, labels), Value(expected))
    for name, weights in BAD_WEIGHTS.items():
        yield Row(
            f"{who} weights {name}",
            scored(loss, Y, sample_weight=weights),
            Error(who, "sample_weight"),
        )
    for name, dtype in BAD_FLOATS.items():
        yield Row(
            f"{who} scores {name}",
            scored(loss, Y, (SCORES > 0).astype(dtype)),
            Error(who, ("y_pred", "similarities")),
        )
    yield Row(
        f"{who} scores of one axis",
        scored(loss, Y, SCORES[:, 0]),
        Error(who, ("y_pred", "y_true")),
    )
    yield Row(
        f"{who} scores of text",
        scored(loss, Y, np.array([["a"] * 3] * 6)),
        Error(who, "y_pred"),
    )
    yield Row(
        f"{who} scores before labels",
        lambda: loss(SCORES, Y),
        Error(who, ("y_pred", "y_true")),
    )
    whole = SCORES > 0
    for name in GOOD_FLOATS:
        yield Row(
            f"{who} takes scores {name}",
            scored(loss, Y, ops.cast(whole, name)),
            Value(float(loss(Y, whole.astype("float32"))), 1e-4),
        )
    if not isinstance(loss, losses.ProxyAnchorLoss):
        yield Row(
            f"{who} weights of 1",
            scored(loss, Y, sample_weight=np.ones(6)),
            Value(expected),
        )


def pair_loss_rows(loss):
    who = type(loss).__name__
    expected = float(loss(Y, EMBEDDINGS))
    for name, labels in BAD_LABELS.items():
        yield Row(
            f"{who} labels {name}",
            scored(loss, labels, EMBEDDINGS),
            Error(who, "y_true"),
        )
    for name, labels in GOOD_LABELS.items():
        yield Row(
            f"{who} takes {name}",
            scored(loss, labels, EMBEDDINGS),
            Value(expected, 1e-4),
        )
    for name, weights in BAD_WEIGHTS.items():
        yield Row(
            f"{who} weights {name}",
            scored(loss, Y, EMBEDDINGS, sample_weight=weights),
            Error(who, "sample_weight"),
        )
    for name, dtype in BAD_FLOATS.items():
        yield Row(
            f"{who} embeddings {name}",
            scored(loss, Y, (EMBEDDINGS > 0).astype(dtype)),
            Error(who, "y_pred"),
        )
    whole = np.floor(np.abs(3 * EMBEDDINGS))
    for name in GOOD_FLOATS:
        yield Row(
            f"{who} takes embeddings {name}",
            scored(loss, Y, ops.cast(whole, name)),
            Value(float(loss(Y, whole.astype("float32"))), 1e-4),
        )
    shapes = {
        "one_axis": EMBEDDINGS[:, 0],
        "three_axes": EMBEDDINGS[:, None],
        "a_feature_map": MAPS,
        "no_sample": EMBEDDINGS[:0],
        "text": np.array([["a"] * 4] * 6),
        "none": None,
    }
    for name, embeddings in shapes.items():
        yield Row(
            f"{who} embeddings {name}",
            scored(loss, Y[: len(EMBEDDINGS)], embeddings),
            Error(who, ("y_pred", "y_true")),
        )
    yield Row(
        f"{who} embeddings before labels",
        lambda: loss(EMBEDDINGS, Y),
        Error(who, ("y_pred", "y_true")),
    )


@pytest.mark.parametrize("loss", ON_SCORES, ids=lambda loss: loss.name)
def test_losses_on_similarities(loss):
    check(unique(list(class_loss_rows(loss))), KNOWN)


@pytest.mark.parametrize("loss", ON_PAIRS, ids=lambda loss: loss.name)
def test_losses_on_pairs(loss):
    check(unique(list(pair_loss_rows(loss))), KNOWN)


def explicit(layer, features, labels, weights=None, training=True):
    layer(
        features,
        None if labels is None else labels,
        weights,
        training=training,
    )
    return layer.losses[0]


def in_scope(layer, features, labels, weights=None, training=True):
    with keras_finegrain.label_scope(labels, weights):
        layer(features, training=training)
    return layer.losses[0]


WAYS = {"given": explicit, "in a scope": in_scope}


def layer_rows(who, way):
    make, features = LAYERS[who]
    show = WAYS[way]

    def call(labels=Y, features=features, weights=None, **arguments):
        # (The evaluation draws no channels.)
        return lambda: show(
            make(**arguments), features, labels, weights, training=False
        )

    def trained(labels=Y, features=features, weights=None, **arguments):
        return lambda: show(make(**arguments), features, labels, weights)

    for name, labels in {**BAD_LABELS, **OUTSIDE}.items():
        # (A scope of no labels says that there are none.)
        if labels is not None or way == "given":
            yield Row(
                f"{who} {way}: labels {name}",
                trained(labels),
                Error(who, "label"),
            )
    expected = float(call()())
    for name, labels in GOOD_LABELS.items():
        # (A layer takes tensors; in a scope a list is that of several `y`.)
        if not isinstance(labels, list):
            yield Row(
                f"{who} {way}: takes {name}", call(labels), Value(expected)
            )
    for name, weights in BAD_WEIGHTS.items():
        yield Row(
            f"{who} {way}: weights {name}",
            trained(weights=weights),
            Error(who, "sample_weight"),
        )
    ignored = {
        "-1": (changed(1, -1), np.delete(Y, 1), np.delete(features, 1, 0)),
        "zeros": (
            changed(1, 0.0, ONE_HOT),
            np.delete(Y, 1),
            np.delete(features, 1, 0),
        ),
    }
    for name, (labels, others, other_features) in ignored.items():
        yield Row(
            f"{who} {way}: {name} is left out by ignore_class=-1",
            call(labels, ignore_class=-1)
            if who == "CenterLoss"
            else call(others, other_features),
            Value(float(call(others, other_features)())),
        )


def feature_rows(who):
    make, features = LAYERS[who]

    def call(features, labels=Y):
        return lambda: explicit(make(), features, labels)

    for name, dtype in BAD_FLOATS.items():
        yield Row(
            f"{who} features {name}",
            call((features > 0).astype(dtype)),
            Error(who, "feature"),
        )
    shapes = {
        "scalar": np.float32(1),
        "one_axis": features.reshape(6, -1)[:, 0],
        "no_sample": features[:0],
        "no_dim": features[..., :0],
        "text": np.array([["a"] * 4] * 6),
        "none": None,
    }
    if who == "MCLoss":
        shapes["vectors"] = EMBEDDINGS
        shapes["two_channels"] = MAPS[..., :2]
        shapes["no_pixel"] = MAPS[:, :0]
    else:
        shapes["a_feature_map"] = MAPS
    for name, bad in shapes.items():
        yield Row(f"{who} features {name}", call(bad), Error(who))

    def second_dim():
        layer = make()
        explicit(layer, features, Y)
        explicit(layer, np.concatenate([features, features], -1), Y)

    yield Row(
        f"{who} another dim at the second call",
        second_dim,
        Error((who, "incompatible with the layer")),
    )

    def untold():
        make()(features, training=True)

    yield Row(f"{who} trains without labels", untold, Error(who, "label_scope"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", LAYERS)
def test_layers_with_labels(who, way):
    check(unique(list(layer_rows(who, way))), KNOWN)


@pytest.mark.parametrize("who", LAYERS)
def test_features_of_layers_with_labels(who):
    check(unique(list(feature_rows(who))), KNOWN)


def head_rows(who):
    make = HEADS[who]
    bad = {
        **{
            name: (EMBEDDINGS > 0).astype(dtype)
            for name, dtype in BAD_FLOATS.items()
        },
        "one_axis": EMBEDDINGS[:, 0],
        "a_feature_map": MAPS,
        "no_dim": EMBEDDINGS[:, :0],
        "text": np.array([["a"] * 4] * 6),
        "none": None,
    }
    for name, embeddings in bad.items():
        yield Row(
            f"{who} embeddings {name}",
            lambda embeddings=embeddings: make()(embeddings),
            Error(who),
        )

    def second_dim():
        layer = make()
        layer(EMBEDDINGS)
        layer(EMBEDDINGS[:, :2])

    yield Row(
        f"{who} another dim at the second call",
        second_dim,
        Error((who, "incompatible with the layer")),
    )
    yield Row(
        f"{who} no sample",
        lambda: make()(EMBEDDINGS[:0]).shape[0],
        Value(0),
    )

    def at(factor):
        def difference():
            layer = make()
            rows = ops.cast(EMBEDDINGS.astype("float64") * factor, "float32")
            return layer(rows) - layer(EMBEDDINGS)

        return difference

    for factor in (1e-30, 1e-25, 1e25, 1e30, 1e37):
        yield Row(
            f"{who} embeddings times {factor:g}",
            at(factor),
            Value(np.zeros((6, 3)), 1e-4),
        )
    sampled = make(sampled_share=0.67)
    yield Row(
        f"{who} samples classes without labels",
        lambda: sampled(EMBEDDINGS, training=True),
        Error(who, "sampled_share"),
    )
    for name in ("nan", "fractions", "five", "text", "row_of_two_ones"):

        def call(labels=BAD_LABELS[name]):
            with keras_finegrain.label_scope(labels):
                make(sampled_share=0.67)(EMBEDDINGS, training=True)

        yield Row(
            f"{who} samples classes with labels {name}",
            call,
            Error(who, "label"),
        )
    for name, value in {
        "none": None,
        "text": "a",
        "negative": -1,
        "nan": NAN,
        "true": True,
        "huge": 10**400,
    }.items():

        def distinct(value=value):
            layer = make()
            layer(EMBEDDINGS)
            layer.distinct_centers(value)

        yield Row(
            f"{who} distinct_centers({name})",
            distinct,
            Error(who, "tolerance"),
        )

    def distinct_of_nan():
        layer = make()
        layer(EMBEDDINGS)
        layer.centers.assign(np.full(layer.centers.shape, NAN))
        return layer.distinct_centers()

    yield Row(f"{who} distinct_centers of NaN", distinct_of_nan, Error(who))
    yield Row(
        f"{who} distinct_centers before it is built",
        lambda: make().distinct_centers(),
        Error(who),
    )


@pytest.mark.parametrize("who", HEADS)
def test_heads(who):
    check(unique(list(head_rows(who))), KNOWN)


def extreme_rows():
    """Numbers at the ends of float32: the limit, NaN or inf, never a guess."""
    signs = np.sign(SCORES)
    for loss in ON_SCORES:
        who = type(loss).__name__
        each = {
            "1 and -1": signs,
            "0": np.zeros((6, 3), "float32"),
            "all 1": np.ones((6, 3), "float32"),
            "all -1": -np.ones((6, 3), "float32"),
        }
        for name, scores in each.items():
            yield Row(
                f"{who} of {name} is finite",
                scored(loss, Y, scores),
                Value(lambda value: bool(np.isfinite(float(value)))),
            )
        yield Row(
            f"{who} of NaN is not finite",
            scored(loss, Y, np.full((6, 3), NAN, "float32")),
            Value(lambda value: not np.isfinite(float(value))),
        )
    cosines = (
        losses.MultiSimilarityLoss,
        losses.ContrastiveLoss,
        losses.SupConLoss,
        losses.CircleLoss,
    )
    for loss in ON_PAIRS:
        who = f"{type(loss).__name__} {loss.name}"
        for bad in (NAN, INF, -INF):
            for row in range(2):
                yield Row(
                    f"{who} with {bad} in row {row} is not finite",
                    scored(loss, Y, changed((row, 0), bad, EMBEDDINGS)),
                    Value(lambda value: not np.isfinite(float(value))),
                )
        yield Row(
            f"{who} of equal embeddings is finite",
            scored(loss, Y, np.ones((6, 4), "float32")),
            Value(lambda value: bool(np.isfinite(float(value)))),
        )
        yield Row(
            f"{who} of zeros is finite",
            scored(loss, Y, np.zeros((6, 4), "float32")),
            Value(lambda value: bool(np.isfinite(float(value)))),
        )
        if isinstance(loss, cosines):
            for factor in (1e-25, 1e20, 1e30):
                yield Row(
                    f"{who} of embeddings times {factor:g}",
                    scored(loss, Y, EMBEDDINGS * np.float32(factor)),
                    Value(float(loss(Y, EMBEDDINGS)), 1e-3),
                )

    def centers_after(rows, times=1):
        def call():
            layer = layers.CenterLoss(3)
            for _ in range(times):
                explicit(layer, rows, np.zeros(len(rows), "int32"))
            explicit(layer, np.ones((50, 2), "float32"), np.zeros(50, "int32"))
            return layer.centers

        return call

    for name, rows in {
        "100 rows of 3e38": np.full((100, 2), 3e38, "float32"),
        "rows of 3e38 and -3e38": np.tile(
            np.array([[3e38, -3e38], [-3e38, 3e38]], "float32"), (50, 1)
        ),
        "rows of infinity": np.full((4, 2), INF, "float32"),
        "rows of NaN": np.full((4, 2), NAN, "float32"),
    }.items():
        yield Row(
            f"CenterLoss: {name} leave finite centers",
            centers_after(rows),
            Value(
                lambda value: bool(
                    np.isfinite(ops.convert_to_numpy(value)).all()
                )
            ),
        )
    for factor in (1e-30, 1e-25, 1e25, 1e30):

        def normalized(factor=factor):
            layer = layers.CenterLoss(3, normalize=True, loss_weight=1.0)
            rows = ops.cast(EMBEDDINGS.astype("float64") * factor, "float32")
            return explicit(layer, rows, Y, training=False)

        yield Row(
            f"CenterLoss(normalize=True) of embeddings times {factor:g}",
            normalized,
            Value(0.5),
        )
    spread = keras_finegrain.regularizers.CenterMerging(1.0)
    table = DRAW.normal(size=(3, 2, 4)).astype("float32")
    for factor in (1e-25, 1e25):
        yield Row(
            f"CenterMerging of centers times {factor:g}",
            lambda factor=factor: spread(
                ops.convert_to_tensor(table * np.float32(factor))
            ),
            Value(float(spread(ops.convert_to_tensor(table))), 1e-4),
        )
    for name, bad in {
        "two axes": table[0],
        "four axes": table[None],
        "complex": table.astype("complex64"),
    }.items():
        yield Row(
            f"CenterMerging of {name}",
            lambda bad=bad: spread(ops.convert_to_tensor(bad)),
            Error(("CenterMerging", "center_spread")),
        )


def test_extreme_numbers():
    check(unique(list(extreme_rows())), KNOWN)


def fit_rows():
    """What is wrong with the arrays of fit is said before the first step."""
    x = EMBEDDINGS

    built = keras_finegrain.Sequential(
        [
            keras.Input((4,)),
            layers.CenterLoss(3),
            layers.CosineSimilarity(3),
        ]
    )
    built.compile("sgd", losses.NormFaceLoss(), run_eagerly=True)

    def fit(y=Y, method="fit", **arguments):
        def call():
            if method == "fit":
                arguments["verbose"] = 0
            return getattr(built, method)(x, y, **arguments)

        return call

    # (Another number of labels or weights than of samples Keras refuses, in
    # words of its own.)
    labels = {
        name: bad
        for name, bad in {**BAD_LABELS, **OUTSIDE}.items()
        if np.shape(bad)[:1] == (6,) or bad is None
    }
    named = Error(("label", "y ", "y_true"))
    for name, bad in labels.items():
        yield Row(f"fit labels {name}", fit(bad), named)
    for name in ("nan", "fractions", "too_large", "text"):
        bad = labels[name]
        yield Row(
            f"evaluate labels {name}",
            fit(bad, method="evaluate", verbose=0),
            named,
        )
        yield Row(
            f"train_on_batch labels {name}",
            fit(bad, method="train_on_batch"),
            named,
        )
        yield Row(
            f"fit validation labels {name}",
            fit(validation_data=(x, bad)),
            named,
        )
        yield Row(
            f"fit validation labels {name} in a list",
            fit(validation_data=[x, bad]),
            named,
        )
    for name, weights in BAD_WEIGHTS.items():
        if np.shape(weights)[0] == 6:
            yield Row(
                f"fit weights {name}",
                fit(sample_weight=weights),
                Error("sample_weight"),
            )


def test_arrays_of_fit():
    check(unique(list(fit_rows())), KNOWN)

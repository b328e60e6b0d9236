"""The margins as functions of the angle, and what they cost."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import losses
from tests.gradients import value_and_gradients
from tests.losses.numbers import (
    ANGLE_TOLERANCE,
    classified,
    head_value_and_gradients,
)

ANGLES = np.linspace(0, math.pi, 2001)

MARGINS = {
    "norm_face": losses.NormFaceLoss(),
    "cos_face": losses.CosFaceLoss(margin=0.35),
    "soft_triple": losses.SoftTripleLoss(margin=0.5),
    **{
        f"arc_face-{margin:g}": losses.ArcFaceLoss(margin=margin)
        for margin in (0, 0.5, 1.0, math.pi / 2)
    },
    **{
        f"sphere_face-{margin}": losses.SphereFaceLoss(margin=margin)
        for margin in (1, 2, 3, 4, 7)
    },
    **{
        f"combined-{m1:g}-{m2:g}-{m3:g}": losses.CombinedMarginLoss(
            64, m1, m2, m3
        )
        for m1, m2, m3 in ((1, 0.3, 0.2), (0.9, 0.4, 0.15), (2.5, 1.0, 0))
    },
}


def tolerance_of(name):
    return ANGLE_TOLERANCE if name.startswith("combined") else 1e-9


def written_out(name, angle):
    """ψ by angles, in numpy."""
    kind, *numbers = name.split("-")
    if kind == "norm_face":
        return math.cos(angle)
    if kind in ("cos_face", "soft_triple"):
        return math.cos(angle) - (0.35 if kind == "cos_face" else 0.5)
    if kind == "arc_face":
        margin = MARGINS[name].margin
        if angle <= math.pi - margin:
            return math.cos(angle + margin)
        return math.cos(angle) - margin * math.sin(margin)
    m1, m2, m3 = (
        (float(numbers[0]), 0.0, 0.0)
        if kind == "sphere_face"
        else (float(number) for number in numbers)
    )
    turned = m1 * angle + m2
    k = math.floor(turned / math.pi)
    return (-1) ** k * math.cos(turned) - 2 * k - m3


@pytest.mark.parametrize("name", MARGINS)
def test_value_is_that_of_the_angle(float64, name):
    # Off the bounds of k: there the two branches meet.
    angles = ANGLES[:-1] + 1e-4
    psi = MARGINS[name].with_margin(ops.convert_to_tensor(np.cos(angles)))
    np.testing.assert_allclose(
        ops.convert_to_numpy(psi),
        [written_out(name, angle) for angle in angles],
        **dict.fromkeys(("rtol", "atol"), tolerance_of(name)),
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MARGINS)
def test_turning_away_never_pays(name, dtype):
    psi = ops.convert_to_numpy(
        MARGINS[name].with_margin(
            ops.convert_to_tensor(np.cos(ANGLES).astype(dtype))
        )
    )
    assert (np.diff(psi) <= 1e-6).all()
    assert (psi <= np.cos(ANGLES) + 1e-6).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MARGINS)
def test_the_gradient_is_finite_at_the_poles_and_beyond(name, dtype):
    # Rounding puts the cosine of an embedding and itself above 1.
    above = 1 + 2 * np.finfo(dtype).eps
    cosines = np.array([1, -1, above, -above, 0.999999, -0.999999], dtype)
    value, (gradient,) = value_and_gradients(
        lambda c: ops.sum(MARGINS[name].with_margin(c)), [cosines]
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", MARGINS)
def test_the_gradient_is_the_slope(float64, name):
    angles = ANGLES[10:-10:7] + 1e-4
    if tolerance_of(name) > 1e-9:
        pytest.skip("has the digits of float32: a step shows nothing")
    cosines, step = np.cos(angles), 1e-6

    def psi(cosines):
        return MARGINS[name].with_margin(ops.convert_to_tensor(cosines))

    _, (gradient,) = value_and_gradients(lambda c: ops.sum(psi(c)), [cosines])
    above = ops.convert_to_numpy(psi(cosines + step))
    below = ops.convert_to_numpy(psi(cosines - step))
    slope = (above - below) / (2 * step)
    # ArcFace steps down once, at π − m: there is no slope.
    smooth = np.abs(above - below) < 1e-3
    np.testing.assert_allclose(gradient[smooth], slope[smooth], rtol=1e-4)
    assert smooth.mean() > 0.99


@pytest.mark.parametrize("name", MARGINS)
def test_an_embedding_on_a_center_has_a_finite_gradient(name):
    _, centers, _ = classified(4, 4, 6)
    embeddings = np.concatenate([centers[:, 0], -centers[:, 0]])
    loss = type(MARGINS[name]).from_config(
        {**MARGINS[name].get_config(), "reduction": "none"}
    )
    _, gradients = head_value_and_gradients(
        loss, embeddings, centers, np.tile(np.arange(4), 2), "float32"
    )
    for gradient in gradients:
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", MARGINS)
def test_a_margin_is_computed_for_the_true_class_alone(monkeypatch, name):
    loss, shapes = MARGINS[name], []
    with_margin = type(loss).with_margin

    def recorded(self, cosine, of_class):
        shapes.append(tuple(cosine.shape))
        return with_margin(self, cosine, of_class)

    monkeypatch.setattr(type(loss), "with_margin", recorded)
    loss(np.array([0, 3, 1]), np.zeros((3, 500), "float32"))
    assert shapes == [(3,)]


EACH = (0.1, 0.2, 0.45, 0.3)
OF_EACH_CLASS = {
    "cos_face": lambda m: losses.CosFaceLoss(10, margin=m),
    "soft_triple": lambda m: losses.SoftTripleLoss(10, margin=m),
    "arc_face": lambda m: losses.ArcFaceLoss(10, margin=m),
    "angle": lambda m: losses.CombinedMarginLoss(10, 1.0, m, 0.1),
    "cosine": lambda m: losses.CombinedMarginLoss(10, 1.0, 0.1, m),
}


@pytest.mark.parametrize("form", ["integers", "one_hot"])
@pytest.mark.parametrize("make", OF_EACH_CLASS.values(), ids=OF_EACH_CLASS)
def test_each_sample_is_held_to_the_margin_of_its_class(make, form):
    cosines = np.random.default_rng(0).uniform(-1, 1, (8, 4)).astype("float32")
    labels = np.tile(np.arange(4), 2)
    given = labels if form == "integers" else np.eye(4, dtype="float32")[labels]

    def value(margin, rows):
        loss = make(margin)
        loss.reduction = "none"
        return ops.convert_to_numpy(loss(given[rows], cosines[rows]))

    together = value(list(EACH), slice(None))
    for label, margin in enumerate(EACH):
        rows = labels == label
        np.testing.assert_allclose(
            together[rows], value(margin, rows), rtol=1e-6
        )


def test_margins_of_classes_are_saved_and_must_be_one_for_each_class():
    loss = losses.ArcFaceLoss(margin=EACH)
    copy = losses.ArcFaceLoss.from_config(
        json.loads(json.dumps(loss.get_config()))
    )
    assert copy.margin == EACH
    with pytest.raises(ValueError, match="one for each of the 3 classes"):
        loss(np.array([0, 1]), np.zeros((2, 3), "float32"))
    with pytest.raises(ValueError, match=r"margin\[1\] must be a finite num"):
        losses.ArcFaceLoss(margin=[0.1, 2.0])
    with pytest.raises(ValueError, match="or one for each class"):
        losses.CosFaceLoss(margin=[])


def test_margins_follow_the_drawn_classes():
    """With `sampled_share` the columns are some of the classes."""
    classes, margins = 40, np.linspace(0, 0.5, 40)
    embeddings = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    labels = np.array([3, 39, 0, 17, 17, 21])

    def loss_with(share):
        head = keras_finegrain.CosineSimilarity(
            classes, sampled_share=share, centers_initializer="ones", seed=0
        )
        model = keras_finegrain.Sequential([keras.Input((4,)), head])
        model.compile("sgd", losses.CosFaceLoss(10, margin=margins))
        return model.train_on_batch(embeddings, labels)

    # Equal centers: a drawn class stands for others that score the same.
    np.testing.assert_allclose(loss_with(0.5), loss_with(1.0), rtol=1e-5)


def test_margins_grow_as_classes_shrink():
    # LDAM: C / n^(1/4), scaled so that the largest is 0.5.
    ldam = 1 / np.array([5, 100, 37]) ** 0.25
    np.testing.assert_allclose(
        losses.class_size_margins([5, 100, 37]), 0.5 * ldam / ldam.max()
    )
    # a n^(-λ) + b with a = 0.5, b = 0.05 (Ha et al.), of a smallest class of 1.
    np.testing.assert_allclose(
        losses.class_size_margins(np.array([1, 9, 900]), 0.55, 0.05),
        0.5 * np.array([1, 9, 900]) ** -0.25 + 0.05,
    )
    assert losses.class_size_margins([7, 7], 0.3, power=1) == (0.3, 0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": [0, 3]}, "at least 1 each"),
        ({"counts": []}, "at least 1 each"),
        ({"counts": [[1, 2]]}, "at least 1 each"),
        ({"counts": [1, 2], "smallest": -0.1}, "smallest must be"),
        ({"counts": [1, 2], "largest": 0.1, "smallest": 0.2}, "largest must"),
        ({"counts": [1, 2], "power": 0}, "power must be"),
    ],
)
def test_wrong_class_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        losses.class_size_margins(**arguments)

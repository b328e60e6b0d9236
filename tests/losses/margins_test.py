"""The margins as functions of the angle, and what they cost."""

import math

import numpy as np
import pytest
from keras import ops

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

    def recorded(self, cosine):
        shapes.append(tuple(cosine.shape))
        return with_margin(self, cosine)

    monkeypatch.setattr(type(loss), "with_margin", recorded)
    loss(np.array([0, 3, 1]), np.zeros((3, 500), "float32"))
    assert shapes == [(3,)]

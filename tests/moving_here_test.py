"""What docs/moving_here.md says of other libraries, against their formulas.

(Addons' triplets: tests/losses/pair_losses_test.py; the papers' scripts: the
tests of each layer.)
"""

import inspect
import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import losses
from tests.losses.numbers import eager

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "moving_here.md"


def batch(dim=6):
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(12, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, np.arange(12) % 3


def similarity_multi_similarity(rows, labels, alpha, beta, epsilon, lmda):
    """TensorFlow Similarity's, on cosine distances, with center=1."""
    distances = 1 - rows @ rows.T
    same = labels[:, None] == labels
    each = []
    for a in range(len(rows)):
        positive = same[a].copy()
        positive[a] = False
        near, far = distances[a][~same[a]].min(), distances[a][positive].max()
        hard_positive = positive & (distances[a] > near - epsilon)
        hard_negative = ~same[a] & (distances[a] < far + epsilon)
        if not (hard_positive.any() and hard_negative.any()):
            each.append(0.0)
            continue
        shifted = distances[a] + lmda - 1
        each.append(
            np.log1p(np.exp(alpha * shifted[hard_positive]).sum()) / alpha
            + np.log1p(np.exp(-beta * shifted[hard_negative]).sum()) / beta
        )
    return np.mean(each)


def test_multi_similarity_of_tensorflow_similarity(float64):
    rows, labels = batch()
    np.testing.assert_allclose(
        eager(
            losses.MultiSimilarityLoss(beta=40, base=0.5, epsilon=0.1),
            labels,
            ops.convert_to_tensor(rows),
        ),
        similarity_multi_similarity(rows, labels, 2, 40, 0.1, 0.5),
        rtol=1e-6,
    )


@pytest.mark.parametrize("margin", [None, 0.3])
def test_hard_triplets_of_tensorflow_similarity(float64, margin):
    rows, labels = batch()
    distances, same = 1 - rows @ rows.T, labels[:, None] == labels
    others = same & ~np.eye(len(rows), dtype=bool)
    difference = np.where(others, distances, -np.inf).max(1)
    difference -= np.where(same, np.inf, distances).min(1)
    if margin is None:
        expected = np.log1p(np.exp(difference)).mean()
        loss = losses.TripletHardLoss(soft=True, distance_metric="angular")
    else:
        expected = np.maximum(difference + margin, 0).mean()
        loss = losses.TripletHardLoss(margin, distance_metric="angular")
    np.testing.assert_allclose(
        eager(loss, labels, ops.convert_to_tensor(rows)), expected, rtol=1e-6
    )


def insightface_cross_entropy(cosines, labels, scale, true_cosine):
    logits = cosines.copy()
    rows = np.arange(len(labels))
    logits[rows, labels] = true_cosine(cosines[rows, labels])
    logits *= scale
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    shares = exponents / exponents.sum(1, keepdims=True)
    return -np.log(shares[rows, labels]).mean()


def arc_face(cosine, margin=0.5):
    return np.cos(np.arccos(cosine) + margin)


@pytest.mark.parametrize(
    ("loss", "true_cosine"),
    [
        (losses.ArcFaceLoss(scale=16, margin=0.5), arc_face),
        (losses.CosFaceLoss(scale=16, margin=0.4), lambda c: c - 0.4),
    ],
    ids=["arc_face", "cos_face"],
)
def test_margins_of_insightface(float64, loss, true_cosine):
    generator = np.random.default_rng(1)
    # Beyond π − m theirs rises again.
    cosines = generator.uniform(np.cos(np.pi - 0.5), 0.99, (20, 5))
    labels = generator.integers(0, 5, 20)
    np.testing.assert_allclose(
        eager(loss, labels, ops.convert_to_tensor(cosines)),
        insightface_cross_entropy(cosines, labels, 16, true_cosine),
        rtol=1e-6,
    )


@pytest.mark.parametrize("form", ["integers", "one_hot"])
@pytest.mark.parametrize(
    "loss", [losses.ArcFaceLoss(), losses.TripletSemiHardLoss()]
)
def test_labels_in_the_second_place_are_told_to_come_first(loss, form):
    rows, labels = batch(dim=3)
    if form == "one_hot":
        labels = np.eye(3, dtype="float32")[labels]
    with pytest.raises(ValueError, match="labels first"):
        loss(rows.astype("float32"), labels)


def test_the_code_of_the_page_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        exec(compile(block, PAGE.name, "exec"), names)
    assert isinstance(names["model"], keras.Model)
    assert names["layer"].diversity_weight == pytest.approx(20 / 4.5)


def test_every_name_of_the_page_is_there():
    rooms = ("losses", "layers", "datasets", "callbacks")
    here = [
        cells[2]
        for line in PAGE.read_text().splitlines()
        if len(cells := re.split(r"(?<!\\)\|", line)) > 3
    ]
    found = re.findall(rf"`({'|'.join(rooms)})\.(\w+)", "\n".join(here))
    assert len(found) > 10
    for room, name in found:
        assert hasattr(getattr(keras_finegrain, room), name), name


@pytest.mark.parametrize(
    ("loss", "written"),
    [
        (losses.TripletSemiHardLoss, ["margin", "distance_metric"]),
        (losses.TripletHardLoss, ["margin", "soft", "distance_metric"]),
    ],
)
def test_arguments_of_addons_stand_in_their_order(loss, written):
    here = list(inspect.signature(loss).parameters)
    assert here[: len(written)] == written

"""Losses for classes of unequal size, and COCO's scale."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import losses
from tests.losses.numbers import eager

COUNTS = [500, 40, 7, 120]
DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(scale=3, size=(9, 4))
LABELS = np.arange(9) % 4
SOFT = DRAW.dirichlet(np.ones(4), 9)


def crossentropy(logits, shares):
    log_sum = np.log(np.exp(logits).sum(1, keepdims=True))
    return -(shares * (logits - log_sum)).sum(1)


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("labels", [LABELS, np.eye(4)[LABELS], SOFT])
def test_logits_are_adjusted_as_the_authors_do(float64, labels, tau):
    # Their code: logits + log(base_probs ** tau + 1e-12).
    shares = np.eye(4)[labels] if labels.ndim == 1 else labels
    prior = np.array(COUNTS) / np.sum(COUNTS)
    expected = crossentropy(LOGITS + np.log(prior**tau + 1e-12), shares)
    loss = losses.LogitAdjustedLoss(COUNTS, tau, reduction="none")
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(labels, LOGITS)), expected, rtol=1e-5
    )


def test_equal_classes_are_not_adjusted():
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    value = eager(losses.LogitAdjustedLoss([7] * 4), LABELS, LOGITS)
    assert value == pytest.approx(float(expected(LABELS, LOGITS)), rel=1e-5)


def test_counts_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"of the 4 classes, received 3"):
        losses.LogitAdjustedLoss([3, 2, 1])(LABELS, LOGITS)


def test_logit_adjustment_finds_the_rare_class():
    # Two overlapping classes, of which one comes 30 times as often.
    x = DRAW.normal(size=(310, 1)) + (np.arange(310) < 10)[:, None]
    y = (np.arange(310) < 10).astype("int32")

    def recall_of_rare(loss):
        model = keras_finegrain.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Dense(2, kernel_initializer="zeros"),
            ]
        )
        model.compile(keras.optimizers.SGD(1.0), loss)
        model.fit(x, y, batch_size=310, epochs=60, verbose=0)
        scores = model.predict(x, verbose=0)
        return (scores.argmax(1) == 1)[y == 1].mean()

    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert recall_of_rare(plain) == 0
    assert recall_of_rare(losses.LogitAdjustedLoss([300, 10])) >= 0.5


@pytest.mark.parametrize("scale", [30, 1])
def test_ldam_is_cosface_with_margins_by_class_size(float64, scale):
    # The authors' code: m_c = 0.5 · n_c^(-1/4) / max, and the cross-entropy of
    # s times the cosines, m_y off the true one.
    cosines = DRAW.uniform(-1, 1, (9, 4))
    margins = 1 / np.sqrt(np.sqrt(COUNTS))
    margins *= 0.5 / margins.max()
    true = np.eye(4)[LABELS]
    expected = crossentropy(scale * (cosines - margins * true), true)
    loss = losses.CosFaceLoss(
        scale, losses.class_size_margins(COUNTS), reduction="none"
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(LABELS, cosines)), expected, rtol=1e-9
    )


@pytest.mark.parametrize("classes", [2, 21, 200])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-2])
def test_the_scale_of_coco_lets_the_loss_fall_to_epsilon(classes, epsilon):
    loss = losses.COCOLoss(classes, epsilon, dtype="float64")
    # Centers of unit length at equal angles, and embeddings on them.
    best = np.full((classes, classes), -1 / (classes - 1))
    np.fill_diagonal(best, 1.0)
    lowest = crossentropy(loss.scale * best, np.eye(classes)).mean()
    assert lowest == pytest.approx(epsilon, rel=1e-6)


def test_coco_is_normface_with_its_scale():
    cosines = DRAW.uniform(-1, 1, (9, 4)).astype("float32")
    coco = losses.COCOLoss(4)
    assert eager(coco, LABELS, cosines) == eager(
        losses.NormFaceLoss(coco.scale), LABELS, cosines
    )


def test_an_epsilon_that_needs_no_scale_is_refused():
    with pytest.raises(ValueError, match="below the loss of chance"):
        losses.COCOLoss(2, epsilon=0.7)

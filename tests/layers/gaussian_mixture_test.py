import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import layers, losses
from tests.gradients import layer_losses, value_and_gradients

RANDOM = np.random.default_rng(0)
EMBEDDINGS, MEANS = RANDOM.normal(size=(7, 4)), RANDOM.normal(size=(5, 4))
LABELS = np.array([0, 1, 2, 3, 4, 0, 2])
SQUARED = np.square(EMBEDDINGS[:, None] - MEANS).sum(-1)


def head(**arguments):
    layer = layers.GaussianMixture(5, **arguments)
    layer.build((None, 4))
    layer.means.assign(MEANS)
    return layer


def written_out(embeddings, means, margin, weight):
    """The paper's loss, sample by sample."""
    total = 0.0
    for x, label in zip(embeddings, LABELS, strict=True):
        distances = 0.5 * np.square(x - means).sum(-1)
        likelihood = distances[label]
        distances[label] *= 1 + margin
        powers = np.exp(-distances)
        total -= np.log(powers[label] / powers.sum())
        total += weight * likelihood
    return total / len(LABELS)


def test_scores_are_half_the_negative_squared_distances(float64):
    np.testing.assert_allclose(
        ops.convert_to_numpy(head()(EMBEDDINGS)), -0.5 * SQUARED, rtol=1e-9
    )


@pytest.mark.parametrize(("margin", "weight"), [(0, 0), (0.3, 0.1), (2, 1)])
def test_loss_and_gradients_are_those_of_the_paper(float64, margin, weight):
    layer = head()
    loss = losses.LargeMarginGaussianMixtureLoss(
        margin, weight, reduction="none", dtype="float64"
    )

    def total(embeddings, means):
        scores, _ = layer_losses(layer, [means], embeddings)
        return ops.sum(loss(LABELS, scores)) / len(LABELS)

    value, gradients = value_and_gradients(total, [EMBEDDINGS, MEANS])

    assert value == pytest.approx(
        written_out(EMBEDDINGS, MEANS, margin, weight), rel=1e-9
    )
    for place, gradient in enumerate(gradients):
        moved = np.random.default_rng(place).normal(size=gradient.shape)

        def value_at(step, place=place, moved=moved):
            arrays = [EMBEDDINGS.copy(), MEANS.copy()]
            arrays[place] += step * moved
            return written_out(*arrays, margin, weight)

        slope = (value_at(1e-6) - value_at(-1e-6)) / 2e-6
        assert np.sum(gradient * moved) == pytest.approx(slope, rel=1e-6)


def test_labels_in_every_form_and_soft_ones_are_their_mixture():
    scores = ops.convert_to_tensor((-0.5 * SQUARED).astype("float32"))
    loss = losses.LargeMarginGaussianMixtureLoss(0.0, 0.5)
    one_hot = np.eye(5, dtype="float32")[LABELS]
    value = float(loss(LABELS, scores))

    assert float(loss(one_hot, scores)) == pytest.approx(value, rel=1e-6)
    # Without a margin the loss is linear in the labels.
    other = float(loss((LABELS + 1) % 5, scores))
    mixed = 0.75 * one_hot + 0.25 * np.roll(one_hot, 1, axis=1)
    assert float(loss(mixed, scores)) == pytest.approx(
        0.75 * value + 0.25 * other, rel=1e-5
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_model_learns_means_and_tells_by_the_nearest(policy):
    x = np.repeat(np.eye(3, 6), 8, axis=0).astype("float32") * 3
    y = np.repeat(np.arange(3), 8)
    model = keras_finegrain.Sequential(
        [keras.Input((6,)), layers.GaussianMixture(3, dtype=policy)]
    )
    model.compile(
        keras.optimizers.SGD(0.5), losses.LargeMarginGaussianMixtureLoss(0.3)
    )
    history = model.fit(x, y, epochs=12, verbose=0).history["loss"]

    assert history[-1] < 0.5 * history[0]
    scores = model.predict(x, verbose=0)
    assert scores.dtype == "float32"
    assert (scores <= 0).all()
    assert (scores.argmax(1) == y).all()


def test_a_mean_at_the_embedding_has_a_score_of_zero_and_not_above():
    layer = layers.GaussianMixture(1)
    layer.build((None, 64))
    x = RANDOM.normal(size=(1, 64)).astype("float32") * 100
    layer.means.assign(x)

    score = float(ops.convert_to_numpy(layer(x))[0, 0])

    assert -1.0 < score <= 0.0


def test_feature_maps_are_refused():
    with pytest.raises(ValueError, match="expected ndim=2"):
        layers.GaussianMixture(3)(np.ones((2, 4, 4, 3), "float32"))

"""Eight threads at a time: each has its own labels, and none waits for ever."""

import concurrent.futures

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import layers
from tests.robustness.calls_test import EMBEDDINGS, ON_PAIRS, ON_SCORES, SCORES

THREADS = 8


def in_threads(function):
    """What a function gives for 0, …, 7, each in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, range(THREADS), timeout=120))


def labels_of(number):
    return np.random.default_rng(number).permutation([0, 1, 2, 0, 1, 2])


def test_each_thread_sees_its_own_labels():
    def losses_of(number, repeats=10):
        found = []
        for _ in range(repeats):
            layer = layers.CenterLoss(3, loss_weight=1.0)
            layer.build(EMBEDDINGS.shape)
            layer.centers.assign(np.arange(12).reshape(3, 4))
            with keras_finegrain.label_scope(labels_of(number)):
                layer(EMBEDDINGS, training=False)
            found.append(float(layer.losses[0]))
        return found

    expected = [losses_of(number, 1) for number in range(THREADS)]
    assert len({round(value[0], 4) for value in expected}) > 1
    for found, (value,) in zip(in_threads(losses_of), expected, strict=True):
        assert found == pytest.approx([value] * 10)


@pytest.mark.parametrize(
    "loss",
    [ON_SCORES[0], ON_SCORES[6], ON_PAIRS[0], ON_PAIRS[2]],
    ids=lambda loss: loss.name,
)
def test_one_loss_serves_all_threads(loss):
    output = SCORES if loss in ON_SCORES else EMBEDDINGS

    def value(number):
        return float(loss(labels_of(number), output))

    expected = [value(number) for number in range(THREADS)]
    assert in_threads(value) == pytest.approx(expected)


def test_one_model_answers_all_threads():
    model = keras_finegrain.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4),
            layers.CenterLoss(3),
            layers.SoftTriple(3, 2),
        ]
    )

    def answer(number):
        rows = EMBEDDINGS + number
        return [ops.convert_to_numpy(model(rows)) for _ in range(5)]

    expected = [answer(number)[0] for number in range(THREADS)]
    for found, value in zip(in_threads(answer), expected, strict=True):
        for each in found:
            np.testing.assert_allclose(each, value, rtol=1e-5, atol=1e-6)


def test_a_thread_without_a_scope_has_no_labels():
    layer = layers.CenterLoss(3)
    layer.build(EMBEDDINGS.shape)

    def untold(number):
        with pytest.raises(ValueError, match="was given no labels"):
            layer(EMBEDDINGS, training=True)
        return number

    with keras_finegrain.label_scope(labels_of(0)):
        assert in_threads(untold) == list(range(THREADS))

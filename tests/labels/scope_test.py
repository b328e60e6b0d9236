"""The scope of a batch's labels is open where it is meant to be."""

import asyncio

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.labels.scope import current_scope

LABELS = np.array([0, 1])


class TestNoLabelsOnPurpose:
    def test_center_loss_adds_no_loss_and_moves_no_center(self):
        layer = keras_finegrain.CenterLoss(3)
        with keras_finegrain.label_scope(None):
            features = layer(ops.ones((2, 4)), training=True)
        np.testing.assert_array_equal(ops.convert_to_numpy(features), 1)
        assert layer.losses == []
        assert not np.any(ops.convert_to_numpy(layer.centers))

    def test_mc_loss_adds_no_loss(self):
        layer = keras_finegrain.MCLoss(2)
        with keras_finegrain.label_scope(None):
            layer(ops.ones((2, 3, 3, 4)), training=True)
        assert layer.losses == []

    def test_a_sampled_head_scores_all_classes(self):
        head = keras_finegrain.CosineSimilarity(8, sampled_share=0.5)
        with keras_finegrain.label_scope(None):
            assert head(ops.ones((2, 4)), training=True).shape == (2, 8)

    def test_dropout_draws_in_a_whole_model(self):
        model = keras_finegrain.Sequential(
            [
                keras.layers.Dropout(0.5, seed=1),
                keras_finegrain.CenterLoss(3),
            ]
        )
        with keras_finegrain.label_scope(None):
            drawn = [model(ops.ones((2, 40)), training=True) for _ in "ab"]
        first, second = map(ops.convert_to_numpy, drawn)
        assert (first != second).any()

    def test_labels_are_still_missed_in_fit_and_outside(self):
        layer = keras_finegrain.CenterLoss(3)
        with pytest.raises(ValueError, match=r"label_scope\(None\)"):
            layer(ops.ones((2, 4)), training=True)
        model = keras_finegrain.Sequential([layer])
        model.compile("sgd")
        with (
            keras_finegrain.label_scope(None),
            pytest.raises(ValueError, match="was given no labels"),
        ):
            model.fit(np.ones((2, 4)), verbose=0)

    def test_an_inner_scope_has_labels_again(self):
        layer = keras_finegrain.CenterLoss(3)
        with (
            keras_finegrain.label_scope(None),
            keras_finegrain.label_scope(LABELS),
        ):
            layer(ops.ones((2, 4)), training=True)
        assert len(layer.losses) == 1


def suspended(labels):
    with keras_finegrain.label_scope(labels):
        yield


def test_generators_close_their_own_scope_in_any_order():
    first, second = suspended("first"), suspended("second")
    next(first)
    next(second)
    first.close()
    assert current_scope().labels == "second"
    second.close()
    assert current_scope() is None


def test_a_task_does_not_see_the_scope_of_another():
    seen = []

    async def opens():
        with keras_finegrain.label_scope(LABELS):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def looks():
        await asyncio.sleep(0)
        seen.append(current_scope())

    async def both():
        await asyncio.gather(opens(), looks())

    asyncio.run(both())
    assert seen == [None]

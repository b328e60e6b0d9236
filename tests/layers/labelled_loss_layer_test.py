import numpy as np
import pytest

import keras_finegrain

X = np.array([[3.0, 4.0]], "float32")


def layer_at_zero(**arguments):
    return keras_finegrain.CenterLoss(
        2, loss_weight=1.0, centers_initializer="zeros", **arguments
    )


def loss_of(layer, *arguments, **named):
    layer(*arguments, **named)
    (loss,) = layer.losses
    return float(loss)


@pytest.mark.parametrize("reduction", ["mean", "sum", "class_mean"])
def test_a_batch_of_one_sample_has_its_whole_loss(reduction):
    layer = layer_at_zero(reduction=reduction)
    assert loss_of(layer, X, [1]) == pytest.approx(12.5)


def test_labels_and_weights_may_be_lists_in_second_and_third_place():
    x = np.concatenate([X, 2 * X])
    assert loss_of(layer_at_zero(), x, [0, 1], [1.0, 0.0]) == pytest.approx(
        12.5 / 2
    )


def test_a_mask_may_lack_the_last_axes_and_no_others():
    x = np.stack([X, X, X]).repeat(2, axis=1)  # (3, 2, 2)
    labels = np.zeros((3, 2), "int32")
    of_samples = np.array([True, False, False])
    value = loss_of(layer_at_zero(), x, labels, mask=of_samples)
    assert value == pytest.approx(12.5)
    of_places = np.array([[True, False], [False, False], [False, False]])
    value = loss_of(layer_at_zero(), x, labels, mask=of_places)
    assert value == pytest.approx(12.5)
    for wrong in (of_samples[:2], of_places[:, :1], of_places[..., None], True):
        with pytest.raises(
            ValueError, match=r"mask must have the shape \(3, 2"
        ):
            layer_at_zero()(x, labels, mask=np.array(wrong))


def test_a_mask_goes_on_to_what_stands_behind_the_layer():
    x = np.array([[[3.0, 4.0], [0.0, 0.0]]], "float32")
    for layer in (layer_at_zero(), keras_finegrain.MCLoss(2)):
        assert layer.supports_masking
        mask = layer.compute_mask(x, np.array([[True, False]]))
        np.testing.assert_array_equal(mask, [[True, False]])

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers import ClassChannelPooling

MAPS = np.random.default_rng(0).normal(size=(3, 4, 5, 7)).astype("float32")
SIZES = (2, 2, 3)
EXPECTED = np.stack(
    [
        MAPS[..., start:stop].max(-1).mean((1, 2))
        for start, stop in ((0, 2), (2, 4), (4, 7))
    ],
    axis=1,
)


@pytest.mark.parametrize("sizes", [None, SIZES])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_scores_follow_the_definition(sizes, data_format):
    first = data_format == "channels_first"
    maps = np.moveaxis(MAPS, -1, 1) if first else MAPS
    layer = ClassChannelPooling(3, sizes, data_format)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(maps)), EXPECTED, rtol=1e-5
    )
    assert layer(keras.Input(maps.shape[1:])).shape == (None, 3)


def test_their_cross_entropy_is_what_mc_loss_trains():
    labels = np.array([0, 2, 1])
    layer = keras_finegrain.MCLoss(3, 1.0, diversity_weight=0, drop=False)
    layer(MAPS, labels)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(layer.losses[0]) == pytest.approx(
        float(loss(labels, ClassChannelPooling(3)(MAPS))), rel=1e-5
    )


def test_masked_positions_count_for_nothing():
    seen = np.zeros((3, 4, 5), bool)
    seen[:2, :, :3] = True
    scores = ops.convert_to_numpy(ClassChannelPooling(3)(MAPS, mask=seen))
    expected = ops.convert_to_numpy(ClassChannelPooling(3)(MAPS[:, :, :3]))
    np.testing.assert_allclose(scores[:2], expected[:2], rtol=1e-5)
    np.testing.assert_array_equal(scores[2], 0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_rounds_the_scores_alone(policy):
    scores = ClassChannelPooling(3, dtype=policy)(MAPS)
    assert keras.backend.standardize_dtype(scores.dtype) == policy[6:]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(scores, "float32")),
        EXPECTED,
        rtol=0.02,
        atol=0.01,
    )


@pytest.mark.parametrize(
    ("maps", "sizes", "message"),
    [
        (MAPS[:, 0, 0], None, "needs a feature map"),
        (MAPS[..., :2], None, "2 channels for 3 classes"),
        (MAPS, 2, "channels_per_class gives"),
    ],
)
def test_maps_that_do_not_fit_are_told(maps, sizes, message):
    with pytest.raises(ValueError, match=f"ClassChannelPooling.*{message}"):
        ClassChannelPooling(3, sizes)(maps)


def test_scores_add_to_those_of_a_head_and_are_saved(tmp_path):
    maps = keras.Input((4, 5, 7))
    channels = keras.layers.Conv2D(9, 1, activation="relu")(maps)
    features = keras_finegrain.MCLoss(3)(maps, channels=channels)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    scores = keras.layers.Add()(
        [keras.layers.Dense(3)(pooled), ClassChannelPooling(3)(channels)]
    )
    model = keras_finegrain.Model(maps, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    model.fit(MAPS, np.array([0, 1, 2]), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(MAPS), model.predict(MAPS))

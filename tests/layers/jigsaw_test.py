import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers import Jigsaw
from keras_finegrain.layers.jigsaw import random_cycle

# No two values are the same: each tells where it came from.
IMAGES = np.arange(2 * 8 * 12 * 3, dtype="float32").reshape(2, 8, 12, 3)


def parts_of(images, pieces):
    """The parts of each image, `(batch, n², height / n, width / n, 3)`."""
    rows = np.split(images, pieces, axis=1)
    parts = [np.split(row, pieces, axis=2) for row in rows]
    return np.stack([part for row in parts for part in row], axis=1)


def sources(images, shuffled, pieces):
    """Where each part of the first image came from."""
    before = parts_of(images, pieces)[0]
    after = parts_of(shuffled, pieces)[0]
    return [
        next(i for i, old in enumerate(before) if np.array_equal(old, new))
        for new in after
    ]


@pytest.mark.parametrize("pieces", [2, 4])
def test_parts_stay_whole_and_none_stays_in_its_place(pieces):
    shuffled = ops.convert_to_numpy(
        Jigsaw(pieces, seed=0)(IMAGES, training=True)
    )
    places = sources(IMAGES, shuffled, pieces)
    assert sorted(places) == list(range(pieces**2))
    assert all(place != source for place, source in enumerate(places))
    # One permutation for all images of the batch.
    np.testing.assert_array_equal(
        parts_of(shuffled, pieces), parts_of(IMAGES, pieces)[:, places]
    )


def test_draws_are_the_cycles_of_the_official_generator():
    """It swaps each part, in random order, with what stands first."""

    def official(order):
        parts = list(range(4))
        for part in order:
            parts[0], parts[part] = parts[part], parts[0]
        return tuple(parts)

    generator = np.random.default_rng(0)
    theirs = {official(generator.permutation(4)) for _ in range(200)}
    seed = keras.random.SeedGenerator(0)
    ours = {
        tuple(ops.convert_to_numpy(random_cycle(4, seed)).tolist())
        for _ in range(60)
    }
    assert ours == theirs
    assert len(ours) == math.factorial(3)


def test_outside_of_training_nothing_moves():
    layer = Jigsaw(2, seed=0)
    for training in (None, False):
        seen = ops.convert_to_numpy(layer(IMAGES, training=training))
        np.testing.assert_array_equal(seen, IMAGES)
    whole = ops.convert_to_numpy(Jigsaw(1)(IMAGES, training=True))
    np.testing.assert_array_equal(whole, IMAGES)


def test_channels_first_is_the_same_in_other_axes():
    last = Jigsaw(4, seed=3)(IMAGES, training=True)
    first = Jigsaw(4, seed=3, data_format="channels_first")(
        np.moveaxis(IMAGES, -1, 1), training=True
    )
    np.testing.assert_array_equal(
        np.moveaxis(ops.convert_to_numpy(first), 1, -1),
        ops.convert_to_numpy(last),
    )


def test_values_are_those_of_the_input_under_every_policy():
    # 16 bits hold no 513.
    images = np.full((1, 4, 4, 1), 513.0, "float32")
    layer = Jigsaw(2, dtype="mixed_bfloat16")
    assert (ops.convert_to_numpy(layer(images, training=True)) == 513).all()
    levels = layer(np.ones((1, 4, 4, 1), "uint8"), training=True)
    assert keras.backend.standardize_dtype(levels.dtype) == "uint8"
    spec = layer(keras.Input((4, 4, 1), dtype="uint8"), training=True)
    assert spec.dtype == "uint8"


def test_a_saved_layer_goes_on_with_its_draws(tmp_path):
    model = keras_finegrain.Sequential(
        [keras.Input((8, 12, 3)), Jigsaw(4, seed=1)]
    )
    first = ops.convert_to_numpy(model(IMAGES, training=True))
    model.save(tmp_path / "model.keras")
    second = ops.convert_to_numpy(model(IMAGES, training=True))
    assert not np.array_equal(first, second)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(IMAGES, training=True)), second
    )


def test_a_compiled_step_shuffles_anew():
    model = keras_finegrain.Sequential(
        [keras.Input((8, 12, 3)), Jigsaw(2, seed=0), keras.layers.Flatten()]
    )
    # What is trained is nothing; the loss tells which image was seen.
    weights = np.arange(IMAGES[0].size, dtype="float32") / 1e4

    def seen(_, flat):
        return ops.sum(flat * ops.convert_to_tensor(weights), axis=-1)

    model.compile("sgd", seen)
    losses = [
        float(model.train_on_batch(IMAGES, np.zeros(2))) for _ in range(8)
    ]
    assert len({round(loss, 1) for loss in losses}) > 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Jigsaw(8)(np.ones((1, 260, 64, 3))), "Resize .* 256 x 64"),
        (lambda: Jigsaw(8)(np.ones((1, 2, 8, 3))), "Resize .* to 8 x 8"),
        (lambda: Jigsaw(2)(keras.Input((None, 8, 3))), "must be known"),
        (
            lambda: Jigsaw(2, data_format="channels_first")(
                np.ones((1, 4, 4, 3))
            ),
            "multiples of pieces=2.*channels_first",
        ),
    ],
)
def test_images_that_parts_do_not_fit_are_an_error(call, says):
    with pytest.raises(ValueError, match=f"(?s){says}"):
        call()


def test_an_image_of_another_size_than_before_is_looked_at_again():
    layer = Jigsaw(4)
    layer(IMAGES, training=True)
    with pytest.raises(ValueError, match="Resize the images to 8 x 8"):
        layer(np.ones((1, 10, 8, 3)), training=True)

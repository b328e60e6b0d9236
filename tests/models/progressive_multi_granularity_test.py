import os

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers import CenterLoss
from keras_finegrain.models import progressive_multi_granularity
from tests.gradients import value_and_gradients

CLASSES = 3
GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0, 255, (6, 16, 16, 3)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2])


def backbone(size=16):
    images = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    for number in (1, 2, 3):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool_{number}")(x)
    return keras.Model(images, x)


def pmg(of=None, layers=("relu_2", "relu_3"), **arguments):
    return progressive_multi_granularity(
        of or backbone(),
        CLASSES,
        layers,
        **{"stage_channels": 6, "embedding_size": 5, "seed": 0, **arguments},
    )


def compiled(model, learning_rate=0.1):
    model.compile(
        keras.optimizers.SGD(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def weights_of(model):
    return [ops.convert_to_numpy(v) for v in model.trainable_variables]


def test_a_step_is_the_sum_of_the_papers_steps():
    """Their gradients at the same weights, with the jigsaws of this step."""
    keras.utils.set_random_seed(0)
    model = compiled(pmg(), learning_rate=1.0)
    end = model.get_layer("scores")
    # What each jigsaw of the step to come will be, on a copy of its draws.
    images = []
    for jigsaw in end.jigsaws:
        copy = type(jigsaw).from_config(jigsaw.get_config())
        images.append(copy(X, training=True))
    images.append(ops.convert_to_tensor(X))
    names = ["stage_1_head", "stage_2_head", "head"]
    parts = [
        keras.Model(model.inputs, model.get_layer(name).output)
        for name in names
    ]
    before = weights_of(model)
    variables = model.trainable_variables

    def gradients(part, x):
        own = {id(v): i for i, v in enumerate(part.trainable_variables)}

        def loss(*values):
            scores, _ = part.stateless_call(
                values,
                [v.value for v in part.non_trainable_variables],
                x,
                training=True,
            )
            return ops.mean(
                keras.losses.sparse_categorical_crossentropy(
                    Y, scores, from_logits=True
                )
            )

        _, found = value_and_gradients(
            loss, [ops.convert_to_numpy(v) for v in part.trainable_variables]
        )
        return [
            found[own[id(v)]] if id(v) in own else np.zeros(v.shape)
            for v in variables
        ]

    steps = [gradients(*each) for each in zip(parts, images, strict=True)]
    model.train_on_batch(X, Y)
    for old, new, *of_steps in zip(
        before, weights_of(model), *steps, strict=True
    ):
        expected = 0.5 * of_steps[0] + 0.5 * of_steps[1] + of_steps[2]
        np.testing.assert_allclose(old - new, expected, rtol=1e-3, atol=2e-5)


def test_a_stage_sees_its_jigsaw_alone_and_predicting_none():
    model = pmg()
    assert [j.pieces for j in model.get_layer("scores").jigsaws] == [4, 2]
    scores = model.predict(X, verbose=0)
    heads = ["head", "stage_1_head", "stage_2_head"]
    each = keras.Model(
        model.inputs, [model.get_layer(name).output for name in heads]
    ).predict(X, verbose=0)
    np.testing.assert_allclose(scores, np.mean(each, axis=0), atol=1e-5)
    # In training: the classifier on all stages.
    assert model(X, training=True).shape == (6, CLASSES)


def test_the_classifiers_of_the_stages_learn():
    keras.utils.set_random_seed(0)
    model = compiled(pmg())
    kernel = model.get_layer("stage_1_head").kernel
    before = ops.convert_to_numpy(kernel)
    log = model.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y)).history
    assert np.abs(ops.convert_to_numpy(kernel) - before).max() > 1e-4
    if keras.backend.backend() == "jax" and os.environ.get(
        "JAX_DISABLE_MOST_OPTIMIZATIONS"
    ):
        # There the gradient of the maximum over a map is wrong, and can be 0/0
        # (the weights in front of it alone differ from an optimized step's).
        return
    assert np.isfinite(log["loss"] + log["val_loss"]).all()


def test_without_the_jigsaws_loss_the_stages_do_not_learn():
    model = compiled(pmg(jigsaw_loss_weight=0))
    kernel = model.get_layer("stage_1_head").kernel
    before = ops.convert_to_numpy(kernel)
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(kernel), before)


def test_a_saved_model_predicts_and_trains_the_same(tmp_path):
    keras.utils.set_random_seed(0)
    model = compiled(pmg())
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6
    )
    for each in (model, loaded):
        each.train_on_batch(X, Y)
    for one, other in zip(weights_of(model), weights_of(loaded), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_center_loss_stands_on_the_embedding_of_whole_images():
    model = compiled(pmg(embedding_layer=CenterLoss(CLASSES, name="centers")))
    log = model.fit(X, Y, verbose=0).history
    assert "center_distance" in log or len(log) >= 3
    embedding = keras_finegrain.embedding_model(model)
    assert embedding.output_shape == (None, 5)
    named = keras_finegrain.embedding_model(model, "embedding")
    np.testing.assert_allclose(
        embedding.predict(X, verbose=0), named.predict(X, verbose=0)
    )


def test_what_the_backbone_adds_to_the_loss_is_added_for_the_whole_image():
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, 2, "same", name="early")(images)
    x = keras_finegrain.MCLoss(CLASSES, 1.0, drop=False, name="mc")(x)
    x = keras.layers.Conv2D(4, 3, 2, "same", name="late")(x)
    model = compiled(pmg(keras.Model(images, x), ("mc", "late")), 0.0)
    log = model.fit(X, Y, batch_size=6, verbose=0).history
    with keras_finegrain.label_scope(Y):
        layer = keras_finegrain.MCLoss(CLASSES, 1.0, drop=False)
        early = keras.Model(model.inputs, model.get_layer("early").output)
        layer(early(X), training=True)
    (of_whole,) = layer.losses
    of_log = log["mc_discriminality"][0] - log["mc_diversity"][0] / 2
    assert of_log == pytest.approx(
        float(ops.convert_to_numpy(of_whole)), rel=1e-4
    )


def test_one_hot_labels_and_weights_reach_every_stage():
    keras.utils.set_random_seed(0)
    model = pmg()
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    one_hot = np.eye(CLASSES, dtype="float32")[Y]
    nothing = model.train_on_batch(X, one_hot, sample_weight=np.zeros(6))
    assert float(np.ravel(nothing)[0]) == 0


def test_maps_are_found_by_size():
    model = pmg(layers=None)
    assert [j.pieces for j in model.get_layer("scores").jigsaws] == [8, 4, 2]
    inputs = [
        model.get_layer(f"stage_{n}_conv_1").input.shape[1] for n in (1, 2, 3)
    ]
    assert inputs == [8, 4, 2]


def test_maps_of_squeeze_and_excitation_are_no_stages():
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same", name="early")(images)
    x = keras.layers.Conv2D(4, 3, 2, "same", name="middle")(x)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Conv2D(4, 1, activation="sigmoid")(gate)
    x = keras.layers.Multiply(name="gated")([x, gate])
    model = pmg(keras.Model(images, x), None)
    assert len(model.get_layer("scores").jigsaws) == 2
    assert model.get_layer("stage_2_conv_1").input.shape[1] == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layers": ("relu_2", "nowhere")}, "nowhere.*last map of each size"),
        ({"layers": ("relu_3", "relu_2")}, "stand as .'relu_2', 'relu_3'"),
        ({"layers": "relu_2"}, "list of names"),
        ({"layers": []}, "must name layers"),
        ({"pieces": [2]}, "list of 2 integers"),
        ({"pieces": [0, 2]}, "each of pieces"),
        ({"pieces": [3, 2]}, "multiples of pieces=3"),
        ({"jigsaw_loss_weight": -1}, "jigsaw_loss_weight"),
        ({"seed": -1}, "seed"),
        ({"stage_channels": 0}, "stage_channels"),
    ],
)
def test_bad_arguments_are_errors_that_name_them(arguments, says):
    with pytest.raises(ValueError, match=f"(?s){says}"):
        pmg(**arguments)


def test_a_backbone_of_two_inputs_is_an_error():
    inputs = [keras.Input((4, 4, 1)), keras.Input((4, 4, 1))]
    two = keras.Model(inputs, keras.layers.Add()(inputs))
    with pytest.raises(ValueError, match="one image input"):
        pmg(two, None)


def test_mixed_precision_gives_scores_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(pmg())
        log = model.fit(X, Y, verbose=0).history
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(log["loss"][0])
    assert model.predict(X, verbose=0).dtype == np.float32

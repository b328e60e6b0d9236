"""Grad-CAM must be what its equations say, for every kind of model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_finegrain
from keras_finegrain.visualization.grad_cam import grad_cam
from keras_finegrain.visualization.gradients import gradient
from keras_finegrain.visualization.photo import resized

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 12, 10, 3)).astype("f4")


def trunk(strides=1):
    return [
        layers.Conv2D(5, 3, padding="same", activation="relu", name="conv1"),
        layers.BatchNormalization(name="norm"),
        layers.Conv2D(
            6, 3, strides, padding="same", activation="relu", name="conv2"
        ),
    ]


def classifier(*head, strides=1, model_class=keras.Sequential):
    return model_class(
        [
            keras.Input((12, 10, 3)),
            *trunk(strides),
            layers.GlobalAveragePooling2D(),
            *(head or [layers.Dense(4, name="scores")]),
        ]
    )


def output_of(model, layer):
    return ops.convert_to_numpy(
        keras.Model(model.inputs[0], layer.output)(IMAGES)
    )


def scaled(maps):
    maps = np.maximum(maps, 0)
    return maps / maps.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("strides", [1, 3])
def test_is_class_activation_mapping_where_pooling_and_dense_end_the_model(
    strides,
):
    model = classifier(strides=strides)
    feature_maps = output_of(model, model.get_layer("conv2"))
    kernel = ops.convert_to_numpy(model.get_layer("scores").kernel)
    kernel += 0.5  # So that each class has some evidence.
    model.get_layer("scores").kernel.assign(kernel)

    for label in range(4):
        heat = grad_cam(model, IMAGES, class_index=label)

        activation = np.maximum(feature_maps @ kernel[:, label], 0)
        expected = scaled(resized(activation, 12, 10))
        np.testing.assert_allclose(heat, expected, atol=2e-5)


def test_follows_its_equations_by_finite_differences_through_a_hidden_layer():
    model = classifier(layers.Dense(7, activation="tanh"), layers.Dense(4))
    hidden, last = model.layers[-2:]
    w1, b1, w2, b2 = (
        ops.convert_to_numpy(w).astype("f8")
        for w in (hidden.kernel, hidden.bias, last.kernel, last.bias)
    )
    feature_map = output_of(model, model.get_layer("conv2"))[0].astype("f8")

    def score(feature_map):
        return (np.tanh(feature_map.mean((0, 1)) @ w1 + b1) @ w2 + b2)[2]

    slopes = np.zeros_like(feature_map)
    for place in np.ndindex(*feature_map.shape):
        step = np.zeros_like(feature_map)
        step[place] = 1e-4
        slopes[place] = (
            score(feature_map + step) - score(feature_map - step)
        ) / 2e-4
    expected = np.maximum(feature_map @ slopes.mean((0, 1)), 0)
    assert expected.any()

    heat = grad_cam(model, IMAGES[0], class_index=2)

    np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-4)


def test_weights_are_means_over_positions_whose_slopes_differ():
    model = keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            *trunk(),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    # Without pooling a slope is a weight of its own: (positions, channels).
    slopes = ops.convert_to_numpy(model.layers[-1].kernel)
    weights = slopes.reshape(12 * 10, 6, 4).mean(axis=0)
    maps = output_of(model, model.get_layer("conv2"))[[0, 0, 0, 0]]
    expected = np.maximum(np.einsum("chwk,kc->chw", maps, weights), 0)
    highest = expected.max(axis=(1, 2), keepdims=True)
    assert highest.any()

    heat = grad_cam(model, IMAGES[[0, 0, 0, 0]], class_index=range(4))

    np.testing.assert_allclose(
        heat, expected / np.where(highest > 0, highest, 1), atol=1e-4
    )


def nested_and_flat(strides=1):
    """The same layers inside of a backbone and side by side."""
    backbone = keras.Sequential(
        [keras.Input((12, 10, 3)), *trunk(strides)], name="backbone"
    )
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    nested = keras.Sequential([backbone, *head])
    nested.build((None, 12, 10, 3))
    flat = keras.Sequential([keras.Input((12, 10, 3)), *backbone.layers, *head])
    return nested, flat


@pytest.mark.parametrize(
    ("path", "flat_path"),
    [
        (None, None),
        ("backbone", "conv2"),
        ("backbone/conv2", "conv2"),
        ("backbone/norm", "norm"),
        ("backbone/conv1", "conv1"),
    ],
)
def test_a_layer_of_a_backbone_is_explained_as_if_it_stood_in_the_model(
    path, flat_path
):
    nested, flat = nested_and_flat()
    images, classes = IMAGES[[0, 0, 0, 0]], range(4)

    heat = grad_cam(nested, images, classes, layer=path)

    expected = grad_cam(flat, images, classes, layer=flat_path)
    assert expected.any()
    np.testing.assert_allclose(heat, expected, atol=1e-6)


def test_takes_the_layer_itself():
    nested, _ = nested_and_flat()
    conv1 = nested.get_layer("backbone").get_layer("conv1")

    np.testing.assert_array_equal(
        grad_cam(nested, IMAGES, layer=conv1),
        grad_cam(nested, IMAGES, layer="backbone/conv1"),
    )


@pytest.mark.slow
def test_explains_an_application_as_a_backbone_with_a_new_head():
    whole = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    # (Its deeper blocks only repeat these.)
    backbone = keras.Model(
        whole.inputs, whole.get_layer("conv_pw_1_relu").output
    )
    head = layers.Dense(2, kernel_initializer="ones")
    model = keras.Sequential([backbone, layers.GlobalAveragePooling2D(), head])
    model.build((None, 64, 64, 3))
    image = np.random.default_rng(1).uniform(-1, 1, (64, 64, 3)).astype("f4")

    heat = grad_cam(model, image)

    activation = ops.convert_to_numpy(backbone([image[None]])).sum(axis=-1)
    expected = scaled(resized(activation, 64, 64))[0]
    np.testing.assert_allclose(heat, expected, atol=1e-4)


def test_the_default_layer_is_the_last_that_still_knows_where():
    pooled_inside = keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            *trunk(),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Conv2D(4, 1),
            layers.Flatten(),
        ],
        name="backbone",
    )
    model = keras.Sequential([keras.Input((12, 10, 3)), pooled_inside])

    heat = grad_cam(model, IMAGES)

    expected = grad_cam(model, IMAGES, layer="backbone/conv2")
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(heat, expected)


@pytest.mark.parametrize(
    "head",
    [
        lambda: [layers.Dense(4, activation="softmax")],
        lambda: [layers.Dense(4), layers.Activation("softmax")],
        lambda: [layers.Dense(4), layers.Softmax()],
        lambda: [
            keras.Sequential(
                [keras.Input((6,)), layers.Dense(4, activation="softmax")]
            )
        ],
    ],
)
def test_the_score_is_the_one_before_the_softmax(head):
    model = classifier(*head())
    plain = classifier()
    weights = model.get_weights()
    # So sure that in float32 the softmax has no gradient left.
    weights[-1] = np.array([0, 0, 200, 0], "f4")
    weights[-2] = np.abs(weights[-2])
    model.set_weights(weights)
    plain.set_weights(weights)

    heat = grad_cam(model, IMAGES)

    assert heat.any()
    np.testing.assert_allclose(heat, grad_cam(plain, IMAGES), atol=1e-6)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(IMAGES)).sum(axis=1), 1, rtol=1e-6
    )


def test_a_softmax_that_is_not_the_end_stays():
    images = keras.Input((12, 10, 3))
    feature_map = layers.Conv2D(6, 3, padding="same", name="conv2")(images)
    pooled = layers.GlobalAveragePooling2D()(feature_map)
    votes = layers.Dense(4)(pooled)
    trust = layers.Dense(4, activation="softmax")(pooled)
    model = keras.Model(images, votes * trust)
    head = keras.Model(pooled, votes * trust)
    maps = output_of(model, model.get_layer("conv2"))[:1]

    heat = grad_cam(model, IMAGES[:1], class_index=1)

    weights = gradient(
        lambda pooled: head(pooled)[0, 1],
        ops.convert_to_tensor(maps.mean(axis=(1, 2))),
    )
    expected = scaled(maps @ ops.convert_to_numpy(weights)[0])
    np.testing.assert_allclose(heat, expected, atol=1e-4)


def test_the_default_class_is_each_images_highest_score():
    model = classifier()
    model.layers[-1].kernel.assign(5 * model.layers[-1].kernel)
    best = ops.convert_to_numpy(model(IMAGES)).argmax(axis=1)

    np.testing.assert_array_equal(
        grad_cam(model, IMAGES), grad_cam(model, IMAGES, class_index=best)
    )


def test_each_image_of_a_batch_is_explained_by_itself():
    model = classifier()
    kernel = np.abs(ops.convert_to_numpy(model.layers[-1].kernel))
    model.layers[-1].kernel.assign(kernel)

    together = grad_cam(model, IMAGES, class_index=[3, 0, 1])

    assert together.shape == (3, 12, 10)
    np.testing.assert_allclose(together.max(axis=(1, 2)), 1)
    for heat, image, label in zip(together, IMAGES, [3, 0, 1], strict=True):
        alone = grad_cam(model, image, class_index=label)
        assert alone.shape == (12, 10)
        np.testing.assert_allclose(heat, alone, atol=1e-5)


def test_nothing_is_hot_where_all_speaks_against_the_class():
    model = classifier()
    kernel = np.ones((6, 4), "f4")
    kernel[:, 1] = -1
    model.layers[-1].kernel.assign(kernel)

    np.testing.assert_array_equal(grad_cam(model, IMAGES, class_index=1), 0)


def fine_grained_model(embedding_loss):
    return keras_finegrain.Sequential(
        [
            keras.Input((12, 10, 3)),
            *trunk(),
            keras_finegrain.MCLoss(num_classes=3),
            layers.GlobalAveragePooling2D(),
            *embedding_loss,
            keras_finegrain.SoftTriple(num_classes=3),
        ]
    )


def test_the_layers_of_this_package_need_no_labels_for_it():
    model = fine_grained_model([keras_finegrain.CenterLoss(num_classes=3)])
    # The losses alone taken out: what they return is their input.
    plain = keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            *[
                layer
                for layer in model.layers
                if not isinstance(
                    layer, keras_finegrain.MCLoss | keras_finegrain.CenterLoss
                )
            ],
        ]
    )

    heat = grad_cam(model, IMAGES, class_index=2)

    assert heat.any()
    np.testing.assert_allclose(
        heat, grad_cam(plain, IMAGES, class_index=2), atol=1e-6
    )


def test_an_optional_label_input_is_left_empty():
    images = keras.Input((12, 10, 3))
    labels = keras.Input((), dtype="int32", optional=True)
    features = images
    for layer in trunk():
        features = layer(features)
    features = layers.GlobalAveragePooling2D()(features)
    embedding = keras_finegrain.CenterLoss(num_classes=3)(features, labels)
    scores = layers.Dense(3)(embedding)
    plain = keras.Model(images, layers.Dense(3)(features))
    model = keras.Model([images, labels], scores)
    plain.layers[-1].set_weights(model.layers[-1].get_weights())

    np.testing.assert_allclose(
        grad_cam(model, IMAGES, class_index=0),
        grad_cam(plain, IMAGES, class_index=0),
        atol=1e-6,
    )


def test_the_model_is_left_as_it_was():
    model = fine_grained_model([layers.Dropout(0.5)])
    model.compile("sgd", keras_finegrain.losses.SoftTripleLoss())
    variables = [ops.convert_to_numpy(v) for v in model.variables]
    attributes = {layer.name: set(vars(layer)) for layer in model.layers}

    grad_cam(model, IMAGES)

    for variable, before in zip(model.variables, variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), before)
    for layer in model.layers:
        assert set(vars(layer)) == attributes[layer.name]
    # Nor does anything of the gradient stay where training would meet it.
    model.fit(IMAGES, np.array([0, 1, 2]), verbose=0)


class CallCounter(layers.Layer):
    """Has state and a loss that change in inference too."""

    def build(self, shape):
        self.calls = self.add_weight(initializer="zeros", trainable=False)

    def call(self, features):
        self.calls.assign(self.calls + 1)
        self.add_loss(ops.sum(features))
        return features


def test_state_that_changes_in_inference_is_left_as_it_was():
    model = classifier(CallCounter(), layers.Dense(4))

    grad_cam(model, IMAGES)

    assert float(ops.convert_to_numpy(model.layers[-2].calls)) == 0
    assert model.losses == []


def test_a_frozen_model_is_explained():
    model = classifier()
    expected = grad_cam(model, IMAGES)
    model.trainable = False

    np.testing.assert_array_equal(grad_cam(model, IMAGES), expected)


@pytest.mark.parametrize(
    "mixed", ["mixed_bfloat16", "mixed_float16"], indirect=True
)
def test_half_precision_gives_the_same_map_to_its_digits(mixed):
    model = classifier()
    kernel = np.abs(ops.convert_to_numpy(model.layers[-1].kernel))
    model.layers[-1].kernel.assign(kernel)
    weights = model.get_weights()
    heat = grad_cam(model, IMAGES, class_index=0)

    keras.config.set_dtype_policy("float32")
    exact = classifier()
    exact.set_weights(weights)

    assert heat.dtype == np.float32
    np.testing.assert_allclose(
        heat, grad_cam(exact, IMAGES, class_index=0), atol=0.05
    )


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


def test_channels_may_stand_first(channels_first):
    # (TensorFlow has no such convolution on a CPU.)
    model = keras.Sequential(
        [
            keras.Input((3, 12, 10)),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, kernel_initializer="ones"),
        ]
    )

    heat = grad_cam(model, np.moveaxis(IMAGES, -1, 1))

    expected = scaled(np.maximum(IMAGES, 0).sum(axis=-1))
    np.testing.assert_allclose(heat, expected, atol=1e-6)


def test_an_integer_image_is_preprocessed_by_the_model():
    model = keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            layers.Rescaling(1 / 255, name="rescaling"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, kernel_initializer="ones"),
        ]
    )
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), "uint8")

    heat = grad_cam(model, image)

    expected = image.sum(axis=-1, dtype="f4")
    np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_index": 4}, r"class_index must lie in \[0, 4\).*received 4"),
        ({"class_index": -1}, "received -1"),
        ({"class_index": 1.5}, "integer.*received 1.5"),
        ({"class_index": [0, 1]}, r"3 images, received \[0, 1\]"),
        ({"layer": "conv9"}, "received 'conv9'.*'conv2'"),
        ({"layer": "scores"}, r"'scores' has the shape \(3, 4\)"),
        ({"layer": layers.ReLU(name="other")}, "'other' was not called"),
        ({"image": IMAGES[0, 0]}, r"image must have.*received \(10, 3\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    arguments = {"image": IMAGES, **arguments}
    with pytest.raises(ValueError, match=f"^grad_cam: .*{message}"):
        grad_cam(classifier(), **arguments)


def test_a_model_without_a_feature_map_is_an_error():
    model = keras.Sequential(
        [keras.Input((12, 10, 3)), layers.Flatten(), layers.Dense(2)]
    )

    with pytest.raises(ValueError, match=r"^grad_cam: .*has none with four"):
        grad_cam(model, IMAGES)


def test_a_model_without_scores_is_an_error():
    model = keras.Sequential([keras.Input((12, 10, 3)), *trunk()])

    with pytest.raises(ValueError, match=r"scores .*\(3, 12, 10, 6\)"):
        grad_cam(model, IMAGES)


def test_a_model_without_weights_is_an_error():
    with pytest.raises(ValueError, match=r"^grad_cam: .*must be built"):
        grad_cam(keras.Sequential([layers.Dense(2)]), IMAGES)


def test_a_layer_that_is_called_twice_is_an_error():
    inputs = keras.Input((12, 10, 3))
    shared = layers.Conv2D(3, 3, name="shared")
    pooled = layers.GlobalAveragePooling2D()(shared(shared(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(pooled))

    with pytest.raises(ValueError, match="'shared' is called 2 times"):
        grad_cam(model, IMAGES)


def two_images():
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    x = keras.layers.Concatenate()([left, right])
    x = keras.layers.Conv2D(4, 3)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model([left, right], keras.layers.Dense(2)(x))


def one_image():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (two_images, {}, "model must need one input, .* needs"),
        (one_image, {"image": np.full((8, 8, 3), np.nan)}, "must be finite"),
        (one_image, {"image": np.ones((9, 8, 3))}, r"\(8, 8, 3\), received"),
        (one_image, {"image": np.ones((8, 8, 1))}, r"\(8, 8, 3\), received"),
        (one_image, {"image": np.ones((0, 8, 8, 3))}, "image must have"),
        (one_image, {"image": "bird.jpg"}, "image must be an array"),
        (one_image, {"layer": 3}, "layer must be a layer or its path"),
        (object, {}, "model must be a Keras model"),
    ],
)
def test_what_no_map_can_be_made_of_is_named(model, arguments, message):
    image = np.ones((8, 8, 3), "float32")
    with pytest.raises((TypeError, ValueError), match=f"grad_cam: .*{message}"):
        grad_cam(model(), **{"image": image, **arguments})

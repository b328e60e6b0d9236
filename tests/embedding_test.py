"""The embedding must be that of the right layer, sample for sample."""

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain.embedding import embed, embedding_model


def classifier(head=None, **compile_arguments):
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(5, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    x = keras_finegrain.CenterLoss(3)(x)
    x = (head or keras.layers.Dense(3))(x)
    model = keras_finegrain.Model(image, x)
    model.compile("sgd", "mse", **compile_arguments)
    return model


def images(count=11):
    return np.random.default_rng(0).normal(size=(count, 4, 4, 3))


@pytest.mark.parametrize(
    "head",
    [
        keras.layers.Dense(3),
        keras_finegrain.SoftTriple(3),
        keras_finegrain.CosineSimilarity(3),
        keras_finegrain.layers.GaussianMixture(3),
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).layers[0],
    ],
)
def test_goes_up_to_what_the_head_is_given(head):
    model = classifier(head)

    embeddings = embedding_model(model).predict(images(), verbose=0)

    assert embeddings.shape == (11, 5)
    pooled = keras.Model(model.inputs, model.get_layer("pooling").output)
    np.testing.assert_array_equal(
        embeddings, pooled.predict(images(), verbose=0)
    )


def test_a_softmax_behind_the_head_is_no_head():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(5),
            keras.layers.Dense(3),
            keras.layers.Softmax(),
        ]
    )

    assert embedding_model(model).output_shape == (None, 5)


def test_of_a_model_on_pairs_it_is_the_output():
    model = keras_finegrain.Sequential(
        [keras.Input((8,)), keras.layers.Dense(5), keras.layers.Dense(2)]
    )
    model.compile("sgd", keras_finegrain.losses.TripletSemiHardLoss())

    assert embedding_model(model).output_shape == (None, 2)


def test_any_layer_can_be_named():
    model = classifier()

    for layer in ("pooling", model.get_layer("pooling")):
        assert embedding_model(model, layer).output_shape == (None, 5)


def test_labels_beside_the_head_are_no_embedding():
    features = keras.Input((4,))
    labels = keras.Input((), dtype="int32")
    x = keras_finegrain.CenterLoss(3)(features, labels)
    model = keras.Model([features, labels], keras.layers.Dense(3)(x))

    assert embedding_model(model).output_shape == (None, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "and built"),
        (
            lambda: keras.Sequential(
                [keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3)]
            ),
            "last layer with weights is no Dense, .* Conv2D",
        ),
    ],
)
def test_a_model_without_an_embedding_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        embedding_model(make())


def test_a_layer_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"received 'pool'.*'pooling'"):
        embedding_model(classifier(), "pool")
    with pytest.raises(ValueError, match=r"vectors .* \(None, 2, 2, 5\)"):
        embedding_model(model := classifier(), model.layers[1])
    with pytest.raises(ValueError, match="must be a layer of the model"):
        embedding_model(classifier(), keras.layers.Dense(2, name="elsewhere"))


class Batches(keras.utils.PyDataset):
    """Batches of four."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return images()[rows], np.arange(11)[rows]


def every_kind_of_data():
    yield (images(), np.arange(11))
    yield (images(), np.eye(11)[np.arange(11)])
    yield (images(), np.arange(11)[:, None], np.ones(11))
    yield Batches()
    yield [Batches()[index] for index in range(3)]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        pairs = tf.data.Dataset.from_tensor_slices((images(), np.arange(11)))
        yield pairs.batch(4)
    if keras.backend.backend() == "torch":
        import torch

        pairs = torch.utils.data.TensorDataset(
            torch.tensor(images()), torch.arange(11)
        )
        yield torch.utils.data.DataLoader(pairs, batch_size=4)


@pytest.mark.parametrize("data", list(every_kind_of_data()))
def test_every_sample_keeps_its_label_uneven_batches_included(data):
    model = embedding_model(classifier())

    embeddings, labels = embed(model, data, batch_size=4)

    np.testing.assert_array_equal(labels, np.arange(11))
    np.testing.assert_allclose(
        embeddings, model.predict(images(), verbose=0), rtol=1e-5, atol=1e-6
    )


def test_a_later_batch_may_be_larger():
    model = embedding_model(classifier())
    data = [
        (images()[:3], np.arange(3)),
        (images()[3:9], np.arange(3, 9)),
        (images()[9:], np.arange(9, 11)),
    ]

    embeddings, labels = embed(model, data)

    np.testing.assert_array_equal(labels, np.arange(11))
    assert embeddings.shape == (11, 5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(images(),)], "without labels"),
        ([], "received none"),
        (iter([(images(), np.arange(11))]), "read only once"),
    ],
)
def test_data_that_cannot_be_embedded_is_an_error(data, message):
    with pytest.raises(ValueError, match=message):
        embed(embedding_model(classifier()), data)


@pytest.fixture
def nested():
    """Backbone and head are models of their own, behind each other."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, name="conv")(image)
    backbone = keras.Model(image, x, name="backbone")
    map_ = keras.Input((6, 6, 6))
    x = keras_finegrain.MCLoss(3)(map_)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    x = keras_finegrain.CenterLoss(3, name="center")(x)
    head = keras_finegrain.Model(map_, keras.layers.Dense(3)(x), name="head")
    image = keras.Input((8, 8, 3))
    scores = keras.layers.Activation("softmax")(head(backbone(image)))
    return keras_finegrain.Model(image, scores)


@pytest.mark.parametrize("saved", [False, True])
def test_a_head_in_a_nested_model_is_found(nested, saved, tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    if saved:
        nested.save(tmp_path / "m.keras")
        nested = keras.models.load_model(tmp_path / "m.keras")
    expected = nested.get_layer("backbone").predict(x, verbose=0).mean((1, 2))
    for layer in (None, "pooling", "center"):
        found = embedding_model(nested, layer).predict(x, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    own = nested.get_layer("head").get_layer("pooling")
    assert embedding_model(nested, own).output_shape == (None, 6)
    with pytest.raises(ValueError, match=r"'poling'. The nearest .*'pooling'"):
        embedding_model(nested, "poling")


def test_a_head_that_is_a_model_of_its_own_has_its_input_as_embedding():
    x = keras.Input((5,))
    head = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model = keras.Model(x, head(keras.layers.ReLU()(x)))
    assert embedding_model(model).output_shape == (None, 5)


X = np.ones((5, 4, 4, 3), "float32")
Y = np.arange(5) % 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "data must be arrays"),
        (5, "data must be arrays"),
        ((X, None), "received a batch without labels"),
        ((X, Y[:3]), "one label for each input, received 3 labels"),
        ((X[:3], Y), "one label for each input, received 5 labels"),
        ([(X, Y), (X, Y[:3])], "one label for each input, received 3 labels"),
    ],
)
def test_data_that_is_none_is_named(data, message):
    with pytest.raises((TypeError, ValueError), match=f"embed: .*{message}"):
        embed(embedding_model(classifier()), data)


def test_a_layer_that_is_none_is_named():
    with pytest.raises(TypeError, match="layer must be a layer or its name"):
        embedding_model(classifier(), 5)

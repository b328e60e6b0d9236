"""One set of rules for labels, whoever reads them."""

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import losses
from keras_finegrain.embedding import embed
from keras_finegrain.labels.forms import class_numbers, integer_labels

BACKEND = keras.backend.backend()
CLASSES = 3
EMBEDDINGS = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
COSINES = np.tanh(EMBEDDINGS[:, :CLASSES])
NUMBERS = np.array([2, 0, 2, 1])
ROWS = np.eye(CLASSES, dtype="float32")[NUMBERS]
NO_ROW = [0.0, 0.0, 0.0]


def center_loss(labels, **arguments):
    layer = keras_finegrain.CenterLoss(CLASSES, loss_weight=1.0, **arguments)
    layer.build((None, 5))
    with keras_finegrain.label_scope(keras.ops.convert_to_tensor(labels)):
        layer(EMBEDDINGS, training=True)
    (loss,) = layer.losses
    centers = keras.ops.convert_to_numpy(layer.centers)
    return [float(loss), *centers.ravel().tolist()]


def recall(labels):
    return keras_finegrain.metrics.recall_at_k(EMBEDDINGS, labels)


def embedded(labels):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Flatten()])
    return embed(model, (EMBEDDINGS, labels))[1].tolist()


def fitted(labels):
    inputs = keras.Input((5,))
    features = keras_finegrain.CenterLoss(CLASSES)(inputs)
    head = keras_finegrain.CosineSimilarity(CLASSES, centers_initializer="ones")
    model = keras_finegrain.Model(inputs, head(features))
    model.compile("sgd", losses.NormFaceLoss())
    history = model.fit(EMBEDDINGS, labels, batch_size=4, verbose=0)
    return history.history["loss"]


def loss_of(loss, outputs):
    return lambda labels: float(loss(labels, outputs))


READERS = {
    "layer": center_loss,
    "class_loss": loss_of(losses.ArcFaceLoss(), COSINES),
    "batch_loss": loss_of(losses.ProxyAnchorLoss(), COSINES),
    "pair_loss": loss_of(losses.TripletHardLoss(), EMBEDDINGS),
    "embed": embedded,
    "metric": recall,
    "fit": fitted,
}


@pytest.fixture(params=READERS, ids=str)
def read(request):
    return READERS[request.param]


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS[:, None],
        NUMBERS.astype("uint8"),
        NUMBERS.astype("int64"),
        ROWS,
        ROWS.astype("int32"),
        ROWS.astype(bool),
        0.9 * ROWS + 0.1 / CLASSES,
    ],
    ids=["column", "uint8", "int64", "float", "int", "bool", "soft"],
)
def test_every_form_means_the_same(read, labels, request):
    if "soft" in request.node.name and "class_loss" in request.node.name:
        pytest.skip("a mixture there: tests/losses/class_losses_test.py")
    if request.node.name.endswith("[layer-soft]"):
        pytest.skip("a mixture there: tests/layers/center_loss_test.py")
    if "soft" in request.node.name and "fit" in request.node.name:
        pytest.skip("a mixture in the loss")
    np.testing.assert_allclose(
        read(labels), read(NUMBERS.astype("int32")), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([2.0, 0.0, 2.0, 1.0]), "integers or one-hot.*float"),
        (np.array([1.9, 0.2, 1.0, 1.0]), "integers or one-hot.*float"),
        (np.array([1.0, np.nan, 1.0, 1.0]), "integers or one-hot.*float"),
        (np.array(["a", "b", "a", "b"]), "Number the classes"),
        (np.array([*ROWS[:3], NO_ROW]), "must name one class.*in row 3"),
        (np.array([*ROWS[:3], [1, 1, 0]]), "must name one class.*in row 3"),
        (np.array([*ROWS[:3], [3.0, -1, -1]]), "must name one class"),
        (np.array([*ROWS[:3], [np.nan, 1, 0]]), "must name one class"),
        (np.array([[0, 2, 4], [1, 0, 0], [1, 0, 0], [1, 0, 0]]), "one class"),
    ],
    ids=[
        "whole_floats",
        "fractions",
        "nan",
        "strings",
        "zeros",
        "two_ones",
        "logits",
        "nan_row",
        "not_one_hot",
    ],
)
def test_what_is_no_label_is_an_error(read, labels, message):
    takes_arrays = read in (embedded, recall, fitted)
    strings = labels.dtype.kind == "U"
    if strings and BACKEND != "tensorflow" and not takes_arrays:
        pytest.skip("no tensor holds strings on this backend")
    with pytest.raises(ValueError, match=message):
        read(labels)


@pytest.mark.parametrize("number", [-1, 3, 2**31 + 1])
def test_a_number_outside_the_classes_is_an_error(number):
    labels = np.array([2, 0, 2, number])
    for reader in ("layer", "class_loss", "batch_loss", "fit"):
        with pytest.raises(ValueError, match=r"must lie in \[0, 3\)|int32"):
            READERS[reader](labels)


@pytest.mark.parametrize("missing", [NO_ROW, [np.nan, 0.0, 0.0]])
def test_a_row_without_a_class_is_ignored_as_minus_one_is(missing):
    rows = np.array([*ROWS[:3], missing], "float32")
    numbers = np.array([*NUMBERS[:3], -1], "int32")
    for ignored in (-1, -7):
        numbers[-1] = ignored
        np.testing.assert_allclose(
            center_loss(rows, ignore_class=ignored),
            center_loss(numbers, ignore_class=ignored),
        )
    with pytest.raises(ValueError, match="must name one class"):
        center_loss(rows, ignore_class=255)


def test_in_a_compiled_step_an_unusable_row_makes_the_loss_nan():
    rows = np.array([*ROWS[:3], NO_ROW], "float32")
    for loss, outputs in (
        (losses.ArcFaceLoss(), COSINES),
        (losses.ProxyNCALoss(), COSINES),
        (losses.ProxyAnchorLoss(), COSINES),
        (losses.TripletHardLoss(), EMBEDDINGS),
    ):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            compiled = tf.function(loss)
        elif BACKEND == "jax":
            import jax

            compiled = jax.jit(loss)
        else:
            pytest.skip("PyTorch runs its steps eagerly")
        rows, outputs = map(keras.ops.convert_to_tensor, (rows, outputs))
        assert np.isnan(float(compiled(rows, outputs)))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data feeds it")
def test_a_pipeline_with_a_row_without_a_class_stops():
    import tensorflow as tf

    rows = np.array([*ROWS[:3], NO_ROW], "float32")
    data = tf.data.Dataset.from_tensor_slices((EMBEDDINGS, rows)).batch(2)
    inputs = keras.Input((5,))
    for ignored, stops in ((None, True), (-1, False)):
        layer = keras_finegrain.CenterLoss(CLASSES, ignore_class=ignored)
        outputs = keras.layers.Dense(CLASSES)(layer(inputs))
        model = keras_finegrain.Model(inputs, outputs)
        model.compile("sgd", keras.losses.CategoricalCrossentropy(True))
        if stops:
            with pytest.raises(Exception, match="rows that name no class"):
                model.fit(data, verbose=0)
        else:
            model.fit(data, verbose=0)


def test_of_equal_largest_classes_the_first_counts():
    rows = keras.ops.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5]])
    numbers = class_numbers("test", rows, (2,), CLASSES)
    assert keras.ops.convert_to_numpy(numbers).tolist() == [1, 0]


def test_labels_in_memory_keep_numbers_of_any_size():
    labels = np.array([2**40, -(2**40), 7])
    assert integer_labels("test", labels).tolist() == labels.tolist()
    assert integer_labels("test", labels[:, None]).tolist() == labels.tolist()


@pytest.mark.parametrize(
    "labels", [np.zeros((3,), int), np.zeros((4, 2, 2))], ids=["short", "cube"]
)
@pytest.mark.parametrize(
    "reader", ["layer", "class_loss", "batch_loss", "pair_loss", "metric"]
)
def test_a_wrong_shape_is_named(reader, labels):
    with pytest.raises(ValueError, match="must have the shape"):
        READERS[reader](labels)


def test_with_a_single_class_a_column_holds_numbers():
    loss = losses.NormFaceLoss(scale=2.0)
    cosines = np.array([[0.3], [0.9]], "float32")
    assert float(loss(np.zeros((2, 1), "int32"), cosines)) == 0.0
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        loss(np.ones((2, 1), "int32"), cosines)

import keras
import numpy as np
import pytest
from keras import ops

from keras_finegrain.losses import SoftTripleLoss


@pytest.mark.parametrize("case", range(4))
def test_value_equals_the_official_code(golden, float64, case):
    data = golden["soft_triple"][case]
    loss = SoftTripleLoss(
        float(data["scale"]), float(data["margin"]), reduction=None
    )
    similarity = ops.convert_to_tensor(data["similarity"])
    one_hot = np.eye(similarity.shape[-1])[data["labels"]]
    for labels in (data["labels"], data["labels"][:, None], one_hot):
        np.testing.assert_allclose(
            ops.convert_to_numpy(loss(labels, similarity)),
            data["crossentropy"],
            rtol=1e-9,
        )


def test_without_margin_it_is_a_scaled_crossentropy():
    generator = np.random.default_rng(0)
    similarity = generator.uniform(-1, 1, (6, 5)).astype("float32")
    labels = generator.integers(0, 5, 6)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(
        float(SoftTripleLoss(scale=30, margin=0)(labels, similarity)),
        float(plain(labels, 30 * similarity)),
        rtol=1e-5,
    )


def test_soft_labels_are_a_mixture():
    similarity = np.array([[0.5, -0.2, 0.1]], "float32")
    loss = SoftTripleLoss(margin=0)
    mixed = float(loss(np.array([[0.25, 0.75, 0.0]], "float32"), similarity))
    parts = [float(loss(np.array([c]), similarity)) for c in (0, 1)]
    assert mixed == pytest.approx(0.25 * parts[0] + 0.75 * parts[1], rel=1e-5)


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
def test_labels_above_2048_are_exact_in_low_precision(dtype):
    similarity = np.full((2, 5000), -1.0, "float32")
    similarity[[0, 1], [2049, 4097]] = 1.0
    loss = SoftTripleLoss(dtype=dtype)
    value = loss(
        np.array([2049, 4097]), ops.cast(similarity, dtype or "float16")
    )
    assert float(value) < 1e-6


def test_sample_weights_and_reduction_are_kerass_own():
    similarity = np.array([[0.5, -0.2], [0.1, 0.3]], "float32")
    each = ops.convert_to_numpy(
        SoftTripleLoss(reduction=None)(np.array([0, 1]), similarity)
    )
    weighted = SoftTripleLoss()(
        np.array([0, 1]), similarity, sample_weight=np.array([2.0, 0.5])
    )
    assert float(weighted) == pytest.approx((2.0 * each[0] + 0.5 * each[1]) / 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 7], r"\[0, 3\), received a maximum of 7.*num_classes=8"),
        ([0, -1], "received a minimum of -1"),
        (np.ones((2, 4)), r"received the shape \(2, 4\)"),
    ],
    ids=["too_large", "negative", "one_hot_width"],
)
def test_bad_labels_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        SoftTripleLoss()(np.asarray(labels), np.zeros((2, 3), "float32"))


@pytest.mark.parametrize("label", [3, -1, 2_000_000_000])
def test_out_of_range_label_is_visible_in_a_compiled_step(label):
    labels = np.array([0, label], "int32")
    similarity = np.zeros((2, 3), "float32")
    loss = SoftTripleLoss()
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        value = tf.function(loss)(tf.constant(labels), tf.constant(similarity))
    elif backend == "jax":
        import jax

        value = jax.jit(loss)(labels, similarity)
    else:
        pytest.skip("PyTorch can read the labels, and raises")
    assert np.isnan(float(value))


@pytest.mark.parametrize(
    "arguments", [{"scale": 0}, {"scale": -1}, {"margin": -0.1}], ids=str
)
def test_arguments_are_named_in_the_error(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"SoftTripleLoss.*{name}.*received"):
        SoftTripleLoss(**arguments)


def test_config_restores_every_argument():
    loss = SoftTripleLoss(10, 0.2, reduction="sum", name="mine")
    assert SoftTripleLoss.from_config(loss.get_config()).get_config() == (
        loss.get_config()
    )

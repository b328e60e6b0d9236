"""What holds for every loss on the similarities of classes."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common import symbolic_scope

import keras_finegrain
from keras_finegrain import losses
from keras_finegrain.losses import margin_softmax
from tests.losses.numbers import (
    ANGLE_TOLERANCE,
    classified,
    eager,
    head_value_and_gradients,
    numpy_cosines,
)

SOFTMAX = [
    losses.NormFaceLoss(),
    losses.CosFaceLoss(),
    losses.ArcFaceLoss(),
    losses.SphereFaceLoss(),
    losses.CombinedMarginLoss(),
    losses.SoftTripleLoss(),
    losses.ProxyNCAPlusPlusLoss(),
    losses.CenterContrastiveLoss(),
]
PER_SAMPLE = [*SOFTMAX, losses.ProxyNCALoss(), losses.CosineLoss()]
# Those on similarities whose loss is linear in the labels.
MIXING = [
    *SOFTMAX,
    losses.ProxyNCALoss(),
    losses.LargeMarginGaussianMixtureLoss(),
]
ALL = [*PER_SAMPLE, losses.ProxyAnchorLoss()]


def every(losses):
    return pytest.mark.parametrize("loss", losses, ids=lambda loss: loss.name)


def changed(loss, **config):
    return type(loss).from_config({**loss.get_config(), **config})


def similarities(batch=12, classes=5, seed=0, dtype="float32"):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, batch)
    return generator.uniform(-1, 1, (batch, classes)).astype(dtype), labels


@every(ALL)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_unsigned_labels_are_the_same_labels(loss, dtype):
    similarity, labels = similarities(classes=300)
    labels %= 250
    assert eager(loss, labels.astype(dtype), similarity) == pytest.approx(
        eager(loss, labels, similarity)
    )


@every(PER_SAMPLE)
def test_value_is_the_written_out_equation(float64, loss):
    similarity, labels = similarities(dtype="float64")
    each = np.arange(12)
    own = similarity[each, labels]
    others = np.ones_like(similarity, bool)
    others[each, labels] = False
    others = similarity[others].reshape(12, 4)
    if isinstance(loss, losses.ProxyNCALoss):
        expected = np.log(np.exp(2 * others - 2).sum(1)) - (2 * own - 2)
    elif isinstance(loss, losses.CosineLoss):
        expected = 1 - own / np.linalg.norm(similarity, axis=1)
    else:
        # (Each margin has a test of its own, tests/losses/margins_test.py.)
        psi = ops.convert_to_numpy(loss.with_margin(ops.convert_to_tensor(own)))
        true = np.exp(loss.scale * psi)
        expected = -np.log(true / (true + np.exp(loss.scale * others).sum(1)))
    if isinstance(loss, losses.CenterContrastiveLoss):
        expected = expected + 2 - 2 * own
    value = changed(loss, reduction="none", dtype="float64")(
        ops.convert_to_tensor(labels), ops.convert_to_tensor(similarity)
    )
    combined = isinstance(loss, losses.CombinedMarginLoss)
    np.testing.assert_allclose(
        ops.convert_to_numpy(value),
        expected,
        rtol=ANGLE_TOLERANCE if combined else 1e-9,
    )


@every(ALL)
def test_labels_may_be_integers_a_column_or_one_hot(loss):
    similarity, labels = similarities()
    value = eager(loss, labels, similarity)
    one_hot = np.eye(5, dtype="float32")[labels]
    for form in (labels[:, None], labels.astype("int64"), one_hot):
        assert eager(loss, form, similarity) == pytest.approx(value, rel=1e-6)


@every(MIXING)
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(float64, loss):
    similarity, _ = similarities(dtype="float64")
    if loss.takes_densities:
        similarity = similarity - 1.0
    shares = np.random.default_rng(1).dirichlet(np.ones(5), 12)
    shares[0] = [0.0, 1.0, 0.0, 0.0, 0.0]
    each = changed(loss, reduction="none", dtype="float64")
    of_class = np.stack(
        [
            ops.convert_to_numpy(
                each(
                    ops.convert_to_tensor(np.full(12, c)),
                    ops.convert_to_tensor(similarity),
                )
            )
            for c in range(5)
        ],
        axis=1,
    )
    mixed = each(
        ops.convert_to_tensor(shares), ops.convert_to_tensor(similarity)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(mixed),
        (shares * of_class).sum(axis=1),
        rtol=ANGLE_TOLERANCE
        if isinstance(loss, losses.CombinedMarginLoss)
        else 1e-9,
        atol=1e-12,
    )


def test_a_margin_of_each_class_holds_in_a_mixture():
    loss = losses.CosFaceLoss(margin=(0.1, 0.2, 0.3))
    similarity, _ = similarities(batch=1, classes=3)
    shares = np.array([[0.5, 0.0, 0.5]], "float32")
    ends = [eager(loss, [c], similarity) for c in (0, 2)]
    mixed = eager(loss, shares, similarity)
    assert mixed == pytest.approx(sum(ends) / 2, rel=1e-5)


def test_a_mixture_with_a_class_that_dominates_keeps_its_digits():
    similarity = np.array([[1.0, -1.0, -1.0]], "float32")
    one_hot = np.array([[1.0, 0.0, 0.0]], "float32")
    loss = losses.NormFaceLoss(scale=30)
    expected = 2 * np.exp(-60.0)  # log(1 + v) of a tiny v is not 0
    logits = margin_softmax.log_sum_of_others(
        ops.convert_to_tensor(30 * similarity)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(logits)[0, 0], np.log(2) - 30, rtol=1e-6
    )
    assert 0 <= eager(loss, one_hot, similarity) <= max(expected, 1e-7)


@every([losses.ProxyAnchorLoss()])
def test_a_loss_of_sets_takes_the_largest_class(loss):
    similarity, labels = similarities()
    soft = 0.9 * np.eye(5, dtype="float32")[labels] + 0.1 / 5
    assert eager(loss, soft, similarity) == eager(loss, labels, similarity)


def test_the_cosine_loss_of_soft_labels_is_the_angle_between_rows():
    similarity, labels = similarities()
    soft = 0.7 * np.eye(5, dtype="float32")[labels] + 0.3 / 5
    lengths = np.linalg.norm(soft, axis=1) * np.linalg.norm(similarity, axis=1)
    expected = 1 - (soft * similarity).sum(1) / lengths
    each = losses.CosineLoss(reduction="none")(soft, similarity)
    np.testing.assert_allclose(ops.convert_to_numpy(each), expected, rtol=1e-5)


@every(ALL)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 7], r"\[0, 3\), received a maximum of 7.*num_classes=8"),
        ([0, -1], "received a minimum of -1"),
        (np.ones((2, 4)), r"received the shape \(2, 4\)"),
    ],
    ids=["too_large", "negative", "one_hot_width"],
)
def test_bad_labels_are_named(loss, labels, message):
    with pytest.raises(ValueError, match=message):
        loss(np.asarray(labels), np.zeros((2, 3), "float32"))


@every(ALL)
@pytest.mark.parametrize("label", [3, -1, 2_000_000_000])
def test_out_of_range_label_is_visible_in_a_compiled_step(loss, label):
    labels = np.array([0, label], "int32")
    similarity = np.full((2, 3), 0.5, "float32")
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


@every(PER_SAMPLE)
def test_sample_weights_and_reduction_are_kerass_own(loss):
    similarity, labels = similarities()
    weights = np.linspace(0, 2, 12, dtype="float32")
    each = ops.convert_to_numpy(
        changed(loss, reduction="none")(labels, similarity)
    )
    assert each.shape == (12,)
    weighted = loss(labels, similarity, sample_weight=weights)
    assert float(weighted) == pytest.approx((weights * each).sum() / 12)
    total = changed(loss, reduction="sum")(labels, similarity)
    assert float(total) == pytest.approx(each.sum(), rel=1e-5)


@every(ALL)
@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
def test_labels_above_2048_are_exact_in_low_precision(loss, dtype):
    similarity = np.full((2, 5000), -1.0, "float32")
    similarity[[0, 1], [2049, 4097]] = 1.0
    low = changed(loss, dtype=dtype)
    policy = changed(loss, dtype=keras.DTypePolicy("mixed_float16"))
    assert low.dtype == policy.dtype == "float32"
    similarity = ops.cast(similarity, dtype or "float16")
    right = eager(low, np.array([2049, 4097]), similarity)
    wrong = eager(low, np.array([2048, 4096]), similarity)
    assert right < wrong


@every(ALL)
def test_renaming_the_classes_changes_nothing(loss):
    similarity, labels = similarities()
    order = np.array([3, 0, 4, 1, 2])
    assert eager(loss, np.argsort(order)[labels], similarity[:, order]) == (
        pytest.approx(eager(loss, labels, similarity), rel=1e-5)
    )


@every(ALL)
def test_rotating_the_space_changes_nothing(float64, loss):
    embeddings, centers, labels = classified(12, 5, 6)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    loss = changed(loss, reduction="none", dtype="float64")
    value, gradients = head_value_and_gradients(
        loss, embeddings, centers, labels, "float64"
    )
    turned, turned_gradients = head_value_and_gradients(
        loss, embeddings @ rotation, centers @ rotation, labels, "float64"
    )
    np.testing.assert_allclose(turned, value, rtol=1e-9)
    for gradient, turned_gradient in zip(
        gradients, turned_gradients, strict=True
    ):
        np.testing.assert_allclose(
            turned_gradient, gradient @ rotation, rtol=1e-7, atol=1e-10
        )


class TestOneIsTheOther:
    """The same loss by two names."""

    @pytest.mark.parametrize("scale", [1.0, 20.0, 64.0])
    def test_without_a_margin_all_are_norm_face(self, float64, scale):
        similarity, labels = similarities(dtype="float64")
        value = eager(losses.NormFaceLoss(scale), labels, similarity)
        for loss in (
            losses.CosFaceLoss(scale, 0.0),
            losses.ArcFaceLoss(scale, 0.0),
            losses.SphereFaceLoss(scale, 1),
            losses.SoftTripleLoss(scale, 0.0),
            losses.ProxyNCAPlusPlusLoss(2.0 / scale),
            losses.CenterContrastiveLoss(scale, 0.0, center_weight=0.0),
        ):
            assert eager(loss, labels, similarity) == pytest.approx(
                value, rel=1e-12
            ), loss.name

    def test_the_combined_margin_has_each_as_its_case(self, float64):
        similarity, labels = similarities(60, dtype="float64")
        # (ArcFace steps down beyond π − m, the combined margin does not.)
        near = similarity[np.arange(60), labels] > np.cos(np.pi - 0.5)
        for loss, combined, rows in (
            (losses.NormFaceLoss(64), (1.0, 0.0, 0.0), slice(None)),
            (losses.CosFaceLoss(64, 0.3), (1.0, 0.0, 0.3), slice(None)),
            (losses.ArcFaceLoss(64, 0.5), (1.0, 0.5, 0.0), near),
            (losses.SphereFaceLoss(64, 4), (4.0, 0.0, 0.0), slice(None)),
        ):
            assert eager(
                losses.CombinedMarginLoss(64, *combined),
                labels[rows],
                similarity[rows],
            ) == pytest.approx(
                eager(loss, labels[rows], similarity[rows]),
                rel=ANGLE_TOLERANCE,
            ), loss.name

    @pytest.mark.parametrize("scale", [1.0, 20.0])
    def test_soft_triple_with_one_center_is_norm_face_with_a_margin(
        self, float64, scale
    ):
        embeddings, centers, labels = classified(12, 5, 6)
        layer = keras_finegrain.SoftTriple(5, centers_per_class=1)
        layer.build((None, 6))
        layer.centers.assign(centers)
        similarity = ops.convert_to_numpy(layer(embeddings))
        np.testing.assert_allclose(
            similarity, numpy_cosines(embeddings, centers), rtol=1e-9
        )
        assert eager(
            losses.SoftTripleLoss(scale, 0.1), labels, similarity
        ) == pytest.approx(
            eager(losses.CosFaceLoss(scale, 0.1), labels, similarity),
            rel=1e-12,
        )

    def test_center_contrastive_is_cos_face_and_the_squared_distance(
        self, float64
    ):
        embeddings, centers, labels = classified(12, 5, 6)
        similarity = numpy_cosines(embeddings, centers)
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        proxies = centers[:, 0] / np.linalg.norm(
            centers[:, 0], axis=1, keepdims=True
        )
        squared = np.square(unit - proxies[labels]).sum(1).mean()
        assert eager(
            losses.CenterContrastiveLoss(16, 0.2, 3.0), labels, similarity
        ) == pytest.approx(
            eager(losses.CosFaceLoss(16, 0.2), labels, similarity)
            + 3.0 * squared,
            rel=1e-9,
        )


BAD_ARGUMENTS = [
    (losses.NormFaceLoss, {"scale": 0}),
    (losses.CosFaceLoss, {"scale": -1}),
    (losses.CosFaceLoss, {"margin": 2}),
    (losses.ArcFaceLoss, {"margin": 28.6}),  # degrees
    (losses.ArcFaceLoss, {"margin": -0.1}),
    (losses.SphereFaceLoss, {"margin": 1.5}),
    (losses.SphereFaceLoss, {"margin": 0}),
    (losses.CombinedMarginLoss, {"angle_factor": 0}),
    (losses.CombinedMarginLoss, {"angle_margin": 2}),
    (losses.CombinedMarginLoss, {"cosine_margin": -1}),
    (losses.ProxyNCALoss, {"scale": float("nan")}),
    (losses.ProxyNCAPlusPlusLoss, {"temperature": 0}),
    (losses.ProxyAnchorLoss, {"scale": "32"}),
    (losses.ProxyAnchorLoss, {"margin": -1}),
    (losses.CenterContrastiveLoss, {"center_weight": -1}),
]


@pytest.mark.parametrize(("loss", "arguments"), BAD_ARGUMENTS, ids=str)
def test_arguments_are_named_in_the_error(loss, arguments):
    (name,) = arguments
    with pytest.raises(
        ValueError, match=f"{loss.__name__}.*{name}.*must be.*received"
    ):
        loss(**arguments)


@every(ALL)
def test_a_saved_loss_is_restored_with_every_argument(loss):
    config = {
        key: value * 0.5 if isinstance(value, float) else value
        for key, value in loss.get_config().items()
    }
    loss = type(loss).from_config({**config, "name": "mine"})
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()
    assert copy.name == "mine"


@every(ALL)
def test_fit_learns_under_it(loss):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 96)
    features = np.eye(3, 8)[labels] + 0.1 * generator.normal(size=(96, 8))
    head = (
        keras.layers.Dense(3)
        if isinstance(loss, losses.CosineLoss)
        else keras_finegrain.CosineSimilarity(3, centers_per_class=2)
    )
    model = keras_finegrain.Sequential(
        [keras.Input((8,)), keras.layers.Dense(4), head]
    )
    model.compile(
        keras.optimizers.Adam(0.05), changed(loss), metrics=["accuracy"]
    )
    before = model.evaluate(features, labels, verbose=0)[0]
    model.fit(features, labels, epochs=8, batch_size=32, verbose=0)
    after, accuracy = model.evaluate(features, labels, verbose=0)
    assert after < before
    assert accuracy > 0.9


@pytest.mark.parametrize(
    "loss",
    [losses.ProxyAnchorLoss(), [losses.ArcFaceLoss()]],
    ids=["alone", "in_a_list"],
)
def test_the_head_and_a_layer_that_disagree_are_found(loss):
    model = keras_finegrain.Sequential(
        [
            keras.Input((8,)),
            keras_finegrain.CenterLoss(4),
            keras_finegrain.CosineSimilarity(3),
        ]
    )
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match="Make them agree"):
        model.fit(np.ones((4, 8)), np.array([0, 1, 2, 0]), verbose=0)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_scale_of_proxy_nca_multiplies_squared_distances(float64, scale):
    similarity, labels = similarities(dtype="float64")
    is_true = np.arange(5) == labels[:, None]
    powers = np.exp(-scale * (2 - 2 * similarity))
    expected = -np.log(powers[is_true] / np.where(is_true, 0, powers).sum(1))

    loss = losses.ProxyNCALoss(scale, reduction="none", dtype="float64")

    np.testing.assert_allclose(
        ops.convert_to_numpy(loss(labels, ops.convert_to_tensor(similarity))),
        expected,
        rtol=1e-9,
    )


@pytest.mark.parametrize("wrong", [1.5, -1.5])
def test_one_value_that_is_no_cosine_is_enough(wrong):
    similarity, labels = similarities()
    similarity[3, 2] = wrong

    with pytest.raises(ValueError, match=r"must be cosines in .* up to 1\.5"):
        losses.NormFaceLoss()(labels, similarity)


def test_values_on_an_accelerator_are_read_once():
    class OnAccelerator:
        device = "cuda:0"

    class OnHost:
        device = "cpu"

    loss = losses.NormFaceLoss()
    with symbolic_scope.SymbolicScope():
        assert not loss.may_read(OnHost())

    assert [loss.may_read(OnHost()) for _ in range(3)] == [True] * 3
    assert [loss.may_read(OnAccelerator()) for _ in range(3)] == [
        True,
        False,
        False,
    ]

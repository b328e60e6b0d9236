"""Scoring a share of the classes: what is drawn, and what comes of it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.labels.sampling import announce_drawn, sample_classes

CLASSES, DIM, BATCH = 40, 6, 8


def data(count=BATCH * 3):
    generator = np.random.default_rng(4)
    return (
        generator.normal(size=(count, DIM)).astype("float32"),
        generator.integers(0, CLASSES, count).astype("int32"),
    )


def built(share, loss=None, metrics=("accuracy",), centers=3, **arguments):
    """A model whose weights are the same for every share."""
    keras.utils.set_random_seed(2)
    features = keras.Input((DIM,))
    x = keras.layers.Dense(DIM)(features)
    x = keras_finegrain.SoftTriple(
        CLASSES, centers, sampled_share=share, seed=5, name="head"
    )(x)
    model = keras_finegrain.Model(features, x)
    model.compile(
        keras.optimizers.SGD(0.01),
        loss or keras_finegrain.losses.SoftTripleLoss(),
        metrics=list(metrics),
        **arguments,
    )
    return model


def draws(labels, sampled, count):
    return [
        sample_classes(ops.array(labels, "int32"), CLASSES, sampled, seed)
        for seed in range(count)
    ]


def test_the_batchs_own_classes_come_first_and_none_comes_twice():
    for drawn in draws([7, 3, 7, 39, -1, 40], 10, 20):
        classes = ops.convert_to_numpy(drawn.classes)
        assert len(set(classes.tolist())) == 10
        assert {3, 7, 39} <= set(classes.tolist())
        own = np.isin(classes, [3, 7, 39])
        # 37 others, of which 7 are drawn.
        np.testing.assert_allclose(
            ops.convert_to_numpy(drawn.log_weights),
            np.where(own, 0.0, np.log(37 / 7)),
            rtol=1e-6,
        )
        position = ops.convert_to_numpy(drawn.position)
        np.testing.assert_array_equal(position[classes], np.arange(10))
        assert (position >= 0).sum() == 10


def test_every_other_class_is_as_likely():
    count = 400
    hits = np.zeros(CLASSES)
    for drawn in draws([0, 1], 11, count):
        hits[ops.convert_to_numpy(drawn.classes)] += 1
    share = hits[2:] / count
    expected = 9 / 38
    deviation = np.sqrt(expected * (1 - expected) / count)
    assert abs(share - expected).max() < 4 * deviation


def test_the_weighted_sum_is_an_unbiased_estimate():
    logits = np.random.default_rng(0).normal(scale=2.0, size=CLASSES)
    estimates = []
    for drawn in draws([4, 9], 12, 400):
        classes = ops.convert_to_numpy(drawn.classes)
        weights = ops.convert_to_numpy(drawn.log_weights)
        estimates.append(np.exp(logits[classes] + weights).sum())
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert error < 0.05 * np.exp(logits).sum()
    assert abs(np.mean(estimates) - np.exp(logits).sum()) < 4 * error


def test_the_loss_weighs_each_class_by_those_it_stands_for():
    labels = ops.array([4, 9], "int32")
    similarity = np.random.default_rng(1).uniform(-1, 1, (2, 12))
    loss = keras_finegrain.losses.NormFaceLoss(scale=3.0, reduction="none")
    with keras_finegrain.label_scope(labels):
        (drawn,) = draws([4, 9], 12, 1)
        announce_drawn(drawn)
        position = drawn.relabel(labels)
        losses = loss(position, ops.array(similarity, "float32"))
    logits = 3 * similarity + ops.convert_to_numpy(drawn.log_weights)
    own = logits[[0, 1], ops.convert_to_numpy(position)]
    np.testing.assert_allclose(
        ops.convert_to_numpy(losses),
        np.log(np.exp(logits).sum(axis=1)) - own,
        rtol=1e-5,
    )


def test_a_share_of_all_classes_trains_as_the_whole_head_does():
    x, y = data()
    # ⌈share · 40⌉ = 40, by the way of the samples.
    nearly_all, whole = built(1 - 1e-9), built(1.0)
    histories = [
        model.fit(
            x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0
        ).history
        for model in (nearly_all, whole)
    ]
    assert nearly_all.get_layer("head").samples
    assert histories[0].keys() == histories[1].keys()
    for key, values in histories[1].items():
        np.testing.assert_allclose(histories[0][key], values, rtol=1e-5)
    for own, other in zip(nearly_all.weights, whole.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(own), ops.convert_to_numpy(other), atol=1e-6
        )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_only_the_scored_classes_move(jit_compile):
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("torch.compile takes minutes on a CPU")
    x, y = data(BATCH)
    model = built(0.3, jit_compile=jit_compile)
    head = model.get_layer("head")
    before = ops.convert_to_numpy(head.centers).copy()
    model.fit(x, y, batch_size=BATCH, verbose=0)
    moved = np.abs(ops.convert_to_numpy(head.centers) - before).max(axis=(1, 2))
    assert (moved > 0).sum() == 12
    assert (moved[np.unique(y)] > 0).all()


@pytest.mark.parametrize(
    "how",
    [
        {"run_eagerly": True},
        pytest.param(
            {"jit_compile": True},
            marks=pytest.mark.skipif(
                keras.backend.backend() != "jax",
                reason="TensorFlow draws other numbers under XLA, and "
                "torch.compile takes minutes on a CPU",
            ),
        ),
    ],
    ids=str,
)
def test_each_way_to_run_a_step_draws_and_learns_alike(how):
    x, y = data()
    results = []
    for arguments in ({}, how):
        model = built(0.4, **arguments)
        model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
        results.append(
            [ops.convert_to_numpy(weight) for weight in model.weights]
        )
    for own, other in zip(*results, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-6)


def test_evaluation_and_prediction_score_all_classes():
    x, y = data()
    sampled, whole = built(0.3), built(1.0)
    assert sampled.predict(x, verbose=0).shape == (len(x), CLASSES)
    own = sampled.evaluate(x, y, verbose=0, return_dict=True)
    reference = whole.evaluate(x, y, verbose=0, return_dict=True)
    assert own == pytest.approx(reference, rel=1e-5)


def test_it_learns_and_the_accuracy_is_of_the_right_classes():
    generator = np.random.default_rng(1)
    y = np.repeat(np.arange(CLASSES), 8).astype("int32")
    x = np.eye(CLASSES, dtype="float32")[y]
    x += generator.normal(scale=0.05, size=x.shape).astype("float32")
    keras.utils.set_random_seed(2)
    model = keras_finegrain.Sequential(
        [
            keras.layers.Dense(16),
            keras_finegrain.SoftTriple(CLASSES, 2, sampled_share=0.5, seed=0),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        keras_finegrain.losses.SoftTripleLoss(),
        metrics=["accuracy"],
    )
    before = model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    assert before < 0.2
    history = model.fit(x, y, batch_size=16, epochs=12, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.9


def test_one_hot_labels_train_as_integers_do():
    x, y = data()
    results = []
    for labels in (y, np.eye(CLASSES, dtype="float32")[y], y[:, None]):
        model = built(0.4)
        history = model.fit(
            x, labels, batch_size=BATCH, shuffle=False, verbose=0
        ).history
        results.append(history)
    for other in results[1:]:
        for key, values in results[0].items():
            np.testing.assert_allclose(other[key], values, rtol=1e-5)


def test_a_saved_head_goes_on_with_its_draws(tmp_path):
    x, y = data()
    model = built(0.4)
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, restored):
        each.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    for own, other in zip(restored.weights, model.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(own), ops.convert_to_numpy(other), atol=1e-6
        )


def test_a_label_outside_of_the_classes_is_an_error_before_training():
    x, y = data(BATCH)
    y[3] = CLASSES
    with pytest.raises(ValueError, match="maximum of 40"):
        built(0.4).fit(x, y, batch_size=BATCH, verbose=0)


def test_soft_labels_are_refused_as_their_shares_would_be_lost():
    x, y = data(BATCH)
    mixed = 0.9 * np.eye(CLASSES, dtype="float32")[y] + 0.1 / CLASSES
    with pytest.raises(ValueError, match="Set sampled_share=1"):
        built(0.4).fit(x, mixed, batch_size=BATCH, verbose=0)
    drawn = sample_classes(ops.array(y), CLASSES, 16, seed=0)
    with pytest.raises(ValueError, match=r"largest share of 0\.9"):
        drawn.relabel(ops.array(mixed))


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="it runs its steps eagerly"
)
def test_in_a_compiled_step_what_is_no_label_is_a_row_of_zeros():
    y = np.array([0, 3, CLASSES], "int32")
    rows = np.eye(CLASSES, dtype="float32")[[0, 3, 5]]
    rows[2] = 0.5 * (rows[0] + rows[2])

    def relabelled(y, rows):
        drawn = sample_classes(ops.cast(y, "int32"), CLASSES, 4, seed=0)
        return drawn.relabel(y), drawn.relabel(rows)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(relabelled)
    else:
        import jax

        compiled = jax.jit(relabelled)
    numbers, one_hot = map(
        ops.convert_to_numpy, compiled(ops.array(y), ops.array(rows))
    )
    assert numbers.tolist() == [0, 1, -1]
    assert one_hot.sum(axis=-1).tolist() == [1.0, 1.0, 0.0]


def test_a_batch_that_may_hold_more_classes_is_refused():
    x, y = data(BATCH)
    with pytest.raises(ValueError, match=r"scores 4 of 40 .* batch of 8"):
        built(0.1, run_eagerly=True).fit(x, y, batch_size=BATCH, verbose=0)


def test_a_loss_that_does_not_weigh_the_draws_is_refused():
    x, y = data(BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match="needs a cross-entropy"):
        built(0.4, loss=loss).fit(x, y, batch_size=BATCH, verbose=0)


def test_training_without_labels_is_refused():
    head = keras_finegrain.SoftTriple(CLASSES, sampled_share=0.5)
    with pytest.raises(ValueError, match=r"sampled_share=0\.5 needs the label"):
        head(np.ones((2, DIM), "float32"), training=True)


def test_a_second_head_is_refused():
    heads = [
        keras_finegrain.SoftTriple(CLASSES, sampled_share=0.5) for _ in "ab"
    ]
    features = np.ones((2, DIM), "float32")
    with keras_finegrain.label_scope(ops.array([0, 1])):
        heads[0](features, training=True)
        with pytest.raises(ValueError, match="only one head"):
            heads[1](features, training=True)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "half", None])
def test_a_share_outside_its_range_is_named(share):
    with pytest.raises(ValueError, match="sampled_share must be"):
        keras_finegrain.SoftTriple(CLASSES, sampled_share=share)

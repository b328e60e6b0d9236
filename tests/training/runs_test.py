import dataclasses

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain._base.arrays import true_class_ranks
from keras_finegrain.models.progressive_multi_granularity import (
    ProgressiveModel,
)
from keras_finegrain.training import (
    FeatureCache,
    TrainingError,
    runs,
    train,
)
from keras_finegrain.training.backbones import build_backbone
from tests.colored_photos import SMALL, colored_photos, split_of

# The epochs are few: the statistics of the normalization have to be learned.
LEARNING = dataclasses.replace(SMALL, epochs=4)


def with_settings(**settings):
    return dataclasses.replace(SMALL, **settings)


def images_of(batches, front):
    """What a source tests on, as images."""
    return np.concatenate(
        [keras.ops.convert_to_numpy(front(inputs)) for inputs, _ in batches]
    )


def top_1(run):
    return np.mean(run.scores.argmax(axis=1) == run.labels)


def weights_of(model):
    """By name of layer and weight, as in any model of these layers."""
    return {
        "/".join(weight.path.split("/")[-2:]): (
            keras.ops.convert_to_numpy(weight)
        )
        for weight in model.weights
    }


@pytest.fixture(scope="module")
def softmax(split):
    return train(LEARNING, 0, split)


@pytest.fixture(scope="module")
def frozen(small_weights):
    return with_settings(weights=str(small_weights), freeze="relu_2", views=2)


@pytest.fixture(scope="module")
def train_frozen(split, frozen):
    """Trains what comes behind the frozen part, which is a matter of seconds.

    The runs share the features of the frozen part.
    """
    cache = FeatureCache()

    def run(seed=0, source=split, callbacks=(), **settings):
        settings = dataclasses.replace(frozen, **settings)
        return train(settings, seed, source, cache=cache, callbacks=callbacks)

    return run


@pytest.fixture(scope="module")
def frozen_run(train_frozen):
    return train_frozen()


@pytest.fixture(scope="module")
def test_images(split):
    return images_of(split.test(SMALL), split.front(SMALL))


def test_photos_in_memory_teach_a_network_their_classes(softmax, photos):
    assert softmax.labels.tolist() == photos.labels[photos.is_test].tolist()
    # Four of each of three classes; one of them by chance.
    assert top_1(softmax) > 0.8
    assert [len(values) for values in softmax.history.values()] == [4, 4]
    losses = softmax.history["loss"]
    assert losses[-1] < losses[0] / 2
    assert softmax.measured["seconds"] > 0


def test_the_model_of_a_run_says_of_images_what_the_run_says(
    softmax, test_images
):
    scores = softmax.model.predict(test_images, verbose=0)
    np.testing.assert_allclose(scores, softmax.scores, rtol=1e-4, atol=1e-4)
    embedding = keras_finegrain.embedding_model(softmax.model)
    np.testing.assert_allclose(
        embedding.predict(test_images, verbose=0),
        softmax.embeddings,
        rtol=1e-4,
        atol=1e-4,
    )


def test_the_same_seed_gives_the_same_run(softmax, split):
    again = train(LEARNING, 0, split)
    np.testing.assert_array_equal(again.scores, softmax.scores)
    assert again.history == softmax.history


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch takes one step a call"
)
def test_several_steps_a_call_are_the_same_steps(softmax, split):
    # 6 steps an epoch: the second call has two.
    run = train(dataclasses.replace(LEARNING, steps_per_execution=4), 0, split)
    expected = weights_of(softmax.model)
    for name, weight in weights_of(run.model).items():
        np.testing.assert_allclose(
            weight, expected[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="others take several steps"
)
def test_settings_for_several_steps_a_call_train_on_pytorch_too(split):
    run = train(with_settings(epochs=1, steps_per_execution=4), 0, split)
    assert len(run.history["loss"]) == 1


def test_center_loss_moves_its_centers_and_stands_in_the_history(split):
    settings = with_settings(
        method="center",
        center_weight=0.1,
        embedding_size=8,
        head_lr_multiplier=2.0,
    )
    run = train(settings, 0, split)
    assert set(run.history) == {"loss", "accuracy", "center_loss"}
    assert np.isfinite(run.history["center_loss"]).all()
    assert weights_of(run.model)["center_loss/centers"].all(axis=1).all()


def test_channel_loss_stands_in_the_history(train_frozen):
    run = train_frozen(method="mc", mc_weight=0.5)
    assert set(run.history) == {
        *("loss", "accuracy", "discriminality", "diversity")
    }
    for values in run.history.values():
        assert np.isfinite(values).all()


def test_pairs_learn_in_memory_and_classify_by_the_nearest_mean(split, photos):
    run = train(dataclasses.replace(LEARNING, method="triplet"), 0, split)
    assert set(run.history) == {"loss"}
    assert top_1(run) > 0.8
    trained = split.train_as_tested(SMALL)
    images = images_of(trained, split.front(SMALL))
    embed = keras.Model(run.model.input, run.model.get_layer("head").input)
    embeddings = embed.predict(images, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    labels = photos.labels[~photos.is_test]
    means = np.stack([embeddings[labels == c].mean(0) for c in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(
        run.scores, run.embeddings @ means.T, rtol=1e-4, atol=1e-4
    )


def test_a_frozen_run_leaves_one_flat_model_that_says_the_same_of_images(
    frozen_run, test_images
):
    model = frozen_run.model
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    scores = model.predict(test_images, verbose=0)
    # The features are kept in half precision.
    np.testing.assert_allclose(scores, frozen_run.scores, rtol=0.01, atol=0.01)
    embeddings = keras_finegrain.embedding_model(model).predict(
        test_images, verbose=0
    )
    np.testing.assert_allclose(
        embeddings, frozen_run.embeddings, rtol=0.01, atol=0.01
    )


def test_a_frozen_part_keeps_its_weights_and_the_rest_learns(
    frozen_run, frozen
):
    before = weights_of(build_backbone(frozen))
    after = weights_of(frozen_run.model)
    assert before.keys() < after.keys()
    same = {
        name: np.array_equal(after[name], weight)
        for name, weight in before.items()
    }
    for name, is_same in same.items():
        assert is_same == (name.split("/")[0][-1] in "12"), name


@pytest.mark.parametrize("pooling", ["average", "max", "average_max"])
def test_behind_a_frozen_backbone_pooled_features_are_kept(
    split, frozen, test_images, pooling, tmp_path
):
    settings = dataclasses.replace(
        frozen, freeze="relu_4", pooling=pooling, epochs=1
    )
    run = train(settings, 0, split, cache=FeatureCache(tmp_path))
    (path,) = tmp_path.iterdir()
    with np.load(path) as kept:
        assert kept["plain"].shape == (len(split.labels), 192)
    embedding = keras_finegrain.embedding_model(run.model)
    np.testing.assert_allclose(
        embedding.predict(test_images, verbose=0),
        run.embeddings,
        rtol=1e-4,
        atol=1e-4,
    )
    scores = run.model.predict(test_images, verbose=0)
    np.testing.assert_allclose(scores, run.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [{"method": "mc"}, {"pooling": "gem"}])
def test_what_is_trained_before_the_pooling_sees_the_map(split, frozen, change):
    settings = dataclasses.replace(frozen, freeze="all", **change)
    _, cut, _ = runs.build(settings, 0, split.num_classes)
    assert cut.shape == (None, 2, 2, 192)


def test_runs_that_share_a_backbone_are_as_runs_alone(split, frozen):
    settings = dataclasses.replace(frozen, freeze="all", epochs=1)
    cache = FeatureCache()
    first = train(settings, 0, split, cache=cache)
    weights = weights_of(first.model)
    other = dataclasses.replace(settings, method="arcface")
    train(other, 1, split, cache=cache)
    for name, weight in weights_of(first.model).items():
        np.testing.assert_array_equal(weight, weights[name], err_msg=name)
    for kept in (cache, None):
        again = train(settings, 0, split, cache=kept)
        np.testing.assert_array_equal(again.scores, first.scores)


@pytest.mark.parametrize("freeze", [None, "relu_2"])
def test_half_precision_stays_within_the_run(split, frozen, freeze):
    before = keras.config.dtype_policy().name
    settings = with_settings(mixed_precision="bfloat16", epochs=1)
    if freeze:
        settings = dataclasses.replace(
            settings, freeze=freeze, views=1, weights=frozen.weights
        )
    run = train(settings, 0, split)
    assert keras.config.dtype_policy().name == before
    assert run.model.get_layer("conv_3").compute_dtype == "bfloat16"
    assert run.scores.dtype == np.float32
    assert np.isfinite(run.scores).all()
    with pytest.raises(TrainingError):
        train(
            dataclasses.replace(
                settings, freeze="relu_9", weights=frozen.weights
            ),
            0,
            split,
        )
    assert keras.config.dtype_policy().name == before


def test_varied_colors_and_mixed_images_are_not_tested_on(split, test_images):
    """With center loss, which takes the mixture too."""
    settings = with_settings(method="center", color=0.4, mixup=0.3)
    run = train(settings, 0, split)
    scores = run.model.predict(test_images, verbose=0)
    np.testing.assert_allclose(scores, run.scores, rtol=1e-3, atol=1e-3)


def test_averaged_weights_lag_behind_those_of_the_last_step(train_frozen):
    def kernel(run):
        return keras.ops.convert_to_numpy(run.model.get_layer("head").kernel)

    last = kernel(train_frozen())
    averaged = kernel(train_frozen(ema_momentum=0.5))
    first = kernel(train_frozen(lr=1e-12))
    assert np.abs(averaged - last).max() > 0
    assert np.linalg.norm(averaged - first) < np.linalg.norm(last - first)


def test_several_centers_a_class_are_counted(train_frozen):
    run = train_frozen(method="soft_triple", soft_triple_centers=3)
    assert 1 <= run.measured["distinct_centers"] <= 3


def test_methods_of_one_seed_start_from_the_same_backbone():
    """Else the comparison would measure luck."""

    def first_weights(method, seed):
        settings = with_settings(method=method)
        return weights_of(runs.build(settings, seed, 3)[0])

    softmax = first_weights("softmax", 3)
    for method in ("soft_triple", "mc", "center", "triplet"):
        others = first_weights(method, 3)
        for name in ("conv_1/kernel", "conv_3/kernel"):
            np.testing.assert_array_equal(softmax[name], others[name])
    other_seed = first_weights("softmax", 4)
    assert not np.array_equal(
        softmax["conv_3/kernel"], other_seed["conv_3/kernel"]
    )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="TensorFlow alone traces a function once more for variables in it",
)
@pytest.mark.parametrize(
    "method", ["softmax", "center", "mc", "soft_triple", "triplet"]
)
def test_a_step_is_traced_once(train_frozen, monkeypatch, method):
    traces = []
    step = keras_finegrain.Model.train_step

    def counted(self, *args):
        traces.append(args)
        return step(self, *args)

    monkeypatch.setattr(keras_finegrain.Model, "train_step", counted)
    train_frozen(method=method)
    assert len(traces) == 1


def test_the_learning_rate_falls_over_the_steps_that_there_are(train_frozen):
    # Six photos of each of three classes in fives are two groups each, and
    # three batches of two groups; without balance they would be one of ten.
    rates = {}

    class LastRate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates[batch] = float(self.model.optimizer.learning_rate)

    train_frozen(
        source=split_of(colored_photos(train=6)),
        callbacks=[LastRate()],
        method="triplet",
        batch_size=10,
        lr=0.01,
        images_per_class=5,
    )
    assert max(rates) == 2
    last = rates[2]
    assert 0 < last < 0.01 * 0.1


def test_a_run_that_diverges_says_in_which_epoch_and_what_to_do(train_frozen):
    with pytest.raises(
        TrainingError, match=r"softmax, seed 5: .* in epoch \d; lower --lr"
    ):
        train_frozen(seed=5, lr=1e30)


def test_half_precision_is_named_where_a_run_diverges(train_frozen):
    with pytest.raises(
        TrainingError, match="lower --lr, or leave out --mixed-precision bflo"
    ):
        train_frozen(seed=5, lr=1e30, mixed_precision="bfloat16")


def test_a_run_that_diverges_in_its_last_step_says_so(train_frozen):
    # One step: its loss is finite, what it leaves is not.
    with pytest.raises(TrainingError, match=r"softmax, seed 5: .*; lower --lr"):
        train_frozen(seed=5, lr=1e38, epochs=1, batch_size=1000)


def test_classes_with_the_same_score_count_as_better():
    scores = np.array([[0.5, 0.5, 0.1], [0.9, 0.2, 0.2], [0.0, 0.0, 0.0]])
    metrics = runs.test_metrics(np.eye(3), scores, np.array([0, 0, 2]))
    assert metrics["top_1"] == pytest.approx(1 / 3)
    assert metrics["top_5"] == 1


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        ([0, 1, 2], {"recall_at_1", "intra_inter_distance_ratio"}),
        ([1, 1, 1], {"intra_inter_distance_ratio"}),
        ([0, 0, 2], set()),
    ],
)
def test_what_a_small_test_set_does_not_have_is_left_out(labels, missing):
    metrics = runs.test_metrics(np.eye(3), np.eye(3), np.array(labels))
    every = {"top_1", "top_5", "recall_at_1", "intra_inter_distance_ratio"}
    assert set(metrics) == every - missing


def test_scores_of_nan_are_never_right():
    scores = np.array([[np.nan, np.nan, np.nan], [1, 3, 2], [2, 2, 1]])
    ranks = true_class_ranks(scores, np.array([0, 1, 0]))
    # Of two with the highest score neither is the first.
    assert ranks.tolist() == [3, 1, 2]


def test_pmg_trains_on_jigsaws_of_images_and_has_what_other_methods_have(
    stream, split
):
    """On JAX, where a maximum once had a gradient of 0 / 0, too."""
    settings = with_settings(method="pmg", embedding_size=8, weight_decay=0.0)
    run = train(settings, 0, stream)
    assert isinstance(run.model, ProgressiveModel)
    assert run.embeddings.shape == (12, 8)
    assert run.scores.shape == (12, 3)
    # A stage's classifier learns from the jigsaws alone.
    model, _, _ = runs.build(settings, 0, 3)
    before, after = (
        keras.ops.convert_to_numpy(each.get_layer("stage_1_head").kernel)
        for each in (model, run.model)
    )
    assert (before != after).any()
    with pytest.raises(TrainingError, match="--method pmg: needs batches of"):
        train(settings, 0, split)

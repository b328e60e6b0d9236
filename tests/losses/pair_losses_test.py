"""The losses on pairs of embeddings: values, gradients, edges, cost."""

import json
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain import losses
from keras_finegrain.losses import embedding_pairs
from keras_finegrain.metrics import intra_inter_distance_ratio
from tests.gradients import gradient_and_slope, value_and_gradients
from tests.losses.numbers import assert_same, classified, eager, mean_of

PAIRS = [
    losses.TripletSemiHardLoss(),
    losses.TripletHardLoss(),
    losses.TripletHardLoss(soft=True, name="triplet_soft"),
    losses.TripletAllLoss(),
    losses.ContrastiveLoss(),
    losses.MultiSimilarityLoss(),
    losses.SupConLoss(),
    losses.CircleLoss(scale=8.0),
    losses.NPairsLoss(),
]
every_loss = pytest.mark.parametrize("loss", PAIRS, ids=lambda loss: loss.name)
# (The paces of circle loss get no gradient, by its definition.)
every_slope = pytest.mark.parametrize(
    "loss",
    [loss for loss in PAIRS if not isinstance(loss, losses.CircleLoss)],
    ids=lambda loss: loss.name,
)
METRICS = ("L2", "squared-L2", "angular")


def changed(loss, **config):
    return type(loss).from_config({**loss.get_config(), **config})


def numpy_distances(embeddings, metric):
    """The definition, pair by pair."""
    if metric == "angular":
        lengths = np.linalg.norm(embeddings, axis=1)
        cosine = embeddings @ embeddings.T / np.outer(lengths, lengths)
        return 1 - cosine
    difference = embeddings[:, None] - embeddings[None]
    squared = np.square(difference).sum(-1)
    return squared if metric == "squared-L2" else np.sqrt(squared)


def addons_semi_hard(distances, labels, margin):
    """TensorFlow Addons' triplet_semihard_loss, step by step in numpy.

    Each of its masked extremes is the extreme over the whole axis where the
    mask is empty: that of 0 after a shift by the row's maximum or minimum.
    (Without any pair it divides 0 by 0; ours is 0 there.)
    """
    total, pairs = 0.0, 0
    for a in range(len(labels)):
        others = labels != labels[a]
        for p in range(len(labels)):
            if p == a or labels[p] != labels[a]:
                continue
            further = others & (distances[a] > distances[a, p])
            if further.any():
                negative = distances[a][further].min()
            elif others.any():
                negative = distances[a][others].max()
            else:
                negative = distances[a].min()
            total += max(0.0, margin + distances[a, p] - negative)
            pairs += 1
    return total / max(pairs, 1)


def addons_hard(distances, labels, margin, soft):
    """TensorFlow Addons' triplet_hard_loss, step by step in numpy."""
    each = []
    for a in range(len(labels)):
        others = labels != labels[a]
        positives = labels == labels[a]
        positives[a] = False
        positive = (
            distances[a][positives].max()
            if positives.any()
            else distances[a].min()
        )
        negative = (
            distances[a][others].min() if others.any() else distances[a].max()
        )
        difference = positive - negative
        each.append(
            np.log1p(np.exp(difference))
            if soft
            else max(0.0, difference + margin)
        )
    return np.mean(each)


def all_triplets(distances, labels, margin):
    """Every triplet by itself."""
    violations = [
        distances[a, p] - distances[a, n] + margin
        for a in range(len(labels))
        for p in range(len(labels))
        for n in range(len(labels))
        if p != a and labels[p] == labels[a] != labels[n]
    ]
    violations = [v for v in violations if v > 0]
    return np.mean(violations) if violations else 0.0


TRIPLETS = {
    "semi_hard": (
        lambda **kw: losses.TripletSemiHardLoss(**kw),
        addons_semi_hard,
    ),
    "hard": (
        lambda **kw: losses.TripletHardLoss(**kw),
        lambda d, y, m: addons_hard(d, y, m, soft=False),
    ),
    "soft": (
        lambda **kw: losses.TripletHardLoss(soft=True, **kw),
        lambda d, y, m: addons_hard(d, y, m, soft=True),
    ),
    "all": (lambda **kw: losses.TripletAllLoss(**kw), all_triplets),
}
# Batches with lone labels, with one class alone, of one sample, and usual.
BATCHES = [(1, 1), (5, 1), (3, 9), (12, 4), (24, 5)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", TRIPLETS)
def test_triplets_equal_the_definition_and_tensorflow_addons(
    float64, kind, metric
):
    make, reference = TRIPLETS[kind]
    values = []
    for seed, (batch, classes) in enumerate(BATCHES):
        embeddings, _, labels = classified(batch, classes, 4, seed=seed)
        distances = numpy_distances(embeddings, metric)
        np.fill_diagonal(distances, 0)
        for margin in (0.0, 1.0, 3.0):
            loss = make(margin=margin, distance_metric=metric)
            values.append(reference(distances, labels, margin))
            assert eager(loss, labels, embeddings) == pytest.approx(
                values[-1], rel=1e-9, abs=1e-7
            ), (batch, classes, margin)
    assert np.count_nonzero(values) > len(values) / 3


@pytest.mark.nightly_on_jax
@pytest.mark.parametrize("kind", ["semi_hard", "hard", "all"])
def test_equal_distances_count_as_in_the_definition(kind):
    """On a grid of whole numbers many distances are the same."""
    make, reference = TRIPLETS[kind]
    generator = np.random.default_rng(0)
    for _ in range(20):
        embeddings = generator.integers(0, 3, (10, 2)).astype("float32")
        labels = generator.integers(0, 3, 10)
        distances = numpy_distances(embeddings, "squared-L2")
        loss = make(margin=1.0, distance_metric="squared-L2")
        assert eager(loss, labels, embeddings) == pytest.approx(
            reference(distances, labels, 1.0), rel=1e-5
        )


@every_slope
@pytest.mark.parametrize("metric", [None, *METRICS])
def test_the_gradient_is_the_slope(float64, loss, metric):
    if metric is not None:
        if "distance_metric" not in loss.get_config():
            pytest.skip("has one distance only")
        loss = changed(loss, distance_metric=metric)
    loss = changed(loss, reduction="none", dtype="float64")
    embeddings, _, labels = classified(10, 3, 4, seed=3)

    def value(embeddings):
        return mean_of(loss, labels, ops.convert_to_tensor(embeddings))

    _, (gradient,) = value_and_gradients(value, [embeddings])
    step = 1e-6
    for row, column in ((0, 0), (3, 2), (7, 1), (9, 3)):
        offset = np.zeros_like(embeddings)
        offset[row, column] = step
        slope = float(value(embeddings + offset)) - float(
            value(embeddings - offset)
        )
        assert gradient[row, column] == pytest.approx(
            slope / (2 * step), rel=1e-5, abs=1e-8
        )
    assert np.abs(gradient).max() > 0


def test_hadsells_contrastive_loss_is_written_out(float64):
    embeddings, _, labels = classified(16, 4, 3)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    distances = numpy_distances(unit, "L2")
    same = labels[:, None] == labels[None]
    positive = np.square(distances[same & ~np.eye(16, dtype=bool)])
    negative = np.square(np.maximum(1.2 - distances[~same], 0))
    expected = positive.mean() + negative[negative > 0].mean()
    assert eager(
        losses.ContrastiveLoss(margin=1.2), labels, embeddings
    ) == pytest.approx(expected, rel=1e-9)


@pytest.mark.nightly_on_jax
@every_loss
def test_nothing_to_compare_costs_nothing(loss):
    if isinstance(loss, losses.TripletHardLoss):
        pytest.skip("has a value there, as in TensorFlow Addons")
    for labels in ([0], [0, 1, 2]):
        embeddings = np.eye(len(labels), 4, dtype="float32")
        value, (gradient,) = value_and_gradients(
            lambda x, labels=labels: loss(np.array(labels), x), [embeddings]
        )
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.nightly_on_jax
@every_loss
@pytest.mark.parametrize("rows", [slice(None), slice(2, 3)], ids=["all", "one"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_divergence_shows(loss, rows, bad):
    embeddings, _, labels = classified(8, 3, 4)
    embeddings[rows] = bad
    assert np.isnan(eager(loss, labels, embeddings))
    one_hot = np.eye(5, dtype="float32")[np.asarray(labels) % 5]
    assert np.isnan(eager(loss, ops.array(one_hot), embeddings))


@pytest.mark.nightly_on_jax
@every_loss
def test_two_samples_without_a_pair_are_told_and_one_is_not(loss):
    other = type(loss).from_config(loss.get_config())
    embeddings = np.eye(2, 3, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        eager(other, ops.array([1]), embeddings[:1])
    with pytest.warns(UserWarning, match="two samples of one class, .* 2 "):
        eager(other, ops.array([0, 1]), embeddings)


@pytest.mark.nightly_on_jax
@every_loss
def test_labels_that_float32_cannot_tell_apart_are_two(loss):
    embeddings, _, labels = classified(12, 4, 5)
    value = eager(loss, labels, embeddings)
    large = (labels + 2**25).astype("int32")
    assert eager(loss, large, embeddings) == value


@every_loss
def test_embeddings_that_coincide_have_a_finite_gradient(loss):
    embeddings = np.ones((8, 4), "float32")
    embeddings[4:6] = 0  # a ReLU can make these
    labels = ops.convert_to_tensor(np.array([0, 0, 1, 1, 0, 1, 2, 2]))
    value, (gradient,) = value_and_gradients(
        lambda x: loss(labels, x), [embeddings]
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@every_loss
def test_labels_may_be_integers_a_column_or_one_hot(loss):
    embeddings, _, labels = classified(12, 4, 5)
    value = eager(loss, labels, embeddings)
    one_hot = np.eye(4, dtype="float32")[labels]
    for form in (labels[:, None], labels + 10_000_000, one_hot):
        assert eager(loss, form, embeddings) == pytest.approx(value, rel=1e-6)


@pytest.mark.nightly_on_jax
@every_loss
def test_the_labels_of_two_classes_may_be_booleans(loss):
    embeddings, _, labels = classified(9, 2, 5)
    assert eager(loss, labels.astype(bool), embeddings) == eager(
        loss, labels, embeddings
    )


@every_loss
def test_the_order_of_the_batch_and_the_names_of_classes_do_not_matter(loss):
    embeddings, _, labels = classified(12, 4, 5)
    names = np.array([7, 2, 9, 4])[labels]
    value = eager(loss, labels, embeddings)
    assert eager(loss, names, embeddings) == pytest.approx(value, rel=1e-6)
    if isinstance(loss, losses.NPairsLoss):
        return  # takes the first two of each class
    order = np.random.default_rng(2).permutation(12)
    assert eager(loss, labels[order], embeddings[order]) == pytest.approx(
        value, rel=1e-5
    )


@pytest.mark.nightly_on_jax
@every_loss
def test_rotating_the_space_changes_nothing(float64, loss):
    embeddings, _, labels = classified(12, 4, 5)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    loss = changed(loss, reduction="none", dtype="float64")

    def parts(x):
        return value_and_gradients(lambda x: mean_of(loss, labels, x), [x])

    value, (gradient,) = parts(embeddings)
    assert_same(
        parts(embeddings @ rotation), (value, [gradient @ rotation]), "float64"
    )


@every_loss
def test_weights_are_refused_and_not_ignored(loss):
    embeddings, _, labels = classified(6, 2, 4)
    with pytest.raises(ValueError, match=r"sample_weight.*no meaning"):
        loss(labels, embeddings, sample_weight=np.ones(6))


@every_loss
def test_a_feature_map_is_told_to_pool(loss):
    with pytest.raises(ValueError, match="GlobalAveragePooling2D"):
        loss(np.zeros(2), np.zeros((2, 7, 7, 8), "float32"))
    with pytest.raises(ValueError, match=r"y_true must have the shape"):
        loss(np.zeros((2, 3, 1)), np.zeros((2, 8), "float32"))


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (losses.TripletSemiHardLoss, {"margin": -1}),
        (losses.TripletHardLoss, {"distance_metric": "l2"}),
        (losses.TripletHardLoss, {"soft": "no"}),
        (losses.TripletAllLoss, {"margin": float("inf")}),
        (losses.ContrastiveLoss, {"margin": 0}),
        (losses.ContrastiveLoss, {"exponent": 0.5}),
        (losses.MultiSimilarityLoss, {"beta": 0}),
        (losses.MultiSimilarityLoss, {"epsilon": "none"}),
    ],
    ids=str,
)
def test_arguments_are_named_in_the_error(loss, arguments):
    (name,) = arguments
    with pytest.raises(
        ValueError, match=f"{loss.__name__}.*{name}.*must be.*received"
    ):
        loss(**arguments)


@every_loss
def test_a_saved_loss_is_restored_with_every_argument(loss):
    config = {
        key: value * 1.5 if isinstance(value, float) else value
        for key, value in loss.get_config().items()
    }
    loss = type(loss).from_config(config)
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()


@every_loss
def test_fit_brings_the_classes_apart(loss):
    generator = np.random.default_rng(0)
    labels = np.tile(np.repeat(np.arange(4), 2), 12)
    centers = generator.normal(size=(4, 16))
    features = centers[labels] + generator.normal(size=(96, 16))
    model = keras_finegrain.Sequential(
        [keras.Input((16,)), keras.layers.Dense(3)]
    )
    model.compile(keras.optimizers.Adam(0.02), changed(loss))

    def ratio():
        return intra_inter_distance_ratio(
            model.predict(features, verbose=0), labels
        )

    before = ratio()
    # The last batch is smaller than the others.
    model.fit(
        features, labels, epochs=15, batch_size=20, shuffle=False, verbose=0
    )
    assert ratio() < 0.8 * before


def numpy_semi_hard(distances, labels, margin):
    """Each anchor's sum, its pairs, and the weights of its distances."""
    total, count = np.zeros(len(labels)), np.zeros(len(labels))
    weights = np.zeros_like(distances)
    for a in range(len(labels)):
        others = np.flatnonzero(labels != labels[a])
        for p in np.flatnonzero(labels == labels[a]):
            if p == a:
                continue
            count[a] += 1
            further = others[distances[a, others] > distances[a, p]]
            if len(further):
                n = further[np.argmin(distances[a, further])]
            elif len(others):
                n = others[np.argmax(distances[a, others])]
            else:
                n = None
            to_negative = 0.0 if n is None else distances[a, n]
            violation = distances[a, p] - to_negative + margin
            if violation > 0:
                total[a] += violation
                weights[a, p] += 1
                if n is not None:
                    weights[a, n] -= 1
    return total, count, weights


def numpy_all_triplets(distances, labels, margin):
    """The same of all triplets that violate the margin."""
    total, count = np.zeros(len(labels)), np.zeros(len(labels))
    weights = np.zeros_like(distances)
    for a in range(len(labels)):
        for p in np.flatnonzero(labels == labels[a]):
            for n in np.flatnonzero(labels != labels[a]):
                violation = distances[a, p] - distances[a, n] + margin
                if p != a and violation > 0:
                    total[a] += violation
                    count[a] += 1
                    weights[a, p] += 1
                    weights[a, n] -= 1
    return total, count, weights


SLOPES = {
    "semi_hard": (losses.TripletSemiHardLoss, numpy_semi_hard),
    "all": (losses.TripletAllLoss, numpy_all_triplets),
}
LABELS = {
    "balanced": np.arange(16) // 4,
    "shuffled": np.random.default_rng(0).permutation(np.arange(17) % 5),
    "one_giant_class": np.array([3] * 13 + [0, 1, 1]),
    "one_class": np.zeros(7, int),
    "one_class_of_200": np.array([1] * 200 + [0] * 3 + [2] * 3),
    "all_lone": np.arange(9),
    "one_sample": np.array([4]),
    "a_pair": np.array([4, 4]),
    "two_lone": np.array([4, 1]),
    "three": np.array([4, 1, 4]),
}


@pytest.mark.nightly_on_jax
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("kind", SLOPES)
def test_triplets_of_any_class_sizes_equal_the_definition(
    float64, kind, labels
):
    make, reference = SLOPES[kind]
    x = np.random.default_rng(1).normal(size=(len(labels), 3))
    difference = x[:, None] - x[None]
    distances = np.sqrt(np.square(difference).sum(-1))
    total, count, weights = reference(distances, labels, 0.7)
    weights = weights / np.where(distances > 0, distances, np.inf)
    slopes = (weights + weights.T)[:, :, None] * difference
    loss = make(margin=0.7, reduction="none", dtype="float64")
    assert_same(
        value_and_gradients(lambda x: mean_of(loss, labels, x), [x]),
        (
            total.sum() / max(count.sum(), 1),
            [slopes.sum(1) / max(count.sum(), 1)],
        ),
        "float64",
    )


@pytest.mark.nightly_on_jax
@pytest.mark.parametrize("kind", SLOPES)
def test_ties_between_triplets_count_as_in_the_definition(float64, kind):
    """On a grid of whole numbers; which of two equals is pulled may differ."""
    make, reference = SLOPES[kind]
    generator = np.random.default_rng(0)
    for batch in (1, 2, 3, 12, 12, 12):
        x = generator.integers(0, 3, (batch, 2)).astype("float64")
        labels = generator.integers(0, 3, batch)
        distances = numpy_distances(x, "squared-L2")
        total, count, _ = reference(distances, labels, 1.0)
        loss = make(
            margin=1.0,
            distance_metric="squared-L2",
            dtype="float64",
        )
        assert eager(loss, labels, x) == pytest.approx(
            total.sum() / max(count.sum(), 1), rel=1e-12
        )


@pytest.mark.nightly_on_jax
@every_loss
@pytest.mark.parametrize("batch", [1, 3, 4, 5, 11])
def test_blocks_of_anchors_add_up_to_the_whole_batch(
    float64, monkeypatch, loss, batch
):
    """The last block reaches back where 4 does not divide the batch."""
    loss = changed(loss, reduction="none", dtype="float64")
    embeddings, _, labels = classified(batch, 4, 5, seed=batch)

    def parts():
        return value_and_gradients(
            lambda x: mean_of(loss, labels, x), [embeddings]
        )

    whole = parts()
    monkeypatch.setattr(embedding_pairs, "BLOCK", 4)
    assert_same(parts(), whole, "float64")


@pytest.mark.nightly_on_jax
@every_slope
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(4, id="blocks"),
        pytest.param(512, id="one_block", marks=pytest.mark.nightly),
    ],
)
def test_the_gradient_can_be_derived_again(float64, monkeypatch, loss, block):
    monkeypatch.setattr(embedding_pairs, "BLOCK", block)
    loss = changed(loss, reduction="none", dtype="float64")
    embeddings, _, labels = classified(11, 4, 5)
    direction = np.random.default_rng(1).normal(size=embeddings.shape)

    if keras.backend.backend() != "tensorflow":
        both = gradient_and_slope(lambda x: mean_of(loss, labels, x), direction)
    else:
        import tensorflow as tf

        @tf.function(
            jit_compile=True,
            input_signature=[tf.TensorSpec([None, 5], "float64")],
        )
        def both(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    value = ops.sum(loss(ops.convert_to_tensor(labels), x))
                gradient = tf.convert_to_tensor(inner.gradient(value, x))
                slope = tf.reduce_sum(gradient * direction)
            return gradient, tf.convert_to_tensor(outer.gradient(slope, x))

    def along(step):
        """The gradient, and the derivative of that along the direction."""
        gradient, derivative = both(
            ops.convert_to_tensor(embeddings + step * direction)
        )
        return ops.convert_to_numpy(gradient), ops.convert_to_numpy(derivative)

    step = 1e-6
    expected = (along(step)[0] - along(-step)[0]) / (2 * step)
    np.testing.assert_allclose(along(0)[1], expected, rtol=1e-6, atol=1e-8)
    assert np.abs(expected).max() > 0


@every_loss
def test_a_loss_shows_its_arguments(loss):
    for argument, value in loss.get_config().items():
        if argument not in ("reduction", "dtype"):
            assert f"{argument}={value!r}" in repr(loss)
    assert repr(loss).startswith(f"{type(loss).__name__}(")


@pytest.mark.nightly_on_jax
@every_loss
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_compiled_for_any_batch_it_is_the_same(monkeypatch, loss, jit_compile):
    monkeypatch.setattr(embedding_pairs, "BLOCK", 4)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(
            jit_compile=jit_compile,
            input_signature=[
                tf.TensorSpec([None, 5], "float32"),
                tf.TensorSpec([None], "int64"),
            ],
        )
        def compiled(x, labels):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(labels, x)
            return value, tf.convert_to_tensor(tape.gradient(value, x))

    elif keras.backend.backend() == "jax" and jit_compile:
        import jax

        compiled = jax.jit(jax.value_and_grad(lambda x, y: loss(y, x)))
    else:
        pytest.skip("compiles in another way, or not at all")
    for batch in (3, 10):
        x, _, labels = classified(batch, 4, 5, seed=batch)
        x = x.astype("float32")
        value, gradient = compiled(
            ops.convert_to_tensor(x), ops.convert_to_tensor(labels)
        )
        assert_same(
            (float(value), [ops.convert_to_numpy(gradient)]),
            value_and_gradients(
                lambda x, labels=labels: loss(ops.convert_to_tensor(labels), x),
                [x],
            ),
            "float32",
        )


@pytest.mark.nightly_on_jax
@pytest.mark.slow
def test_a_batch_of_4096_takes_less_than_256_mb():
    """A matrix of all pairs takes 64 MiB, one of all triplets 256 GiB."""
    configs = [
        keras.losses.serialize(loss)
        for loss in PAIRS
        if not isinstance(loss, losses.NPairsLoss)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.pair_memory", "4096"],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    megabytes = json.loads(done.stdout.splitlines()[-1])
    assert max(megabytes.values()) < 4 * 64, megabytes


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        ([0, 1, 2], "two samples of one class"),
        ([3], "two samples of one class"),
        ([0, 0], "samples of two classes"),
        # One pair and one other sample are enough.
        ([0, 0, 1], None),
        ([0, 0, 1, 1], None),
    ],
)
def test_what_a_batch_lacks_is_known(labels, missing):
    assert embedding_pairs.missing_pairs(np.array(labels)) == missing

import keras
import numpy as np
import pytest
from keras import ops

from keras_finegrain.optimizers import LayerwiseLearningRate


def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, name="backbone"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def data():
    generator = np.random.default_rng(0)
    return (
        generator.normal(size=(8, 4)).astype("float32"),
        generator.normal(size=(8, 2)).astype("float32"),
    )


def steps(optimizer, epochs=1, **arguments):
    """How far each weight of the model moved."""
    trained = model()
    before = trained.get_weights()
    trained.compile(optimizer, "mse", **arguments)
    trained.fit(*data(), batch_size=8, epochs=epochs, verbose=0)
    return [
        after - start
        for start, after in zip(before, trained.get_weights(), strict=True)
    ]


OPTIMIZERS = {
    "sgd": lambda rate, **o: keras.optimizers.SGD(rate, **o),
    "momentum": lambda rate, **o: keras.optimizers.SGD(
        rate, momentum=0.9, nesterov=True, **o
    ),
    "adam": lambda rate, **o: keras.optimizers.Adam(rate, **o),
    "adamw": lambda rate, **o: keras.optimizers.AdamW(
        rate, weight_decay=0.1, **o
    ),
    "nadam": lambda rate, **o: keras.optimizers.Nadam(rate, **o),
    "rmsprop": lambda rate, **o: keras.optimizers.RMSprop(rate, **o),
    "adagrad": lambda rate, **o: keras.optimizers.Adagrad(rate, **o),
    "lion": lambda rate, **o: keras.optimizers.Lion(rate, **o),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_first_step_is_that_of_the_optimizer_at_the_multiplied_rate(name):
    build = OPTIMIZERS[name]
    layerwise = steps(LayerwiseLearningRate(build(0.01), {"/head/": 10}))
    backbone = steps(build(0.01))[:2]
    head = steps(build(0.1))[2:]
    for ours, expected in zip(layerwise, backbone + head, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_multiplier_of_one_changes_nothing_over_many_steps(name):
    build = OPTIMIZERS[name]
    layerwise = steps(LayerwiseLearningRate(build(0.01), {"head": 1.0}), 5)
    for ours, expected in zip(layerwise, steps(build(0.01), 5), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"clipnorm": 0.01},
        {"clipvalue": 0.01},
        {"global_clipnorm": 0.01},
        {"gradient_accumulation_steps": 2},
        {"use_ema": True, "ema_overwrite_frequency": 1},
        {"loss_scale_factor": 128.0},
    ],
    ids=str,
)
def test_options_of_the_optimizer_keep_their_meaning(options):
    plain = keras.optimizers.SGD(0.1, **options)
    wrapped = LayerwiseLearningRate(
        keras.optimizers.SGD(0.1, **options), {"head": 1.0, "kernel": 1.0}
    )
    for ours, expected in zip(steps(wrapped, 4), steps(plain, 4), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-7)


def test_global_norm_spans_the_groups():
    options = {"global_clipnorm": 0.01}
    wrapped = steps(
        LayerwiseLearningRate(
            keras.optimizers.SGD(1.0, **options), {"head": 2.0}
        )
    )
    norm = np.sqrt(
        sum(
            np.square(step / rate).sum()
            for step, rate in zip(wrapped, [1, 1, 2, 2], strict=True)
        )
    )
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_first_matching_pattern_decides_and_zero_freezes():
    moved = steps(LayerwiseLearningRate("sgd", {"head/bias": 1.0, "head": 0.0}))
    assert not moved[2].any()
    assert moved[3].any()


def test_schedules_and_callbacks_turn_the_one_rate():
    optimizer = LayerwiseLearningRate(
        keras.optimizers.SGD(
            keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.0])
        ),
        {"head": 10},
    )
    one, three = steps(optimizer), None
    three = steps(
        LayerwiseLearningRate(
            keras.optimizers.SGD(
                keras.optimizers.schedules.PiecewiseConstantDecay(
                    [0], [0.1, 0.0]
                )
            ),
            {"head": 10},
        ),
        3,
    )
    for first, later in zip(one, three, strict=True):
        np.testing.assert_allclose(first, later)
    optimizer = LayerwiseLearningRate(keras.optimizers.SGD(0.1), {"head": 10})
    trained = model()
    trained.compile(optimizer, "mse")
    optimizer.learning_rate = 0.0
    before = trained.get_weights()
    trained.fit(*data(), verbose=0)
    for start, after in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(start, after)


def test_loaded_optimizer_goes_on_where_it_was(tmp_path):
    trained = model()
    trained.compile(
        LayerwiseLearningRate(keras.optimizers.Adam(0.01), {"head": 10}), "mse"
    )
    trained.fit(*data(), epochs=3, verbose=0)
    trained.optimizer.learning_rate = 0.02
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(ops.convert_to_numpy(loaded.optimizer.learning_rate)) == (
        pytest.approx(0.02)
    )
    for both in (trained, loaded):
        both.fit(*data(), epochs=3, verbose=0, shuffle=False)
    for ours, theirs in zip(
        trained.get_weights(), loaded.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_state_is_saved_once(tmp_path):
    import h5py

    trained = model()
    trained.compile(LayerwiseLearningRate("adam", {"head": 10}), "mse")
    trained.fit(*data(), verbose=0)
    trained.save(tmp_path / "model.keras")
    import zipfile

    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    count = 0

    def visit(name, item):
        nonlocal count
        count += isinstance(item, h5py.Dataset)

    with h5py.File(tmp_path / "model.weights.h5") as file:
        file["optimizer"].visititems(visit)
    assert count == len(trained.optimizer.variables)


def test_mixed_precision_scales_the_loss_around_it():
    moved = steps(
        LayerwiseLearningRate(keras.optimizers.SGD(0.01), {"head": 10}),
        auto_scale_loss=True,
    )
    assert all(np.isfinite(step).all() for step in moved)
    wrapped = keras.optimizers.LossScaleOptimizer(
        LayerwiseLearningRate(keras.optimizers.SGD(0.01), {"head": 10})
    )
    plain = LayerwiseLearningRate(keras.optimizers.SGD(0.01), {"head": 10})
    for ours, expected in zip(steps(wrapped), steps(plain), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-6)


class TestBadInput:
    def test_pattern_that_matches_nothing_names_near_paths(self):
        with pytest.raises(ValueError, match=r"'haed'.*head/"):
            steps(LayerwiseLearningRate("sgd", {"haed": 10}))

    def test_pattern_that_is_no_expression(self):
        with pytest.raises(ValueError, match="not a regular expression"):
            LayerwiseLearningRate("sgd", {"head(": 10})

    def test_negative_multiplier(self):
        with pytest.raises(ValueError, match=r"multipliers\['head'\].*-1"):
            LayerwiseLearningRate("sgd", {"head": -1})

    def test_global_norm_with_accumulation(self):
        optimizer = keras.optimizers.SGD(
            0.1, global_clipnorm=1.0, gradient_accumulation_steps=2
        )
        with pytest.raises(ValueError, match="cannot be combined"):
            LayerwiseLearningRate(optimizer, {"head": 2})

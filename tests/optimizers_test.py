import os
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from keras_finegrain.optimizers import LayerwiseLearningRate
from tests.programs import layerwise_rates

BACKEND = keras.backend.backend()


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


def test_hdf5_file_keeps_the_rates_and_trains_on(tmp_path):
    """Keras restores no optimizer's slots from a file of this kind."""
    trained = model()
    trained.compile(
        LayerwiseLearningRate(keras.optimizers.Adam(0.01), {"head": 0}),
        keras.losses.MeanSquaredError(),
    )
    trained.fit(*data(), verbose=0)
    trained.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    assert_near(loaded.get_weights(), trained.get_weights())
    assert repr(loaded.optimizer) == repr(trained.optimizer)
    loaded.fit(*data(), verbose=0)
    moved = [
        (after != before).any()
        for before, after in zip(
            trained.get_weights(), loaded.get_weights(), strict=True
        )
    ]
    assert moved == [True, True, False, False]


def test_state_is_saved_once(tmp_path):
    trained = model()
    trained.compile(LayerwiseLearningRate("adam", {"head": 10}), "mse")
    trained.fit(*data(), verbose=0)
    trained.save(tmp_path / "model.keras")
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


def scaled(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)


def assert_near(ours, expected, atol=1e-6):
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=atol)


COMPILED = [{"jit_compile": True}, {"steps_per_execution": 2}, {}]
if BACKEND == "torch":
    COMPILED = [{}]


@pytest.mark.parametrize("arguments", COMPILED, ids=str)
@pytest.mark.parametrize("excluded", ["by name", "by variable"])
def test_adamw_is_the_update_by_hand(arguments, excluded):
    trained = layerwise_rates.model()
    optimizer = layerwise_rates.optimizer()
    if excluded == "by name":
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    else:
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in trained.weights if v.name == "bias"]
        )
    trained.compile(optimizer, "mse", **arguments)
    by_hand = layerwise_rates.by_hand(trained.get_weights())
    layerwise_rates.fit(trained)
    assert_near(trained.get_weights(), by_hand)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras does not distribute it")
def test_replicas_are_the_update_by_hand(tmp_path):
    output = tmp_path / "weights.npz"
    process = subprocess.run(
        [sys.executable, "-m", "tests.programs.layerwise_rates", output],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    with np.load(output) as file:
        weights = [file[key] for key in file.files]
    assert_near(weights[4:], layerwise_rates.by_hand(weights[:4]))


def sgd_steps_by_hand(options, epochs):
    """The clipped, accumulated steps of SGD(0.1), {"head": 10}."""
    trained = layerwise_rates.model()
    before = trained.get_weights()
    weights = [weight.copy() for weight in before]
    for _ in range(epochs // options["gradient_accumulation_steps"]):
        gradients = layerwise_rates.gradients(weights)
        norm = np.sqrt(sum(np.square(g).sum() for g in gradients))
        clip = min(1.0, options["global_clipnorm"] / norm)
        for weight, gradient, rate in zip(
            weights, gradients, [0.1, 0.1, 1.0, 1.0], strict=True
        ):
            weight -= rate * clip * gradient
    return [w - start for w, start in zip(weights, before, strict=True)]


def test_global_norm_is_that_of_the_accumulated_gradients():
    options = {"global_clipnorm": 0.01, "gradient_accumulation_steps": 2}
    trained = layerwise_rates.model()
    before = trained.get_weights()
    trained.compile(
        LayerwiseLearningRate(
            keras.optimizers.SGD(0.1, **options), {"head": 10}
        ),
        "mse",
    )
    layerwise_rates.fit(trained, epochs=4)
    moved = [
        weight - start
        for weight, start in zip(trained.get_weights(), before, strict=True)
    ]
    assert_near(moved, sgd_steps_by_hand(options, 4))


UNMOVED = {
    **OPTIMIZERS,
    "ftrl": lambda rate: keras.optimizers.Ftrl(rate),
    "decayed": lambda rate: keras.optimizers.SGD(
        rate, momentum=0.9, weight_decay=0.1
    ),
}


@pytest.mark.parametrize("name", UNMOVED)
def test_multiplier_of_zero_leaves_the_weight_and_its_slots(name):
    trained = model()
    optimizer = LayerwiseLearningRate(UNMOVED[name](0.1), {"head": 0.0})
    trained.compile(optimizer, "mse")
    optimizer.build(trained.trainable_variables)
    variables = trained.layers[-1].weights + [
        variable for variable in optimizer.variables if "head" in variable.path
    ]
    before = [ops.convert_to_numpy(variable) for variable in variables]
    start = trained.get_weights()
    trained.fit(*data(), epochs=3, verbose=0)
    assert (trained.get_weights()[0] != start[0]).all()
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, scaled])
def test_evaluation_and_the_end_of_training_have_the_averaged_weights(wrap):
    """Averages by hand the weights that each step left."""
    trajectory = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: trajectory.append(
            trained.get_weights()
        )
    )
    trained = layerwise_rates.model()
    trained.compile(
        wrap(
            LayerwiseLearningRate(
                keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
                {"head": 10},
            )
        ),
        "mse",
    )
    history = layerwise_rates.fit(
        trained,
        epochs=3,
        validation_data=layerwise_rates.data(),
        callbacks=[record, keras.callbacks.SwapEMAWeights()],
    ).history
    average = trajectory[0]
    for epoch, weights in enumerate(trajectory):
        if epoch:
            average = [
                (a + w) / 2 for a, w in zip(average, weights, strict=True)
            ]
        assert history["val_loss"][epoch] == pytest.approx(
            layerwise_rates.loss(average), rel=1e-5
        )
    assert_near(trained.get_weights(), average)


@pytest.mark.parametrize(
    "compiled",
    [
        lambda optimizer: scaled(
            LayerwiseLearningRate(optimizer, {"head": 10})
        ),
        lambda optimizer: LayerwiseLearningRate(
            scaled(optimizer), {"head": 10}
        ),
    ],
    ids=["around", "inside"],
)
def test_loss_scale_changes_no_step(compiled):
    build = OPTIMIZERS["adamw"]
    plain = LayerwiseLearningRate(build(0.01), {"head": 10})
    assert_near(steps(compiled(build(0.01)), 3), steps(plain, 3))


@pytest.mark.parametrize("mixed", ["mixed_float16"], indirect=True)
def test_mixed_precision_keeps_the_multipliers(mixed):
    trained = model()
    trained.compile(
        LayerwiseLearningRate(keras.optimizers.SGD(0.01), {"head": 0}), "mse"
    )
    assert isinstance(trained.optimizer, keras.optimizers.LossScaleOptimizer)
    before = trained.get_weights()
    trained.fit(*data(), epochs=3, verbose=0)
    moved = [
        (after != start).any()
        for start, after in zip(before, trained.get_weights(), strict=True)
    ]
    assert moved == [True, True, False, False]


def test_callback_reduces_and_logs_the_rate():
    trained = model()
    trained.compile(
        LayerwiseLearningRate(keras.optimizers.SGD(0.1), {"head": 10}), "mse"
    )
    logged = trained.fit(
        *data(),
        epochs=3,
        verbose=0,
        callbacks=[
            keras.callbacks.ReduceLROnPlateau(
                "loss", factor=0.5, patience=1, min_delta=100.0
            )
        ],
    ).history["learning_rate"]
    assert logged == pytest.approx([0.1, 0.1, 0.05])


def test_it_is_the_optimizer_that_was_passed():
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    layerwise = LayerwiseLearningRate(optimizer, {"head/": 10})
    assert layerwise is optimizer
    assert isinstance(layerwise, keras.optimizers.AdamW)
    assert isinstance(layerwise, LayerwiseLearningRate)
    assert repr(layerwise) == (
        "LayerwiseLearningRate(optimizer=<AdamW>, multipliers={'head/': 10.0})"
    )
    assert layerwise.multiplier("model/head/kernel") == 10.0


def test_config_is_restored_by_the_public_class():
    layerwise = LayerwiseLearningRate(
        keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5),
            nesterov=True,
        ),
        {"head": np.float32(2), "bias": 1},
    )
    restored = keras.optimizers.deserialize(
        keras.optimizers.serialize(layerwise)
    )
    assert restored.get_config() == layerwise.get_config()
    assert repr(restored) == repr(layerwise)
    registered = keras.saving.get_registered_object(
        "keras_finegrain>LayerwiseLearningRate"
    )
    assert registered is LayerwiseLearningRate


def test_a_part_may_be_frozen_now_and_trained_at_its_rate_later():
    multipliers = {"backbone": 0.5, "head": 2}
    first = LayerwiseLearningRate(
        "sgd", multipliers, may_be_frozen=["backbone"]
    )
    trained = model()
    trained.get_layer("backbone").trainable = False
    trained.compile(first, "mse")
    trained.fit(*data(), verbose=0)
    second = type(first).from_config(first.get_config())
    assert second.may_be_frozen == ["backbone"]
    trained.get_layer("backbone").trainable = True
    trained.compile(second, "mse")
    before = trained.get_weights()
    trained.fit(*data(), verbose=0)
    assert np.any(trained.get_weights()[0] != before[0])


class TestBadInput:
    @pytest.mark.parametrize("keys", ["head", ["tail"], 1])
    def test_what_may_be_frozen_must_be_keys(self, keys):
        with pytest.raises(ValueError, match="may_be_frozen must list keys"):
            LayerwiseLearningRate("sgd", {"head": 2}, may_be_frozen=keys)

    def test_pattern_that_matches_nothing_names_near_paths(self):
        with pytest.raises(ValueError, match=r"'haed'.*head/"):
            steps(LayerwiseLearningRate("sgd", {"haed": 10}))

    def test_pattern_that_is_no_expression(self):
        with pytest.raises(ValueError, match="not a regular expression"):
            LayerwiseLearningRate("sgd", {"head(": 10})

    def test_negative_multiplier(self):
        with pytest.raises(ValueError, match=r"multipliers\['head'\].*-1"):
            LayerwiseLearningRate("sgd", {"head": -1})

    @pytest.mark.parametrize(
        "multipliers",
        [None, ["head"], {"head": "10"}, {"head": float("nan")}, {1: 10.0}],
        ids=str,
    )
    def test_multipliers_of_a_wrong_type(self, multipliers):
        optimizer = keras.optimizers.SGD(0.1)
        with pytest.raises(ValueError, match=r"multipliers.* must .*received"):
            LayerwiseLearningRate(optimizer, multipliers)
        assert type(optimizer) is type(keras.optimizers.SGD(0.1))

    def test_none_for_the_optimizer(self):
        with pytest.raises(ValueError, match="optimizer must be one Keras"):
            LayerwiseLearningRate(None, {"head": 2})

    def test_optimizer_that_has_multipliers(self):
        optimizer = LayerwiseLearningRate("sgd", {"head": 2})
        for nested in (optimizer, scaled(optimizer)):
            with pytest.raises(ValueError, match="not have multipliers yet"):
                LayerwiseLearningRate(nested, {"head": 2})

    def test_optimizer_of_the_time_before_unfreezing(self):
        optimizer = keras.optimizers.SGD(0.1)
        steps(optimizer)
        with pytest.raises(
            ValueError, match=r"must be new.*4 weights.*from_co"
        ):
            LayerwiseLearningRate(optimizer, {"head": 2})

    @pytest.mark.skipif(
        not hasattr(keras.optimizers, "MultiOptimizer"),
        reason="MultiOptimizer is new in Keras 3.15",
    )
    def test_multi_optimizer(self):
        optimizer = keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
        )
        with pytest.raises(ValueError, match="must be one Keras optimizer"):
            LayerwiseLearningRate(optimizer, {"head": 2})

    def test_file_of_the_version_with_an_optimizer_for_each_multiplier(self):
        config = LayerwiseLearningRate("sgd", {"head": 2}).get_config()
        with pytest.raises(ValueError, match="compile=False"):
            LayerwiseLearningRate.from_config({**config, "name": "rate"})

"""The layers inside of models: one step of everything, saved and restored."""

import copy
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_finegrain
from keras_finegrain.layers.measured import MeasuredLayer

BACKEND = keras.backend.backend()
CLASSES = 3


def data(count=12, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(count, 6, 6, 3)).astype("float32")
    return images, (np.arange(count) % CLASSES).astype("int32")


def layers(names=("mc", "center", "soft_triple"), **arguments):
    """From a feature map to the head, with each of our layers once."""
    mc, center, head = names
    return [
        keras.layers.Conv2D(7, 3, activation="relu", name="conv"),
        keras_finegrain.MCLoss(CLASSES, loss_weight=0.1, seed=5, name=mc),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras_finegrain.CenterLoss(CLASSES, loss_weight=0.1, name=center),
        keras_finegrain.SoftTriple(CLASSES, 2, name=head, **arguments),
    ]


def functional_model():
    inputs = output = keras.Input((6, 6, 3))
    for layer in layers():
        output = layer(output)
    return keras_finegrain.Model(inputs, output)


def sequential_model():
    return keras_finegrain.Sequential([keras.Input((6, 6, 3)), *layers()])


def deferred_sequential_model():
    model = keras_finegrain.Sequential(layers())
    model.build((None, 6, 6, 3))
    return model


class Subclassed(keras_finegrain.Model):
    def __init__(self):
        super().__init__()
        self.stack = layers()

    def call(self, inputs, training=None):
        for layer in self.stack:
            inputs = layer(inputs, training=training)
        return inputs


def subclassed_model():
    model = Subclassed()
    model(np.zeros((1, 6, 6, 3), "float32"))
    return model


class SubclassedFunctional(keras_finegrain.Model):
    def __init__(self):
        inputs = output = keras.Input((6, 6, 3))
        for layer in layers():
            output = layer(output)
        super().__init__(inputs, output)


def explicit_model():
    """A plain Keras model with the labels as an input."""
    inputs = output = keras.Input((6, 6, 3), name="image")
    labels = keras.Input((), dtype="int32", name="label", optional=True)
    for layer in layers():
        takes_labels = isinstance(
            layer, (keras_finegrain.MCLoss, keras_finegrain.CenterLoss)
        )
        output = layer(output, labels) if takes_labels else layer(output)
    return keras.Model({"image": inputs, "label": labels}, output)


def compiled(model, **arguments):
    model.compile(
        keras.optimizers.SGD(0.1),
        keras_finegrain.losses.SoftTripleLoss(),
        **arguments,
    )
    return model


def same_start(model):
    """The same weights whichever way the model was built."""
    generator = np.random.default_rng(3)
    model.set_weights(
        [generator.normal(size=w.shape, scale=0.3) for w in model.get_weights()]
    )
    return model


def weights_of(model):
    return [np.array(weight) for weight in model.get_weights()]


def train(model, images, labels, **arguments):
    arguments = {"batch_size": 6, "epochs": 2, "shuffle": False, **arguments}
    model.fit(images, labels, verbose=0, **arguments)
    return weights_of(model), model.evaluate(
        images, labels, batch_size=6, verbose=0, return_dict=True
    )


def assert_same(first, second, tolerance=2e-6):
    for ours, theirs in zip(first[0], second[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    assert first[1].keys() == second[1].keys()
    for name, value in first[1].items():
        np.testing.assert_allclose(
            value, second[1][name], rtol=1e-5, atol=tolerance, err_msg=name
        )


@pytest.fixture(scope="module")
def reference():
    keras.utils.set_random_seed(7)
    return train(same_start(compiled(functional_model())), *data())


@pytest.mark.parametrize(
    "build",
    [
        functional_model,
        sequential_model,
        deferred_sequential_model,
        subclassed_model,
        SubclassedFunctional,
    ],
)
def test_every_way_of_building_trains_alike(reference, build):
    assert_same(train(same_start(compiled(build())), *data()), reference)


def undropped(model):
    """The model whose mutual-channel loss draws nothing at random."""
    for layer in model.layers:
        if isinstance(layer, keras_finegrain.MCLoss):
            layer.drop = False
    return model


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"run_eagerly": True}, marks=pytest.mark.nightly_on_jax),
        pytest.param({"jit_compile": True}, marks=pytest.mark.nightly_on_torch),
        {"jit_compile": False},
        {"steps_per_execution": 2},
    ],
    ids=str,
)
def test_every_way_of_running_trains_alike(reference, arguments):
    if BACKEND == "torch" and "steps_per_execution" in arguments:
        pytest.skip("Keras on PyTorch has no steps_per_execution")
    model = functional_model()
    if BACKEND == "tensorflow" and arguments.get("jit_compile"):
        # TensorFlow draws other random numbers under XLA.
        reference = train(same_start(compiled(undropped(model))), *data())
        model = undropped(functional_model())
    model = same_start(compiled(model, **arguments))
    if BACKEND == "torch" and arguments.get("jit_compile"):
        # Compiling takes minutes there: the training step alone.
        images, labels = data()
        model.fit(images, labels, batch_size=6, epochs=2, shuffle=False)
        assert_same((weights_of(model), {}), (reference[0], {}))
        return
    # (XLA sums in another order.)
    assert_same(train(model, *data()), reference, tolerance=5e-6)


class AddsLoss(keras.layers.Layer):
    """Adds the loss that it was last given."""

    added = 0.0

    def call(self, inputs):
        self.add_loss(ops.convert_to_tensor(self.added))
        return 1.0 * inputs


class MeasuredAddsLoss(MeasuredLayer):
    added = 0.0

    def __init__(self):
        super().__init__(())

    call = AddsLoss.call


@pytest.mark.parametrize(
    ("model_class", "layer_class"),
    [(keras.Model, MeasuredAddsLoss), (keras_finegrain.Model, AddsLoss)],
)
def test_a_loss_in_the_place_of_an_older_one_counts(model_class, layer_class):
    first, second = layer_class(), layer_class()
    inputs = keras.Input((2,))
    model = model_class(inputs, second(first(inputs)))
    model.compile(loss=lambda y, p: 0.0 * p[:, 0], run_eagerly=True)
    # What happens by chance to an address in memory happens here to a tensor:
    # it was the second layer's in one step, and is the first layer's in the
    # next one.
    three = ops.convert_to_tensor(3.0)
    for first.added, second.added in [(1.0, three), (three, 5.0)]:
        loss = model.test_on_batch(np.ones((4, 2)), np.ones(4))
        assert float(loss) == float(first.added) + float(second.added)


@pytest.mark.parametrize("model_class", [keras.Model, keras_finegrain.Model])
def test_a_layer_that_is_called_twice_adds_both_losses(model_class):
    layer = MeasuredAddsLoss()
    layer.added = 3.0
    inputs = keras.Input((2,))
    model = model_class(inputs, layer(layer(inputs)))
    model.compile(loss=lambda y, p: 0.0 * p[:, 0])
    for _ in range(2):
        assert model.test_on_batch(np.ones((4, 2)), np.ones(4)) == 6.0


def test_train_on_batch_equals_fit(reference):
    images, labels = data()
    model = same_start(compiled(functional_model()))
    for _ in range(2):
        for start in (0, 6):
            model.train_on_batch(
                images[start : start + 6], labels[start : start + 6]
            )
    scores = model.evaluate(
        images, labels, batch_size=6, verbose=0, return_dict=True
    )
    assert_same((weights_of(model), scores), reference)


def test_explicit_labels_equal_the_label_scope(reference):
    images, labels = data()
    model = same_start(compiled(explicit_model()))
    inputs = {"image": images, "label": labels}
    weights, scores = train(model, inputs, labels)
    if BACKEND == "jax":
        # Keras on JAX drops what a metric learns during the forward pass.
        assert scores.keys() == {"loss"}
        scores = {**reference[1], **scores}
    # Outside of a scope evaluation cannot be told from prediction.
    scores["center_spread"] = reference[1]["center_spread"]
    assert_same((weights, scores), reference)


def test_a_data_set_trains_like_arrays(reference):
    tf = pytest.importorskip("tensorflow")
    images, labels = data()
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(6)
    model = same_start(compiled(functional_model()))
    model.fit(dataset, epochs=2, verbose=0)
    scores = model.evaluate(dataset, verbose=0, return_dict=True)
    assert_same((weights_of(model), scores), reference)


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weights_reach_the_layers(one_hot):
    images, labels = data()
    weight = {0: 0.0, 1: 1.0, 2: 2.0}
    by_class = same_start(compiled(functional_model()))
    by_sample = same_start(compiled(functional_model()))
    y = np.eye(CLASSES, dtype="float32")[labels] if one_hot else labels
    by_class.fit(
        images, y, batch_size=12, shuffle=False, class_weight=weight, verbose=0
    )
    by_sample.fit(
        images,
        labels,
        batch_size=12,
        shuffle=False,
        sample_weight=np.array([weight[label] for label in labels]),
        verbose=0,
    )
    for ours, theirs in zip(
        weights_of(by_class), weights_of(by_sample), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_evaluate_and_predict_change_nothing():
    images, labels = data()
    model = same_start(compiled(functional_model()))
    before = weights_of(model)
    first = model.evaluate(images, labels, verbose=0)
    assert model.evaluate(images, labels, verbose=0) == first
    model.predict(images, verbose=0)
    for ours, theirs in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_training_moves_centers_of_present_classes_only():
    images, labels = data()
    model = compiled(functional_model())
    model.fit(images, np.minimum(labels, 1), verbose=0)
    centers = ops.convert_to_numpy(model.get_layer("center").centers)
    assert (np.abs(centers).sum(axis=1) > 0).tolist() == [True, True, False]


MEASURES = {"center_loss", "discriminality", "diversity", "center_spread"}


class TestLogs:
    def test_default_names_stand_alone(self):
        model = keras_finegrain.Sequential(
            [
                keras.Input((6, 6, 3)),
                keras_finegrain.MCLoss(CLASSES),
                keras.layers.GlobalAveragePooling2D(),
                keras_finegrain.CenterLoss(CLASSES),
                keras_finegrain.SoftTriple(CLASSES),
            ]
        )
        images, labels = data()
        history = compiled(model).fit(
            images, labels, validation_data=(images, labels), verbose=0
        )
        expected = {*MEASURES, "loss"}
        expected |= {f"val_{name}" for name in expected}
        assert set(history.history) == expected
        assert all(np.isfinite(v).all() for v in history.history.values())

    def test_named_layers_carry_their_name(self):
        images, labels = data()
        history = compiled(functional_model()).fit(images, labels, verbose=0)
        assert set(history.history) == {
            "loss",
            "mc_discriminality",
            "mc_diversity",
            "center_center_loss",
            # "soft_triple" is the default name of its layer.
            "center_spread",
        }

    def test_layers_that_would_share_a_name_are_told_apart(self):
        first = keras_finegrain.CenterLoss(CLASSES)
        second = keras_finegrain.CenterLoss(CLASSES)
        model = keras_finegrain.Sequential(
            [
                keras.Input((6, 6, 3)),
                keras.layers.Flatten(),
                first,
                keras.layers.Dense(4),
                second,
                keras.layers.Dense(CLASSES),
            ]
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        history = model.fit(*data(), verbose=0).history
        assert set(history) == {
            "loss",
            f"{first.name}_center_loss",
            f"{second.name}_center_loss",
        }

    def test_figures_explain_the_loss(self):
        images, labels = data()
        model = same_start(compiled(functional_model()))
        scores = model.evaluate(images, labels, verbose=0, return_dict=True)
        predictions = model.predict(images, verbose=0)
        own = float(
            keras_finegrain.losses.SoftTripleLoss()(labels, predictions)
        )
        sizes = model.get_layer("mc").group_sizes
        per_class = sum(sizes) / len(sizes)
        total = (
            own
            + 0.1 * scores["center_center_loss"]
            + 0.1 * scores["mc_discriminality"]
            - 0.1 * scores["mc_diversity"] / per_class
            + 0.2 * scores["center_spread"]
        )
        assert scores["loss"] == pytest.approx(total, rel=1e-5)

    def test_tensorboard_holds_the_figures(self, tmp_path):
        tf = pytest.importorskip("tensorflow")
        compiled(functional_model()).fit(
            *data(),
            verbose=0,
            callbacks=[keras.callbacks.TensorBoard(tmp_path)],
        )
        tags = set()
        for file in tmp_path.glob("train/*"):
            for event in tf.compat.v1.train.summary_iterator(str(file)):
                tags |= {value.tag for value in event.summary.value}
        assert {"epoch_mc_diversity", "epoch_center_center_loss"} <= tags


class TestLabelScope:
    def test_is_closed_after_an_error(self):
        with (
            pytest.raises(RuntimeError),
            keras_finegrain.label_scope(ops.array([0])),
        ):
            raise RuntimeError
        with pytest.raises(ValueError, match="no labels"):
            keras_finegrain.CenterLoss(2)(ops.ones((1, 2)), training=True)

    def test_inner_scope_hides_the_outer_one(self):
        layer = keras_finegrain.CenterLoss(2)
        with keras_finegrain.label_scope(ops.array([0])):
            with keras_finegrain.label_scope(ops.array([1])):
                layer(ops.ones((1, 2)), training=True)
            moved = ops.convert_to_numpy(layer.centers).any(axis=1)
            assert moved.tolist() == [False, True]
            layer(ops.ones((1, 2)), training=True)
        moved = ops.convert_to_numpy(layer.centers).any(axis=1)
        assert moved.tolist() == [True, True]

    def test_plain_model_without_labels_is_told_both_ways(self):
        model = keras.Sequential(
            [keras.Input((4,)), keras_finegrain.CenterLoss(3)]
        )
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match=r"keras_finegrain\.Model"):
            model.fit(np.ones((2, 4)), np.ones((2, 4)), verbose=0)


class TestOutputs:
    """Which labels and weights a layer reads, where `y` has a structure."""

    y = (np.arange(12) % CLASSES).astype("int32")
    weights = np.linspace(0.0, 1.0, 12).astype("float32")

    def model(self, outputs="one", **arguments):
        inputs = keras.Input((4,))
        layer = keras_finegrain.CenterLoss(
            CLASSES, centers_initializer="ones", **arguments
        )
        features = layer(inputs)
        species, sex = (
            keras.layers.Dense(n, name=name, kernel_initializer="zeros")
            for name, n in (("species", CLASSES), ("sex", 2))
        )
        outputs = {
            "one": lambda: species(features),
            "dict": lambda: {"species": species(features)},
            "two": lambda: [species(features), sex(features)],
        }[outputs]()
        model = keras_finegrain.Model(inputs, outputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        several = isinstance(outputs, list)
        model.compile("sgd", [loss, loss] if several else loss)
        return model

    def evaluated(self, model, y, weights=None):
        x = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
        scores = model.evaluate(
            x, y, sample_weight=weights, verbose=0, return_dict=True
        )
        return scores["loss"], scores["center_loss"]

    @pytest.mark.parametrize("weighted", [False, True])
    def test_a_list_or_dict_of_one_means_its_entry(self, weighted):
        y, w = self.y, self.weights if weighted else None
        expected = self.evaluated(self.model(), y, w)
        cases = [
            ("one", [y], w if w is None else [w]),
            ("one", y, w if w is None else [w]),
            ("one", y, w if w is None else {"species": w}),
            ("one", {"species": y}, w if w is None else {"species": w}),
            ("dict", {"species": y}, w if w is None else {"species": w}),
        ]
        for outputs, labels, weights in cases:
            assert self.evaluated(
                self.model(outputs), labels, weights
            ) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("name", ["species", 0])
    def test_the_layer_reads_the_output_that_it_names(self, name):
        _, expected = self.evaluated(self.model(), self.y, self.weights)
        sex, ones = self.y % 2, np.ones(12)
        model = self.model("two", output_name=name)
        for y, weights in (
            ([self.y, sex], [self.weights, ones]),
            (
                {"sex": sex, "species": self.y},
                {"sex": ones, "species": self.weights},
            ),
            ([self.y, sex], self.weights),
        ):
            _, measured = self.evaluated(model, y, weights)
            assert measured == pytest.approx(expected, rel=1e-5)

    def test_without_a_name_or_with_a_wrong_one_the_error_lists_them(self):
        y = [self.y, self.y % 2]
        with pytest.raises(ValueError, match=r"'species', 'sex'.*output_name"):
            self.evaluated(self.model("two"), y)
        with pytest.raises(ValueError, match=r"'sex'\), received 'age'"):
            self.evaluated(self.model("two", output_name="age"), y)
        for wrong in (-1, True, 1.5):
            with pytest.raises(ValueError, match="output_name must be"):
                keras_finegrain.MCLoss(2, output_name=wrong)

    def test_the_name_is_kept_in_the_config(self):
        for layer in (keras_finegrain.CenterLoss, keras_finegrain.MCLoss):
            config = layer(2, output_name="species").get_config()
            assert layer.from_config(config).output_name == "species"


class Batches(keras.utils.PyDataset):
    """Three batches; only the last label of the last one may be wrong."""

    def __init__(self, last, **arguments):
        super().__init__(**arguments)
        self.x, self.y = data()
        self.y[-1] = last

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return self.x[part], self.y[part]


def generator(last):
    batches = Batches(last)
    yield from (batches[index] for index in range(3))


def torch_loader(last):
    torch = pytest.importorskip("torch")
    batches = Batches(last)
    tensors = torch.as_tensor(batches.x), torch.as_tensor(batches.y)
    dataset = torch.utils.data.TensorDataset(*tensors)
    return torch.utils.data.DataLoader(dataset, batch_size=4)


class TestEachBatchIsChecked:
    message = r"labels must lie in \[0, 3\), received a maximum of 9"

    def model(self):
        model = keras_finegrain.Sequential(
            [
                keras.Input((6, 6, 3)),
                keras.layers.Flatten(),
                keras_finegrain.CosineSimilarity(CLASSES),
            ]
        )
        model.compile("sgd", keras_finegrain.losses.NormFaceLoss())
        return model

    @pytest.mark.parametrize("source", [Batches, generator, torch_loader])
    def test_of_every_kind_of_data(self, source):
        for method in ("fit", "evaluate"):
            with pytest.raises(ValueError, match=self.message):
                getattr(self.model(), method)(source(9), verbose=0)
        history = self.model().fit(source(1), verbose=0).history
        assert np.isfinite(history["loss"]).all()

    def test_of_a_py_dataset_with_workers(self):
        with pytest.raises(ValueError, match=self.message):
            self.model().fit(Batches(9, workers=2), verbose=0)

    def test_of_validation_data_however_it_is_given(self):
        x, y = data()
        bad = np.where(np.arange(12) == 11, 9, y)
        for validation in ([x, bad], (x, bad), Batches(9)):
            with pytest.raises(ValueError, match=self.message):
                self.model().fit(x, y, validation_data=validation, verbose=0)
        with pytest.raises(ValueError, match=self.message):
            self.model().fit(x, y, 4, 1, 0, None, 0.0, (x, bad))

    def test_epochs_of_a_py_dataset_begin_and_end(self):
        class Counted(Batches):
            ended = 0

            def on_epoch_end(self):
                self.ended += 1

        ended = []
        for model_class in (keras_finegrain.Model, keras.Model):
            inputs = keras.Input((6, 6, 3))
            model = model_class(inputs, keras.layers.Flatten()(inputs))
            model.compile("sgd", keras_finegrain.losses.TripletHardLoss())
            batches = Counted(1)
            model.fit(batches, epochs=2, verbose=0)
            ended.append(batches.ended)
        assert ended[0] == ended[1] > 1

    def test_a_batch_with_another_number_of_labels_is_named(self):
        x, y = data()
        batches = ((x[:4], y[:count]) for count in (4, 1))
        with pytest.raises(ValueError, match=r"shape \(4,\).*received .* \(1,"):
            self.model().fit(batches, verbose=0)

    def test_no_labels_for_a_loss_are_named(self):
        with pytest.raises(ValueError, match="NormFaceLoss: y_true must be"):
            self.model().fit(data()[0], verbose=0)


def test_an_own_train_step_is_told_to_open_a_label_scope():
    class OwnStep(Subclassed):
        def train_step(self, *arguments):
            self(arguments[-1][0], training=True)

    model = OwnStep()
    model.compile("sgd", "mse", run_eagerly=True)
    images, labels = data()
    with pytest.raises(ValueError, match=r"train_step.*label_scope") as error:
        model.train_on_batch(images, np.eye(CLASSES)[labels])
    assert "build the model" not in str(error.value)


class TestNonFiniteLoss:
    def model(self):
        model = keras_finegrain.Sequential(
            [keras.Input((4,)), keras.layers.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.0), "mse")
        return model

    def test_is_said_once_with_its_epoch(self):
        x = np.ones((4, 4), "float32")
        x[0] = np.nan
        good = np.ones((4, 4), "float32")
        with pytest.warns(UserWarning, match="val_loss is nan in epoch 1") as w:
            self.model().fit(
                good,
                np.ones(4),
                epochs=2,
                validation_data=(x, np.ones(4)),
                callbacks=keras.callbacks.History(),
                verbose=0,
            )
        assert sum("in epoch" in str(each.message) for each in w) == 1

    def test_a_finite_loss_says_nothing(self, recwarn):
        self.model().fit(np.ones((4, 4)), np.ones(4), verbose=0)
        assert not [w for w in recwarn if "in epoch" in str(w.message)]


class TestBadLabels:
    @pytest.mark.parametrize("label", [CLASSES, -1])
    def test_arrays_are_checked_as_a_whole(self, label):
        images, labels = data()
        labels[-1] = label
        for method in ("fit", "evaluate"):
            with pytest.raises(ValueError, match=rf"\[0, 3\).*{label}"):
                getattr(compiled(functional_model()), method)(
                    images, labels, batch_size=4, verbose=0
                )

    def test_data_sets_are_checked_in_their_pipeline(self):
        tf = pytest.importorskip("tensorflow")
        images, labels = data()
        labels[-1] = 17
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"labels must lie in \[0, 3\)"
        ):
            compiled(functional_model()).fit(dataset, verbose=0)

    def test_validation_data_is_checked_before_training(self):
        images, labels = data()
        model = compiled(functional_model())
        before = weights_of(model)
        with pytest.raises(ValueError, match=r"\[0, 3\).*maximum of 5"):
            model.fit(
                images, labels, validation_data=(images, labels + 3), verbose=0
            )
        np.testing.assert_array_equal(before[0], weights_of(model)[0])

    def test_generators_are_checked_and_lose_no_batch(self):
        images, labels = data()

        def batches(labels):
            for start in (0, 6):
                stop = start + 6
                yield images[start:stop], labels[start:stop]

        ours = same_start(compiled(functional_model()))
        arrays = same_start(compiled(functional_model()))
        ours.fit(batches(labels), verbose=0)
        arrays.fit(images, labels, batch_size=6, shuffle=False, verbose=0)
        for first, second in zip(
            weights_of(ours), weights_of(arrays), strict=True
        ):
            np.testing.assert_allclose(first, second, atol=2e-6)
        with pytest.raises(ValueError, match=r"\[0, 3\).*maximum of 9"):
            ours.fit(batches(labels + 7), verbose=0)

    def test_head_that_disagrees_is_named(self):
        model = keras_finegrain.Sequential(
            [
                keras.Input((4,)),
                keras_finegrain.CenterLoss(5),
                keras_finegrain.SoftTriple(3),
            ]
        )
        with pytest.raises(ValueError, match=r"num_classes=5.*3 classes"):
            compiled(model).fit(np.ones((3, 4)), np.array([0, 1, 2]), verbose=0)

    def test_missing_labels_are_named(self):
        model = keras_finegrain.Sequential(
            [keras.Input((4,)), keras_finegrain.CenterLoss(5)]
        )
        model.compile("sgd", loss=None)
        with pytest.raises(ValueError, match="no labels"):
            model.fit(np.ones((3, 4)), verbose=0)


class TestMixedPrecision:
    @pytest.mark.parametrize(
        "mixed", ["mixed_float16", "mixed_bfloat16"], indirect=True
    )
    def test_trains_without_nan(self, mixed):
        images, labels = data()
        model = compiled(functional_model())
        history = model.fit(images, labels, epochs=3, verbose=0).history
        assert all(np.isfinite(v).all() for v in history.values())
        assert all(np.isfinite(w).all() for w in weights_of(model))
        assert model.get_layer("center").centers.dtype == "float32"

    @pytest.mark.parametrize(
        "mixed", ["mixed_float16", "mixed_bfloat16"], indirect=True
    )
    def test_labels_above_2048_reach_their_own_center(self, mixed):
        model = keras_finegrain.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(4),
                keras_finegrain.CenterLoss(5000),
                keras_finegrain.SoftTriple(5000, 1),
            ]
        )
        compiled(model).fit(np.ones((2, 4)), np.array([2049, 4097]), verbose=0)
        centers = ops.convert_to_numpy(model.layers[-2].centers)
        assert np.flatnonzero(centers.any(axis=1)).tolist() == [2049, 4097]


class TestSaving:
    @pytest.mark.parametrize("build", [functional_model, sequential_model])
    def test_an_hdf5_file_loads_as_the_class_that_it_was(self, build, tmp_path):
        model = compiled(build())
        images, labels = data()
        train(model, images, labels)
        model.save(tmp_path / "model.h5")
        loaded = keras.saving.load_model(tmp_path / "model.h5")
        assert type(loaded) is type(model)
        np.testing.assert_array_equal(
            loaded.predict(images, verbose=0), model.predict(images, verbose=0)
        )
        # (Keras restores no optimizer from HDF5.)
        train(compiled(loaded), images, labels)

    def test_weights_include_the_centers(self, tmp_path):
        model = compiled(functional_model())
        model.fit(*data(), verbose=0)
        model.save_weights(tmp_path / "model.weights.h5")
        other = functional_model()
        other.load_weights(tmp_path / "model.weights.h5")
        for name in ("center", "soft_triple"):
            np.testing.assert_array_equal(
                ops.convert_to_numpy(model.get_layer(name).centers),
                ops.convert_to_numpy(other.get_layer(name).centers),
            )

    @pytest.mark.parametrize("build", [functional_model, sequential_model])
    def test_loaded_model_trains_on_as_if_never_saved(self, build, tmp_path):
        images, labels = data()
        model = same_start(compiled(build()))
        model.fit(images, labels, shuffle=False, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert isinstance(
            loaded, (keras_finegrain.Model, keras_finegrain.Sequential)
        )
        assert_same(train(loaded, images, labels), train(model, images, labels))

    def test_a_fresh_process_needs_no_custom_objects(self, tmp_path):
        images, labels = data()
        model = compiled(functional_model())
        model.fit(images, labels, verbose=0)
        model.save(tmp_path / "model.keras")
        np.save(tmp_path / "images.npy", images)
        program = (
            "import sys, keras, numpy as np, keras_finegrain\n"
            "folder = sys.argv[1]\n"
            "model = keras.models.load_model(folder + '/model.keras')\n"
            "images = np.load(folder + '/images.npy')\n"
            "output = model.predict(images, verbose=0)\n"
            "centers = model.get_layer('center').centers\n"
            "np.savez(folder + '/out.npz', output=output,\n"
            "         centers=keras.ops.convert_to_numpy(centers))\n"
        )
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], check=True
        )
        with np.load(tmp_path / "out.npz") as fresh:
            np.testing.assert_allclose(
                fresh["output"], model.predict(images, verbose=0), atol=1e-6
            )
            np.testing.assert_array_equal(
                fresh["centers"],
                ops.convert_to_numpy(model.get_layer("center").centers),
            )

    def test_a_copy_is_independent(self):
        layer = keras_finegrain.CenterLoss(3)
        layer.build((None, 2))
        twin = copy.deepcopy(layer)
        layer(ops.ones((1, 2)), ops.array([1]), training=True)
        assert not ops.convert_to_numpy(twin.centers).any()

    def test_a_clone_is_a_model_of_ours(self):
        clone = keras.models.clone_model(functional_model())
        images, labels = data()
        assert "center_center_loss" in compiled(clone).evaluate(
            images, labels, verbose=0, return_dict=True
        )

    def test_functional_models_leave_the_class_open_for_subclasses(self):
        SubclassedFunctional()
        functional_model()
        images, labels = data()
        compiled(Subclassed()).fit(images, labels, verbose=0)


@pytest.mark.skipif(BACKEND == "torch", reason="SavedModel is TensorFlow's")
def test_export_serves_without_labels(tmp_path):
    tf = pytest.importorskip("tensorflow")
    images, labels = data()
    model = compiled(functional_model())
    model.fit(images, labels, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(
        served.serve(images), model.predict(images, verbose=0), atol=1e-6
    )

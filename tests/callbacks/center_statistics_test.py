"""The statistics must say what the centers did."""

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain.callbacks import CenterStatistics
from keras_finegrain.metrics.embedding_set import unit_rows

CLASSES = 4


def data(samples=24):
    generator = np.random.default_rng(0)
    return generator.normal(size=(samples, 6)), np.arange(samples) % CLASSES


def both_layers():
    features = keras.Input((6,))
    x = keras.layers.Dense(5)(features)
    x = keras_finegrain.CenterLoss(CLASSES, name="center")(x)
    x = keras_finegrain.SoftTriple(CLASSES, 3, name="head")(x)
    model = keras_finegrain.Model(features, x)
    model.compile(
        keras.optimizers.SGD(0.1), keras_finegrain.losses.SoftTripleLoss()
    )
    return model


class Centers(keras.callbacks.Callback):
    """Keeps the centers of each epoch."""

    def __init__(self, name):
        super().__init__()
        self.name, self.values = name, []

    def on_train_begin(self, logs=None):
        self.keep()

    def on_epoch_end(self, epoch, logs=None):
        self.keep()

    def keep(self):
        centers = self.model.get_layer(self.name).centers
        self.values.append(np.array(keras.ops.convert_to_numpy(centers)))


def nearest_of_another_class(centers, owners):
    distances = np.linalg.norm(centers[:, None] - centers, axis=-1)
    distances[owners[:, None] == owners] = np.inf
    return distances.min(axis=1).mean()


def test_movement_distance_and_distinct_centers_equal_their_definitions():
    model = both_layers()
    center, head = Centers("center"), Centers("head")

    logs = model.fit(
        *data(),
        epochs=2,
        verbose=0,
        callbacks=[CenterStatistics(tolerance=0.5), center, head],
    ).history

    moved = [np.linalg.norm(b - a, axis=1).mean() for a, b in pairs(center)]
    assert logs["center_center_movement"] == pytest.approx(moved, rel=1e-5)
    assert logs["center_center_distance"][-1] == pytest.approx(
        nearest_of_another_class(center.values[-1], np.arange(CLASSES)),
        rel=1e-5,
    )
    head.values = [unit_rows(value.reshape(-1, 5)) for value in head.values]
    moved = [np.linalg.norm(b - a, axis=1).mean() for a, b in pairs(head)]
    assert logs["head_center_movement"] == pytest.approx(moved, rel=1e-4)
    assert logs["head_center_distance"][-1] == pytest.approx(
        nearest_of_another_class(
            head.values[-1], np.repeat(np.arange(CLASSES), 3)
        ),
        rel=1e-5,
    )
    layer = model.get_layer("head")
    assert logs["head_distinct_centers"][-1] == pytest.approx(
        layer.distinct_centers(0.5).mean()
    )
    assert "center_distinct_centers" not in logs


def pairs(kept):
    return zip(kept.values[:-1], kept.values[1:], strict=True)


def test_one_layer_needs_no_name_in_the_logs():
    model = keras_finegrain.Sequential(
        [keras.Input((6,)), keras_finegrain.CosineSimilarity(CLASSES)]
    )
    model.compile("sgd", keras_finegrain.losses.NormFaceLoss())

    logs = model.fit(*data(), verbose=0, callbacks=[CenterStatistics()]).history

    assert {"center_movement", "center_distance"} <= logs.keys()
    assert "distinct_centers" not in logs


def test_of_very_many_classes_a_draw_is_looked_at():
    model = keras_finegrain.Sequential(
        [keras.Input((6,)), keras_finegrain.CosineSimilarity(300)]
    )
    model.compile(
        keras.optimizers.SGD(0.0), keras_finegrain.losses.NormFaceLoss()
    )

    logs = model.fit(
        *data(), verbose=0, callbacks=[CenterStatistics(max_classes=50)]
    ).history

    centers = keras.ops.convert_to_numpy(model.layers[-1].centers)
    whole = nearest_of_another_class(unit_rows(centers[:, 0]), np.arange(300))
    assert logs["center_movement"] == [0.0]
    assert logs["center_distance"] == pytest.approx([whole], rel=0.2)
    assert logs["center_distance"][0] != whole


def test_a_model_without_centers_is_an_error():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(CLASSES)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))

    with pytest.raises(ValueError, match="must have a CenterLoss"):
        model.fit(*data(), verbose=0, callbacks=[CenterStatistics()])

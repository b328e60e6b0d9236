"""The logs of each epoch must contain the metrics of that epoch."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import callbacks, metrics
from keras_finegrain.callbacks import EmbeddingMetrics
from keras_finegrain.embedding import embed, embedding_model
from tests import workers

BACKEND = keras.backend.backend()


def data(samples=24, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, samples)
    x = generator.normal(size=(samples, 6)) + np.eye(3, 6)[labels]
    return x.astype("float32"), labels


def classifier():
    model = keras_finegrain.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4),
            keras_finegrain.SoftTriple(3, 2),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.3), keras_finegrain.losses.SoftTripleLoss()
    )
    return model


class Recompute(keras.callbacks.Callback):
    """Measures by the public functions, on its own."""

    def __init__(self, gallery=None):
        super().__init__()
        self.gallery, self.values = gallery, []

    def on_epoch_end(self, epoch, logs=None):
        model = embedding_model(self.model)
        arguments = {}
        if self.gallery is not None:
            vectors, labels = embed(model, self.gallery)
            arguments = {
                "gallery_embeddings": vectors,
                "gallery_labels": labels,
            }
        queries = embed(model, data())
        self.values.append(metrics.map_at_r(*queries, **arguments))


@pytest.mark.parametrize("gallery", [None, data(30, seed=1)])
def test_each_epoch_has_its_own_metrics(gallery):
    recompute = Recompute(gallery)

    history = (
        classifier()
        .fit(
            *data(),
            epochs=3,
            verbose=0,
            callbacks=[
                EmbeddingMetrics(data(), gallery=gallery),
                recompute,
            ],
        )
        .history
    )

    assert history["val_map@r"] == recompute.values
    assert len(set(recompute.values)) == 3
    assert len(history["val_recall@1"]) == 3


def test_other_callbacks_can_watch_them(tmp_path):
    model = classifier()
    history = model.fit(
        *data(),
        epochs=4,
        verbose=0,
        callbacks=[
            EmbeddingMetrics(data(), ("silhouette",), prefix=""),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "{silhouette:.4f}.weights.h5",
                monitor="silhouette",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
            ),
            # It never rises by 2: training stops after the second epoch.
            keras.callbacks.EarlyStopping(
                "silhouette", mode="max", min_delta=2
            ),
        ],
    ).history

    assert len(history["silhouette"]) == 2
    names = {path.name for path in tmp_path.iterdir()}
    assert f"{max(history['silhouette']):.4f}.weights.h5" in names


def test_a_model_of_keras_alone_and_batches_do_as_well():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(3)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    x, y = data()
    batches = [(x[:16], y[:16]), (x[16:], y[16:])]

    history = model.fit(
        x,
        y,
        verbose=0,
        callbacks=[EmbeddingMetrics(batches, ("recall@1",), distance="cosine")],
    ).history

    expected = embed(embedding_model(model), data())
    assert history["val_recall@1"] == [metrics.recall_at_k(*expected)]


def test_frequency_leaves_epochs_out():
    history = (
        classifier()
        .fit(
            *data(),
            epochs=5,
            verbose=0,
            callbacks=[EmbeddingMetrics(data(), frequency=2)],
        )
        .history
    )

    assert len(history["val_map@r"]) == 2


def test_training_goes_the_same_way_with_it():
    losses = []
    for extra in ([], [EmbeddingMetrics(data())]):
        keras.utils.set_random_seed(3)
        history = classifier().fit(
            *data(), epochs=3, verbose=0, callbacks=extra
        )
        losses.append(history.history["loss"])

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_the_name_of_the_release_before_still_works_and_warns():
    with pytest.warns(DeprecationWarning, match="Use .*EmbeddingMetrics"):
        from keras_finegrain.callbacks import EmbeddingFigures

    callback = EmbeddingFigures(data(), figures=("map@r",))

    assert isinstance(callback, EmbeddingMetrics)
    assert callback.metrics == ("map@r",)
    assert "EmbeddingFigures" not in dir(callbacks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ("recall",)}, "EmbeddingMetrics: metrics .* 'recall'"),
        ({"distance": "dot"}, "EmbeddingMetrics: distance .* 'dot'"),
        ({"frequency": 0}, "EmbeddingMetrics: frequency .* 0"),
        ({"batch_size": 0}, "EmbeddingMetrics: batch_size .* 0"),
    ],
)
def test_bad_arguments_are_named_before_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingMetrics(data(), **arguments)


def logs_of(path):
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def train(replicas, output):
    process = subprocess.run(
        [
            *(sys.executable, "-m", "tests.programs.embedding_logs"),
            *(str(replicas), str(output)),
        ],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return logs_of(output)


@pytest.mark.nightly
@pytest.mark.skipif(
    BACKEND == "torch", reason="Keras distributes no training on PyTorch"
)
def test_replicas_and_workers_log_what_one_device_logs(tmp_path):
    one = train(1, tmp_path / "one.npz")
    # On TensorFlow every replica has a graph of its own: two will do.
    replicas = 2 if BACKEND == "tensorflow" else 4
    others = [train(replicas, tmp_path / "replicas.npz")]
    if BACKEND == "tensorflow":
        # (Keras cannot predict on several processes of JAX.)
        outputs = [tmp_path / f"{index}.npz" for index in range(2)]
        program = ["-m", "tests.programs.embedding_logs", 1]
        workers.finish(
            [
                workers.start([*program, output], environment)
                for output, environment in zip(
                    outputs, workers.worker_environments(2), strict=True
                )
            ]
        )
        others += map(logs_of, outputs)

    assert {"val_map@r", "head_distinct_centers"} <= one.keys()
    assert len(set(one["val_map@r"])) > 1
    for other in others:
        assert other.keys() == one.keys()
        for name, value in one.items():
            np.testing.assert_allclose(
                other[name], value, rtol=1e-5, atol=1e-6, err_msg=name
            )

"""Frames must be the embeddings of their epochs."""

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain.callbacks import EmbeddingRecorder
from keras_finegrain.embedding import embed, embedding_model


def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(10, 6)), np.arange(10) % 3


def classifier():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(2), keras.layers.Dense(3)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    return model


def test_the_first_frame_is_before_training_and_the_last_behind_it():
    model = classifier()
    before, _ = embed(embedding_model(model), data())
    recorder = EmbeddingRecorder(data(), frequency=2)

    model.fit(*data(), epochs=5, verbose=0, callbacks=[recorder])

    assert recorder.epochs == [0, 2, 4]
    np.testing.assert_array_equal(recorder.frames[0], before)
    assert not np.allclose(recorder.frames[1], recorder.frames[2])
    np.testing.assert_array_equal(recorder.labels, data()[1])


def test_centers_are_those_of_their_epochs():
    model = keras_finegrain.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(2),
            keras_finegrain.CenterLoss(3),
            keras.layers.Dense(3),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    recorder = EmbeddingRecorder(data())

    model.fit(*data(), epochs=2, verbose=0, callbacks=[recorder])

    assert not recorder.centers[0].any()
    assert not np.allclose(recorder.centers[1], recorder.centers[2])
    np.testing.assert_array_equal(
        recorder.centers[2],
        keras.ops.convert_to_numpy(model.layers[1].centers),
    )


def test_a_second_training_is_a_second_recording():
    model, recorder = classifier(), EmbeddingRecorder(data())
    for _ in range(2):
        model.fit(*data(), verbose=0, callbacks=[recorder])

    assert recorder.epochs == [0, 1]
    last, _ = embed(embedding_model(model), data())
    np.testing.assert_array_equal(recorder.frames[-1], last)


def test_data_in_another_order_is_an_error():
    class Shuffled(keras.utils.PyDataset):
        reads = 0

        def __len__(self):
            return 1

        def __getitem__(self, index):
            self.reads += 1
            x, y = data()
            return np.roll(x, self.reads, axis=0), np.roll(y, self.reads)

    with pytest.raises(ValueError, match="same order"):
        classifier().fit(
            *data(), verbose=0, callbacks=[EmbeddingRecorder(Shuffled())]
        )

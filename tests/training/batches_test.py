import dataclasses

import numpy as np
import pytest

from keras_finegrain.training.batches import OrderedBatches, TrainingBatches
from tests.colored_photos import SMALL

LABELS = np.array([0] * 7 + [1] * 5 + [2] * 4)
# So that a sample is not its place.
SAMPLES = 100 + np.arange(16)


def pairs(classes, images):
    """Settings of a method whose batches hold so many classes and images."""
    return {
        "method": "triplet",
        "batch_size": classes * images,
        "images_per_class": images,
    }


def training_batches(labels=LABELS, seed=0, **settings):
    """Batches of samples and of what was drawn for them: ten times each."""
    return TrainingBatches(
        SAMPLES[: len(labels)],
        labels,
        dataclasses.replace(SMALL, **{"batch_size": 5, **settings}),
        seed,
        draw=lambda samples, generator: (samples, 10 * samples),
        finish=lambda inputs, labels: (inputs, labels),
    )


def epoch_of(batches):
    """All batches of this epoch: samples and labels."""
    parts = [batches[index] for index in range(len(batches))]
    for (samples, drawn), labels in parts:
        np.testing.assert_array_equal(drawn, 10 * samples)
        np.testing.assert_array_equal(labels, LABELS[samples - 100])
    return [samples for (samples, _), _ in parts], [y for _, y in parts]


def test_an_epoch_leaves_out_what_fills_no_batch_another_part_each_time():
    batches = training_batches()
    left_out = set()
    for _ in range(12):
        samples, _ = epoch_of(batches)
        assert [len(batch) for batch in samples] == [5, 5, 5]
        (missing,) = set(SAMPLES) - set(np.concatenate(samples))
        left_out.add(missing)
        batches.on_epoch_end()
    assert len(left_out) > 3


def test_the_order_is_another_one_each_epoch_and_that_of_the_seed():
    first, same, other = (training_batches(seed=seed) for seed in (4, 4, 5))
    orders = []
    for _ in range(2):
        orders.append(np.concatenate(epoch_of(first)[0]).tolist())
        assert orders[-1] == np.concatenate(epoch_of(same)[0]).tolist()
        assert orders[-1] != np.concatenate(epoch_of(other)[0]).tolist()
        for batches in (first, same, other):
            batches.on_epoch_end()
    assert orders[0] != orders[1]


def test_fewer_samples_than_a_batch_are_one_batch():
    batches = training_batches(batch_size=64)
    assert [len(samples) for samples in epoch_of(batches)[0]] == [16]


def test_balanced_batches_hold_every_sample_and_the_classes_asked_for():
    batches = training_batches(**pairs(2, 2))
    epochs = []
    for _ in range(2):
        samples, labels = epoch_of(batches)
        for batch in labels:
            assert np.unique(batch, return_counts=True)[1].tolist() == [2, 2]
        epochs.append(np.concatenate(samples).tolist())
        assert set(epochs[-1]) == set(SAMPLES)
        batches.on_epoch_end()
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("labels", [LABELS[[0, 1, 7, 8]], LABELS[5:9]])
def test_a_balanced_batch_of_few_samples_repeats_them(labels):
    batches = training_batches(labels, **pairs(2, 4))
    assert len(batches) == 1
    (samples, _), found = batches[0]
    assert np.unique(found, return_counts=True)[1].tolist() == [4, 4]
    assert set(samples - 100) == set(range(len(labels)))


def test_ordered_batches_hold_every_sample_once_in_order():
    batches = OrderedBatches((SAMPLES, -SAMPLES), LABELS, batch_size=6)
    parts = [batches[index] for index in range(len(batches))]
    assert [len(labels) for _, labels in parts] == [6, 6, 4]
    for place, expected in enumerate((SAMPLES, -SAMPLES)):
        found = np.concatenate([inputs[place] for inputs, _ in parts])
        np.testing.assert_array_equal(found, expected)
    found = np.concatenate([labels for _, labels in parts])
    np.testing.assert_array_equal(found, LABELS)

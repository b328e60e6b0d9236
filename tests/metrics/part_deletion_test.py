"""The drop when a part is deleted, with a reader that looks at one part."""

import keras
import numpy as np
import pytest

from keras_finegrain.datasets.synthetic_birds.drawing import draw, part_masks
from keras_finegrain.datasets.synthetic_birds.species import (
    PARTS,
    species_table,
)
from keras_finegrain.metrics.part_deletion import (
    part_deletion_drops,
    single_deletion_correlation,
)
from keras_finegrain.metrics.part_scores import part_shares


def test_a_reader_of_tails_drops_with_the_tail_alone():
    # It knows the class where it sees the pixels of the tail, and guesses
    # between two classes where they have changed.
    table = species_table(6, 3)
    labels = np.arange(6) % 2
    photos = [draw(s, seed)[0] for seed, s in enumerate(table)]
    masks = np.stack([part_masks(s, seed) for seed, s in enumerate(table)])
    tail = list(PARTS).index("tail")

    def reads(image, index):
        seen = masks[index, tail]
        sure = np.array_equal(image[seen], photos[index][seen])
        return np.eye(2)[labels[index]] if sure else np.full(2, 0.5)

    whole = [reads(photo, index) for index, photo in enumerate(photos)]
    without = [
        [
            reads(draw(species, seed, without=(part,))[0], seed)
            for part in ("beak", "eye", "crown", "tail")
        ]
        for seed, species in enumerate(table)
    ]

    drops = part_deletion_drops(np.array(whole), np.array(without), labels)

    assert drops.shape == (6, 4)
    assert not drops[:, :3].any()
    visible = masks[:, tail].any(axis=(1, 2))
    assert visible.sum() >= 5
    np.testing.assert_array_equal(drops[:, 3], 0.5 * visible)


@pytest.mark.parametrize("logits", [[0.5, 3.0], [-1.0, 0.5]])
def test_logits_are_no_probabilities(logits):
    shares = np.array([[0.25, 0.75]])
    with pytest.raises(ValueError, match=r"probabilities must lie in \[0, 1\]"):
        part_deletion_drops(np.array([logits]), shares[:, None], [0])
    with pytest.raises(ValueError, match="probabilities_without must lie"):
        part_deletion_drops(shares, np.array([[logits]]), [0])


def test_a_class_that_is_found_more_easily_drops_below_zero():
    drops = part_deletion_drops(
        np.array([[0.25, 0.75]]), np.array([[[0.5, 0.5]]]), np.array([0])
    )

    np.testing.assert_array_equal(drops, [[-0.25]])


@pytest.mark.parametrize("seed", range(3))
def test_the_correlation_is_spearmans(seed):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    # Few different values: ties must share their rank.
    shares = rng.integers(0, 4, (20, 7)) / 4
    drops = rng.integers(0, 5, (20, 7)) / 5
    expected = [
        stats.spearmanr(*pair).statistic
        for pair in zip(shares, drops, strict=True)
    ]

    found = single_deletion_correlation(shares, drops)

    assert found == pytest.approx(np.mean(expected))


def test_images_without_an_order_are_left_out():
    shares = np.array([[0.1, 0.2, 0.3], [0.2, 0.2, 0.2], [0.1, 0.2, 0.3]])
    drops = np.array([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3], [0.0, 0.0, 0.0]])

    assert single_deletion_correlation(shares, drops) == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="received 2 images without"):
        single_deletion_correlation(shares[1:], drops[1:])


def test_takes_tensors_of_the_backend():
    masks = np.zeros((1, 2, 2, 2), bool)
    masks[0, 0, 0, 0] = masks[0, 1, 1, 1] = True
    heat_map = np.array([[[3.0, 0.0], [0.0, 1.0]]])
    whole = keras.ops.convert_to_tensor([[0.75, 0.25]])
    without = keras.ops.convert_to_tensor([[[0.25, 0.75], [0.5, 0.5]]])

    drops = part_deletion_drops(
        whole, without, keras.ops.convert_to_tensor([0])
    )

    np.testing.assert_allclose(drops, [[0.5, 0.25]])
    shares = part_shares(heat_map, masks)
    assert single_deletion_correlation(shares, drops) == pytest.approx(1.0)


WHOLE, WITHOUT = np.full((2, 3), 1 / 3), np.full((2, 7, 3), 1 / 3)
LABELS = np.array([0, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WHOLE, WITHOUT[:1], LABELS), r"shape \(2, parts, 3\).*\(1, 7, 3\)"),
        ((WHOLE, WITHOUT[..., :2], LABELS), r"received \(2, 7, 2\)"),
        ((9 * WHOLE, WITHOUT, LABELS), r"^part_deletion_drops: probabilities "),
        ((WHOLE, -WITHOUT, LABELS), "without must lie.*Take the softmax"),
        ((WHOLE, WITHOUT, LABELS[:1]), r"labels must .*received .*\(1,\)"),
        ((WHOLE, WITHOUT, LABELS * 1.0), "labels must .*received .*float64"),
        ((WHOLE, WITHOUT, LABELS + 1), r"in \[0, 3\).*from 1 to 3"),
    ],
)
def test_impossible_drops_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        part_deletion_drops(*arguments)


def test_shares_and_drops_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"received \(2, 3\) and \(2, 7\)"):
        single_deletion_correlation(np.ones((2, 3)), np.ones((2, 7)))

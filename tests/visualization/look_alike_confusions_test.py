"""The matrix must count rightly, and put look-alikes side by side."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.visualization.look_alike_confusions import (
    look_alike_confusions,
)
from tests.visualization.helpers import shown_classes

pytestmark = pytest.mark.one_backend


def written_counts(axis):
    """Counts in the cells, by true and predicted class."""
    classes = shown_classes(axis)
    counts = {}
    for text in axis.texts:
        column, row = text.get_position()
        if text.get_text() != "·":
            counts[classes[row], classes[column]] = int(text.get_text())
    return counts


def counted(labels, predictions, classes):
    pairs = list(zip(labels.tolist(), predictions.tolist(), strict=True))
    return {
        pair: pairs.count(pair) for pair in set(pairs) if {*pair} <= {*classes}
    }


def guesses(classes=12, samples=200, wrong=0.4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    other = rng.integers(0, classes, samples)
    return labels, np.where(rng.random(samples) < wrong, other, labels)


def test_cells_hold_the_counts_of_true_rows_and_predicted_columns():
    labels, predictions = guesses()

    axis = look_alike_confusions(labels, predictions)

    assert written_counts(axis) == counted(labels, predictions, range(12))
    columns = [text.get_text() for text in axis.get_xticklabels()]
    assert [int(text) for text in columns] == shown_classes(axis)
    assert axis.get_title().startswith("200 samples, ")
    assert (axis.get_xlabel(), axis.get_ylabel()) == (
        "predicted class",
        "true class",
    )


def test_cells_without_errors_have_a_dot():
    axis = look_alike_confusions([0, 0, 1, 1], [0, 0, 0, 1])

    assert {text.get_position(): text.get_text() for text in axis.texts} == {
        (0, 0): "2",
        (1, 0): "·",
        (0, 1): "1",
        (1, 1): "1",
    }


def test_colours_are_shares_of_the_class_and_the_diagonal_is_grey():
    labels, predictions = np.repeat([0, 1, 2], 50), np.repeat([0, 1, 2], 50)
    predictions[[0, 1, 2, 60]] = [1, 1, 1, 2]

    axis = look_alike_confusions(labels, predictions)

    errors, diagonal = (image.get_array() for image in axis.images)
    np.testing.assert_array_equal(errors.mask, errors.filled(0) == 0)
    np.testing.assert_allclose(sorted(errors.compressed()), [1 / 50, 3 / 50])
    # The same in every picture: one error is not the strongest colour.
    assert axis.images[0].get_clim() == (0, 1)
    np.testing.assert_array_equal(~np.ma.getmaskarray(diagonal), np.eye(3))
    assert axis.images[1].get_cmap().name == "gray"


def test_classes_that_are_confused_stand_side_by_side():
    # (0, 3), (1, 4) and (2, 5) are confused often, 3 and 1 once.
    labels = np.array([0] * 5 + [4] * 4 + [2] * 3 + [3])
    predictions = np.array([3] * 5 + [1] * 4 + [5] * 3 + [1])

    order = shown_classes(look_alike_confusions(labels, predictions))

    for one, other in ((0, 3), (1, 4), (2, 5), (3, 1)):
        assert abs(order.index(one) - order.index(other)) == 1


def test_both_directions_of_an_error_count_for_the_order_and_the_cut():
    # One pair by two errors in one direction, one by one in each.
    labels = np.array([1, 2, 3, 4, 5, 5, 7, 8])
    predictions = np.array([2, 3, 4, 4, 6, 6, 8, 7])

    axis = look_alike_confusions(labels, predictions, most=4)

    assert sorted(shown_classes(axis)) == [5, 6, 7, 8]


def test_no_error_of_the_worst_pairs_has_its_partner_outside():
    # 0 is confused with everyone once, and with nobody often.
    labels = np.concatenate([np.zeros(20, int), np.repeat([31, 33], 3)])
    predictions = np.concatenate([np.arange(1, 21), np.repeat([32, 34], 3)])

    axis = look_alike_confusions(labels, predictions, most=4)

    assert sorted(shown_classes(axis)) == [31, 32, 33, 34]


def test_the_title_counts_what_lies_outside_the_classes_shown():
    labels, predictions = guesses(classes=40, samples=900)

    axis = look_alike_confusions(labels, predictions)

    shown = shown_classes(axis)
    wrong = labels != predictions
    assert len(shown) == 25
    outside = ~(np.isin(labels, shown) & np.isin(predictions, shown))
    assert axis.get_title() == (
        f"900 samples, {wrong.sum()} errors\noutside these 25 of 40 classes: "
        f"{(outside & wrong).sum()} errors, {(outside & ~wrong).sum()} right"
    )
    assert written_counts(axis) == counted(labels, predictions, shown)


def test_classes_that_nobody_has_take_no_row():
    axis = look_alike_confusions(np.array([3, 190]), np.array([3, 7]))

    assert sorted(shown_classes(axis)) == [3, 7, 190]
    assert axis.get_title() == "2 samples, 1 error"


def test_without_errors_classes_stay_in_their_order():
    axis = look_alike_confusions(np.arange(6), np.arange(6))

    assert shown_classes(axis) == list(range(6))
    assert axis.images[0].get_array().mask.all()


def test_counts_can_be_read_on_light_and_on_dark_cells():
    labels = np.array([0] * 9 + [1] * 50)
    predictions = np.array([1] * 9 + [0] + [1] * 49)

    axis = look_alike_confusions(labels, predictions)

    colours = {text.get_text(): text.get_color() for text in axis.texts}
    assert colours["9"] == "white"
    assert colours["1"] == "black"


def test_names_follow_the_numbers_on_both_axes():
    names = ["fox_sparrow", "Song Sparrow"]

    axis = look_alike_confusions([0, 1], [1, 1], names)

    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        texts = [label.get_text() for label in labels]
        assert texts == ["0  fox sparrow", "1  Song Sparrow"]


def test_one_hot_rows_and_scores_count_as_their_classes():
    labels, predictions = guesses()
    rows = 0.7 * np.eye(12)[predictions] + 0.3 / 12

    axis = look_alike_confusions(np.eye(12)[labels], rows)

    assert written_counts(axis) == counted(labels, predictions, range(12))


def test_200_classes_have_every_number_and_no_illegible_counts():
    labels, predictions = guesses(classes=200, samples=3000)

    axis = look_alike_confusions(labels, predictions, most=200)

    assert sorted(shown_classes(axis)) == list(range(200))
    assert not axis.texts
    assert max(axis.figure.get_size_inches()) < 15


def test_takes_tensors_and_draws_into_a_given_axis():
    labels, predictions = guesses()
    axis = plt.subplots()[1]

    drawn = look_alike_confusions(
        keras.ops.convert_to_tensor(labels[:, None]),
        keras.ops.convert_to_tensor(predictions),
        ax=axis,
    )

    assert drawn is axis
    assert shown_classes(axis) != []
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"most": 1}, "most must be at least 2, received 1"),
        ({"most": 2.5}, "most must be an integer"),
        ({"predictions": np.arange(2)}, r"predictions .*the shape \(2,\)"),
        ({"predictions": 2 * np.eye(3)}, "one-hot predictions must name one"),
        ({"predictions": np.zeros(3)}, "predictions must be integers"),
        ({"labels": np.array([0, -1, 2])}, "labels must not be negative"),
        ({"class_names": ["a", "b"]}, "received 2 and a maximum of 2"),
        ({"labels": np.array([], int)}, r"labels .*received the shape \(0,\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    right = {"labels": np.arange(3), "predictions": np.arange(3)}

    with pytest.raises(
        ValueError, match=f"^look_alike_confusions: .*{message}"
    ):
        look_alike_confusions(**{**right, **arguments})

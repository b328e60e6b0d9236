"""Labels and centers must be read the same way by every picture."""

import keras
import numpy as np
import pytest

from keras_finegrain.visualization.checks import (
    class_centers,
    class_labels,
    class_name,
)

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    "form",
    [
        lambda labels: labels.tolist(),
        lambda labels: labels[:, None],
        lambda labels: np.eye(3)[labels],
        lambda labels: keras.ops.convert_to_tensor(labels, "int32"),
    ],
)
def test_every_form_of_labels_is_the_same_classes(form):
    labels = np.array([2, 0, 1, 1])

    found = class_labels("caller", form(labels), 4, ["a", "b", "c"])

    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"names must have the shape \(3,\)"),
        ([0, 1, -1], "names must not be negative, received a minimum of -1"),
        ([0, 1, 2], "class_names .* received 2 and a maximum of 2 in names"),
    ],
)
def test_labels_that_index_no_name_are_an_error(labels, message):
    with pytest.raises(ValueError, match=f"^caller: .*{message}"):
        class_labels("caller", labels, 3, ["a", "b"], "names")


def test_no_labels_are_an_error():
    with pytest.raises(ValueError, match="at least one sample"):
        class_labels("caller", np.array([], int), None, None)


def test_centers_get_an_axis_for_those_of_a_class():
    assert class_centers("caller", np.ones((4, 2)), 2).shape == (4, 1, 2)
    assert class_centers("caller", np.ones((4, 3, 2)), 2).shape == (4, 3, 2)


def test_a_name_stands_behind_its_number_without_underscores():
    assert class_name(1, ["jay", "fox_sparrow"]) == "1  fox sparrow"
    assert class_name(1, None) == "1"

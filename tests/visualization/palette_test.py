"""Classes must not share a look before the looks run out."""

import matplotlib.pyplot as plt
import pytest

from keras_finegrain.visualization import class_legend, class_styles

pytestmark = pytest.mark.one_backend


def test_196_classes_have_looks_of_their_own():
    assert len(set(class_styles(196))) == 196
    assert len(class_styles(250)) == 250


def test_a_legend_of_200_classes_takes_columns_and_lists_them_all():
    figure, axis = plt.subplots()
    for index in range(200):
        axis.scatter([0], [0], label=str(index))

    legend = class_legend(figure, axis, title="species")

    assert len(legend.get_texts()) == 200
    assert legend.get_title().get_text() == "species"
    assert legend._ncols == 4


def test_an_axis_without_labels_has_no_legend():
    assert class_legend(*plt.subplots()) is None


@pytest.mark.parametrize("count", [-1, 1.5, "3", None, True])
def test_a_number_of_classes_that_is_none_is_an_error(count):
    with pytest.raises(ValueError, match="class_styles: num_classes must"):
        class_styles(count)


def test_no_classes_have_no_styles():
    assert class_styles(0) == []

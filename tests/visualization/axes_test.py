"""A picture must go where it was asked for, or say what is missing."""

import sys

import matplotlib.pyplot as plt
import pytest

from keras_finegrain import visualization
from keras_finegrain.visualization.axes import axis_or_new

pytestmark = pytest.mark.one_backend


def test_a_given_axis_is_taken_and_a_new_figure_has_its_size():
    axis = plt.subplots()[1]

    assert axis_or_new(axis, (3, 2)) is axis
    new = axis_or_new(None, (3, 2))
    assert new.figure.get_size_inches().tolist() == [3, 2]


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)

    with pytest.raises(ImportError, match=r"\[command\]"):
        axis_or_new(None, (3, 2))


def test_completion_shows_functions_and_no_files():
    for name in dir(visualization):
        assert callable(getattr(visualization, name)), name
    assert "embedding_scatter" in dir(visualization)
    assert "photo" not in dir(visualization)

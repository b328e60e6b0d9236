"""The diagram must show the bins that are computed."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.metrics import (
    expected_calibration_error,
    reliability_bins,
)
from keras_finegrain.visualization import reliability_diagram

pytestmark = pytest.mark.one_backend

ROWS = np.random.default_rng(0).dirichlet([0.4] * 4, 200)
LABELS = np.random.default_rng(1).integers(4, size=200)


def test_bars_are_as_high_as_the_accuracy_of_the_bins_that_are_filled():
    found = reliability_bins(ROWS, LABELS, bins=8)
    filled = found.counts > 0

    axis = reliability_diagram(ROWS, LABELS, bins=8)

    bars = axis.containers[-1]
    np.testing.assert_allclose(
        [bar.get_height() for bar in bars], found.accuracy[filled]
    )
    np.testing.assert_allclose(
        axis.lines[-2].get_xdata(), found.confidence[filled]
    )
    error = expected_calibration_error(ROWS, LABELS, 8)
    assert f"{100 * error:.1f} %" in axis.get_title()


def test_a_bin_that_is_all_right_has_an_interval_below_1():
    axis = reliability_diagram(np.eye(2), [0, 1])

    (low, high) = axis.collections[0].get_segments()[0][:, 1]
    assert 0 < low < 1 == pytest.approx(high)


def test_draws_into_the_axis_that_it_is_given():
    axis = plt.figure().add_subplot()

    assert reliability_diagram(ROWS, LABELS, ax=axis) is axis


def test_errors_name_the_diagram():
    with pytest.raises(ValueError, match="reliability_diagram: probabilities"):
        reliability_diagram(ROWS * 2, LABELS)
    with pytest.raises(TypeError, match="ax must be"):
        reliability_diagram(ROWS, LABELS, ax="left")

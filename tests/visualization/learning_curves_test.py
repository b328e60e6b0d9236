"""The curves must show what the histories hold."""

import itertools

import keras
import numpy as np
import pytest
from matplotlib.text import Text

from keras_finegrain.visualization import learning_curves

pytestmark = pytest.mark.one_backend


def test_seeds_are_their_mean_within_a_band_from_lowest_to_highest():
    axis = learning_curves(
        {
            "softmax": [
                {"val_accuracy": [0.1, 0.5]},
                {"val_accuracy": [0.3, 0.7]},
            ]
        }
    )

    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.2, 0.6])
    band = axis.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [0.1, 0.7])


def test_takes_the_history_that_fit_returns():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    history = model.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0)

    axis = learning_curves({"dense": history}, metric="loss")

    np.testing.assert_allclose(
        axis.lines[0].get_ydata(), history.history["loss"]
    )
    assert [text.get_text() for text in axis.texts] == ["dense"]


def test_an_interrupted_seed_shortens_the_curve():
    axis = learning_curves({"mc": [{"loss": [3, 2, 1]}, {"loss": [3]}]}, "loss")

    assert len(axis.lines[0].get_ydata()) == 1


def test_a_method_without_the_metric_is_left_out():
    axis = learning_curves(
        {"softmax": {"loss": [1]}, "center": {"loss": [1], "center_loss": [2]}},
        metric="center_loss",
    )

    assert [line.get_label() for line in axis.lines] == ["center"]


def test_eight_methods_have_lines_of_their_own():
    axis = learning_curves({str(i): {"loss": [1, 2]} for i in range(8)}, "loss")

    looks = {(line.get_color(), line.get_linestyle()) for line in axis.lines}
    assert len(looks) == 8


def test_a_method_keeps_its_colour_in_another_order_and_selection():
    names = ["softmax", "center", "mc", "soft_triple"]
    histories = {name: {"loss": [1, 2]} for name in names}

    def colours(drawn):
        axis = learning_curves(
            {name: histories[name] for name in drawn}, "loss"
        )
        return {line.get_label(): line.get_color() for line in axis.lines}

    assert colours(names) == colours(names[::-1])


def test_names_at_the_ends_of_lines_that_meet_do_not_cover_each_other():
    axis = learning_curves(
        {f"soft_triple_{i}": {"loss": [i, 2 + 1e-3 * i]} for i in range(6)},
        "loss",
    )

    axis.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(
        low[1] <= high[0] + 4 for low, high in itertools.pairwise(heights)
    )
    assert {text.get_text() for text in axis.texts} == {
        f"soft triple {i}" for i in range(6)
    }


def test_a_metric_that_nobody_recorded_is_an_error():
    with pytest.raises(ValueError, match=r"'val_f1'.*\['loss'\]"):
        learning_curves({"softmax": {"loss": [1]}}, metric="val_f1")


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([0.1, 0.2], "histories must be a dict"),
        ({"softmax": 3}, "histories must hold what `fit` returns"),
        ({"softmax": [3]}, "histories must hold what `fit` returns"),
    ],
)
def test_what_is_no_history_is_named(histories, message):
    with pytest.raises(TypeError, match=f"learning_curves: {message}"):
        learning_curves(histories)

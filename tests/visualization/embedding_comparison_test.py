"""Each model's panel must show its own embeddings, classes looking alike."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from keras_finegrain.visualization.embedding_comparison import (
    embedding_comparison,
)

pytestmark = pytest.mark.one_backend

LABELS = np.repeat([0, 1, 2], 8)


def embeddings(dim=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(LABELS), dim)) + 20 * LABELS[:, None]


def drawn_points(axis):
    return np.concatenate([c.get_offsets() for c in axis.collections])


def test_each_panel_shows_its_own_model_under_its_name():
    first, second = embeddings(seed=0), 0.1 * embeddings(seed=1)

    axes = embedding_comparison({"softmax": first, "center": second}, LABELS)

    assert [axis.get_title() for axis in axes] == ["softmax", "center"]
    np.testing.assert_allclose(drawn_points(axes[0]), first)
    np.testing.assert_allclose(drawn_points(axes[1]), second)


def test_a_class_looks_the_same_in_all_panels():
    axes = embedding_comparison(
        {"a": embeddings(seed=0), "b": embeddings(dim=5)}, LABELS, method="pca"
    )

    first, second = (
        [
            (c.get_facecolor().tolist(), c.get_paths()[0].vertices.tolist())
            for c in axis.collections
        ]
        for axis in axes
    )
    assert first == second


def test_one_legend_serves_all_panels():
    axes = embedding_comparison(
        {"a": embeddings(), "b": embeddings()}, LABELS, ["ash", "elm", "oak"]
    )

    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "0  ash",
        "1  elm",
        "2  oak",
    ]
    assert all(axis.get_legend() is None for axis in axes)


def test_centers_stand_in_their_own_models_panel_only():
    centers = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])

    axes = embedding_comparison(
        {"softmax": embeddings(), "center": embeddings()},
        LABELS,
        centers={"center": centers},
    )

    # A class's points, then its stars.
    without, stars = (
        np.concatenate([c.get_offsets() for c in axis.collections[1::2]])
        for axis in axes
    )
    assert len(without) == 0
    np.testing.assert_allclose(stars, centers)


def test_only_an_embeddings_own_coordinates_have_numbers():
    axes = embedding_comparison(
        {"plane": embeddings(), "projected": embeddings(dim=4)}, LABELS
    )

    assert len(axes[0].get_xticks()) > 0
    assert len(axes[1].get_xticks()) == 0


def test_more_models_than_a_row_holds_leave_no_empty_panel():
    axes = embedding_comparison(
        {str(index): embeddings() for index in range(5)}, LABELS
    )

    assert len(axes) == 5
    assert axes[0].figure.axes == axes
    rows = {round(axis.get_subplotspec().rowspan.start) for axis in axes}
    assert rows == {0, 1, 2}


def test_given_axes_are_used_and_keep_their_figure_free_of_a_legend():
    figure, given = plt.subplots(1, 2)

    axes = embedding_comparison(
        {"a": embeddings(), "b": embeddings()}, LABELS, axes=given
    )

    assert axes == list(given)
    assert not figure.legends


@pytest.mark.parametrize("in_one_place", [2, 10, 60])
def test_numbers_of_classes_in_one_place_do_not_cover_each_other(in_one_place):
    places = np.append(np.linspace(0, 0.1, in_one_place), 50.0)

    (axis,) = embedding_comparison(
        {"a": np.stack([places, 0 * places], axis=-1)},
        np.arange(in_one_place + 1),
    )

    assert [text.get_text() for text in axis.texts] == [
        str(index) for index in range(in_one_place + 1)
    ]
    # A number that covers none stays at its place.
    np.testing.assert_allclose(axis.texts[-1].get_position(), 0, atol=0.1)
    boxes = [
        Text.get_window_extent(text).padded(-1.5)  # Without what is white.
        for text in axis.texts
    ]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_takes_tensors_of_the_backend():
    tensor = keras.ops.convert_to_tensor(embeddings(), "float32")

    (axis,) = embedding_comparison({"a": tensor}, LABELS)

    np.testing.assert_allclose(drawn_points(axis), embeddings(), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings_by_name": {}}, "at least one model"),
        (
            {"embeddings_by_name": {"good": np.ones((24, 2)), "bad": [[1.0]]}},
            r"model 'bad': labels must have the shape \(1,\)",
        ),
        ({"centers": {"centre": np.ones((3, 2))}}, r"received \['centre'\]"),
        ({"centers": {"a": np.ones((2, 2))}}, "model 'a': centers .* of 2"),
        ({"axes": []}, "axes must be one for each model, 1, received 0"),
        ({"method": "umap"}, "method must .* 'umap'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    given = {"embeddings_by_name": {"a": embeddings()}, "labels": LABELS}

    with pytest.raises(ValueError, match=f"embedding_comparison.*{message}"):
        embedding_comparison(**{**given, **arguments})

    assert not plt.get_fignums()

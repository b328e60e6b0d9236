"""The heat map must hold the distances, in an order that shows groups."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain.visualization.center_distances import center_distances
from tests.visualization.helpers import shown_classes, tick_texts

pytestmark = pytest.mark.one_backend


def drawn(axis):
    (image,) = axis.images
    return np.ma.filled(image.get_array(), np.nan)


def color_bar_of(axis):
    return axis.images[0].colorbar


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_cells_hold_the_nearest_centers_of_two_and_the_widest_of_one(distance):
    centers = np.random.default_rng(0).normal(size=(7, 3, 5))

    axis = center_distances(centers, distance=distance)

    classes = shown_classes(axis)
    vectors = centers
    if distance == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    for row, a in enumerate(classes):
        for column, b in enumerate(classes):
            pairs = np.linalg.norm(vectors[a][:, None] - vectors[b], axis=-1)
            if distance == "cosine":
                pairs = 1 - vectors[a] @ vectors[b].T
            expected = pairs.max() if a == b else pairs.min()
            assert drawn(axis)[row, column] == pytest.approx(expected)
    assert sorted(classes) == list(range(7))
    assert color_bar_of(axis).ax.get_ylabel() == f"{distance} distance"


def test_one_center_a_class_leaves_the_diagonal_blank():
    centers = np.random.default_rng(0).normal(size=(4, 5))

    axis = center_distances(centers)

    np.testing.assert_array_equal(np.isnan(drawn(axis)), np.eye(4))
    assert color_bar_of(axis).extend == "neither"


def test_near_classes_stand_together():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(5), 4))
    centers = 10 * np.eye(5)[groups] + rng.normal(size=(20, 5))

    order = shown_classes(center_distances(centers, distance="euclidean"))

    changes = np.sum(groups[order][1:] != groups[order][:-1])
    assert changes == 4


def test_a_wide_class_does_not_take_the_colours_from_the_others():
    near = np.array([[[1.0, 0.0]] * 2, [[1.0, 0.1]] * 2, [[1.0, 0.2]] * 2])
    near[0, 1] = [-1.0, 0.0]

    axis = center_distances(near, distance="euclidean")

    classes = shown_classes(axis)
    assert drawn(axis)[classes.index(0), classes.index(0)] == 2
    np.testing.assert_allclose(axis.images[0].get_clim(), (0.1, 0.2))
    # A spread of 2 lies above the colours, one of 0 below.
    assert color_bar_of(axis).extend == "both"


def test_the_most_are_those_nearest_to_another_class():
    centers = np.array([[0.0], [100.0], [51.0], [1.0], [50.0], [200.0]])

    axis = center_distances(centers, distance="euclidean", most=4)

    assert sorted(shown_classes(axis)) == [0, 2, 3, 4]
    assert "4 of 6 classes" in axis.get_title()


def test_of_200_classes_the_30_with_neighbours_are_drawn_by_name():
    centers = np.random.default_rng(0).normal(size=(200, 3))

    axis = center_distances(centers, [f"species_{i}" for i in range(200)])

    assert len(shown_classes(axis)) == 30
    assert "species" in axis.get_yticklabels()[0].get_text()
    assert "30 of 200 classes" in axis.get_title()


def test_lengths_do_not_matter_to_cosine_but_to_euclidean():
    centers = np.random.default_rng(0).normal(size=(4, 2, 5))
    longer = centers * np.arange(1, 9).reshape(4, 2, 1)

    same, other = (
        [drawn(center_distances(c, distance=d)) for c in (centers, longer)]
        for d in ("cosine", "euclidean")
    )

    np.testing.assert_allclose(*same)
    assert other[1].max() > 2 * other[0].max()


def test_30_classes_bear_names_and_31_numbers():
    centers = np.random.default_rng(0).normal(size=(31, 5))
    names = [f"species_{index}" for index in range(31)]

    few = center_distances(centers[:30], names)
    many = center_distances(centers, names, most=31)

    assert sorted(tick_texts(few).values()) == sorted(
        f"{index}  species {index}" for index in range(30)
    )
    assert sorted(tick_texts(many).values(), key=int) == [
        str(index) for index in range(31)
    ]


@pytest.mark.parametrize("classes", [30, 60, 61, 200, 250, 600])
def test_no_two_ticks_overlap(classes):
    centers = np.random.default_rng(0).normal(size=(classes, 8))
    names = [f"black_throated_warbler_{index}" for index in range(classes)]

    axis = center_distances(centers, names, most=classes)

    axis.figure.draw_without_rendering()
    assert len(tick_texts(axis)) == (200 if classes == 600 else classes)
    for ticks in (axis.xaxis, axis.yaxis):
        boxes = [
            label.get_window_extent()
            for minor in (False, True)
            for label in ticks.get_ticklabels(minor=minor)
        ]
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[index + 1 :])
    assert max(axis.figure.get_size_inches()) < 15


def test_takes_the_centers_of_a_layer_and_a_given_axis():
    layer = keras_finegrain.CosineSimilarity(5, centers_per_class=2)
    layer.build((None, 3))
    axis = plt.subplots()[1]

    assert center_distances(layer.centers, ax=axis) is axis
    assert drawn(axis).shape == (5, 5)
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"centers": np.ones(3)}, r"centers must have .*received \(3,\)"),
        ({"centers": np.ones((1, 3))}, "at least two classes"),
        ({"centers": np.full((3, 2), np.inf)}, "centers must be finite"),
        ({"class_names": ["a", "b"]}, "received 2 for 3 classes"),
        ({"distance": "manhattan"}, "received 'manhattan'"),
        ({"most": 1}, "most must be at least 2, received 1"),
        ({"most": "all"}, "most must be an integer"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^center_distances: .*{message}"):
        center_distances(**{"centers": np.eye(3), **arguments})

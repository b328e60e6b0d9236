"""The scatter must show every sample, class and center where it lies."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.visualization import embedding_scatter

pytestmark = pytest.mark.one_backend


def two_groups(dim=5, per_class=12):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], per_class)
    return rng.normal(size=(2 * per_class, dim)) + 20 * labels[:, None], labels


def drawn_points(axis):
    return np.concatenate([c.get_offsets() for c in axis.collections])


def test_two_dimensions_are_drawn_as_they_are():
    embeddings, labels = two_groups(dim=2)

    axis = embedding_scatter(embeddings, labels)

    np.testing.assert_allclose(drawn_points(axis), embeddings)


@pytest.mark.parametrize("method", ["auto", "pca", "tsne"])
def test_classes_that_are_apart_stay_apart_in_the_plane(method):
    embeddings, labels = two_groups()

    axis = embedding_scatter(embeddings, labels, method=method)

    points = drawn_points(axis)
    means = [points[labels == index].mean(axis=0) for index in (0, 1)]
    spread = max(points[labels == index].std() for index in (0, 1))
    assert np.linalg.norm(means[0] - means[1]) > spread


def test_the_same_seed_draws_the_same_picture():
    embeddings, labels = two_groups()

    first, second = (
        drawn_points(embedding_scatter(embeddings, labels, seed=3))
        for _ in range(2)
    )

    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3, 2)])
def test_centers_are_stars_at_their_own_place(shape):
    embeddings, labels = two_groups(dim=2)
    centers = np.random.default_rng(1).normal(size=shape)

    axis = embedding_scatter(embeddings, labels, centers=centers)

    # A class's points, then its stars.
    stars = np.concatenate(
        [collection.get_offsets() for collection in axis.collections[1::2]]
    )
    np.testing.assert_allclose(stars, centers.reshape(-1, 2))


def test_one_hot_labels_are_their_classes():
    embeddings, labels = two_groups(dim=2)

    axis = embedding_scatter(embeddings, np.eye(2)[labels])

    np.testing.assert_allclose(drawn_points(axis), embeddings)
    assert [text.get_text() for text in axis.texts] == ["0", "1"]


def test_numbers_name_the_classes_and_the_legend_spells_them_out():
    embeddings, labels = two_groups(dim=2)

    axis = embedding_scatter(embeddings, labels, ["Song Sparrow", "Junco"])

    assert [text.get_text() for text in axis.texts] == ["0", "1"]
    legend = axis.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        "0  Song Sparrow",
        "1  Junco",
    ]


def test_a_given_axis_is_used_and_keeps_its_figure_free_of_a_legend():
    figure, axis = plt.subplots()

    assert embedding_scatter(*two_groups(dim=2), ax=axis) is axis
    assert not figure.legends


def test_200_classes_are_all_drawn():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(200), 2)

    axis = embedding_scatter(rng.normal(size=(400, 2)), labels)

    assert len(axis.texts) == 200
    assert len(drawn_points(axis)) == 400


def test_takes_tensors_of_the_backend_and_one_dimension():
    embeddings, labels = two_groups(dim=1)

    axis = embedding_scatter(
        keras.ops.convert_to_tensor(embeddings, "float32"),
        keras.ops.convert_to_tensor(labels, "int32"),
        method="pca",
    )

    assert drawn_points(axis).shape == (24, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "umap"}, "received 'umap'"),
        ({"method": "none"}, "2 dimensions, received 5"),
        ({"class_names": ["one"]}, "received 1 and a maximum of 1"),
        ({"centers": np.zeros((1, 5))}, "received 1 and a maximum of 1"),
        ({"centers": np.zeros((2, 4))}, "dim of 5, received 4"),
        ({"centers": np.full((2, 5), np.nan)}, "centers must be finite"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        embedding_scatter(*two_groups(), **arguments)


def test_negative_labels_are_an_error():
    with pytest.raises(ValueError, match="minimum of -1"):
        embedding_scatter(np.ones((2, 2)), np.array([-1, 0]))


@pytest.mark.parametrize(
    "embeddings",
    [
        np.ones((12, 4)),
        # Equal but for rounding in the network's float32.
        1 + 1e-8 * np.random.default_rng(0).random((12, 4)),
        np.zeros((12, 4)),
        np.repeat(np.eye(2, 4), 6, axis=0),
        1e-30 * np.random.default_rng(0).random((12, 4)),
        1e30 * np.random.default_rng(0).random((12, 4)),
        np.ones((1, 4)),
        np.arange(5.0)[:, None],
    ],
    ids=[
        *("equal", "nearly equal", "zero", "two points", "tiny", "huge"),
        *("one sample", "one dim"),
    ],
)
def test_every_set_of_finite_embeddings_is_drawn(embeddings):
    """scikit-learn ends the process where all are equal."""
    labels = np.arange(len(embeddings)) % 3
    axis = embedding_scatter(embeddings, labels, method="tsne")
    points = np.concatenate([c.get_offsets() for c in axis.collections])
    assert len(points) == len(embeddings)
    assert np.isfinite(points).all()


def test_equal_embeddings_are_one_point():
    axis = embedding_scatter(np.ones((12, 4)), np.arange(12) % 3)
    points = np.concatenate([c.get_offsets() for c in axis.collections])
    assert np.ptp(points) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be an integer in"),
        ({"seed": "a"}, "seed must be an integer in"),
        ({"seed": True}, "seed must be an integer in"),
        ({"class_names": "abc"}, "class_names must be a list of strings"),
        ({"class_names": 3}, "class_names must be a list of strings"),
        ({"centers": "abc"}, "centers must be an array"),
        ({"centers": [[1, 2], [3]]}, "centers must be an array"),
    ],
)
def test_values_of_the_wrong_type_are_named(arguments, message):
    given = {"embeddings": np.eye(4), "labels": np.arange(4) % 3}
    with pytest.raises(ValueError, match=f"^embedding_scatter: {message}"):
        embedding_scatter(**given, method="tsne", **arguments)


def test_an_axis_that_is_none_is_an_error():
    with pytest.raises(TypeError, match="ax must be a matplotlib axis"):
        embedding_scatter(np.eye(2), np.arange(2), ax="left")

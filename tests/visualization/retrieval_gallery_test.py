"""The gallery must show the nearest, and who is right, to every eye."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.visualization.palette import COLORS
from keras_finegrain.visualization.retrieval_gallery import retrieval_gallery
from tests.visualization.helpers import plain_photos

pytestmark = pytest.mark.one_backend


def birds(count=40, classes=5, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return (
        plain_photos(count),
        rng.normal(size=(count, dim)),
        rng.integers(0, classes, count),
    )


def photo_at(axis, x, y):
    """Which plain photo lies at a point of the sheet."""
    picture = np.asarray(axis.images[0].get_array())
    _, _, height, _ = axis.images[0].get_extent()
    scale = picture.shape[0] / height
    red, green, blue = picture[int(y * scale), int(x * scale)].tolist()
    assert (green, blue) == (100, 200)
    return red


def neighbours_in_rows(axis, rows):
    centers = [frame.get_center() for frame in axis.patches]
    shown = [photo_at(axis, *center) for center in centers]
    return np.array(shown).reshape(rows, -1)


def queries_shown(axis, rows):
    (heading,) = [t for t in axis.texts if t.get_text() == "query"]
    frames = axis.patches[:: len(axis.patches) // rows]
    return [
        photo_at(axis, heading.get_position()[0], frame.get_center()[1])
        for frame in frames
    ]


def is_right(frame):
    colour = plt.matplotlib.colors.to_hex(frame.get_edgecolor()).upper()
    solid = frame.get_linestyle() == "solid"
    # Colour and line must say the same.
    assert (colour, solid) in ((COLORS[2], True), (COLORS[3], False))
    return solid


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_neighbours_are_the_nearest_without_the_query_itself(distance):
    photos, embeddings, labels = birds()
    queries = [3, 17, 0]

    axis = retrieval_gallery(
        photos, embeddings, labels, queries, neighbours=7, distance=distance
    )

    vectors = embeddings
    if distance == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = np.linalg.norm(vectors[queries][:, None] - vectors, axis=-1)
    expected = np.argsort(distances, axis=1)[:, 1:8]
    np.testing.assert_array_equal(neighbours_in_rows(axis, 3), expected)
    assert queries_shown(axis, 3) == queries
    np.testing.assert_array_equal(
        [is_right(frame) for frame in axis.patches],
        (labels[expected] == labels[queries][:, None]).reshape(-1),
    )


def test_a_gallery_of_its_own_is_searched_whole():
    photos, embeddings, labels = birds()
    found, searched = slice(0, 5), slice(5, 40)

    axis = retrieval_gallery(
        photos[found],
        embeddings[found],
        labels[found],
        [2],
        neighbours=3,
        gallery_images=list(photos[searched]),
        # The second query lies in the gallery too, and is found.
        gallery_embeddings=np.concatenate([embeddings[5:39], embeddings[[2]]]),
        gallery_labels=np.append(labels[5:39], labels[2]),
    )

    assert queries_shown(axis, 1) == [2]
    assert neighbours_in_rows(axis, 1)[0, 0] == 39
    assert is_right(axis.patches[0])


def test_labels_of_query_and_gallery_mean_the_same_class():
    axis = retrieval_gallery(
        plain_photos(2),
        np.eye(2),
        np.array([4, 9]),
        [0, 1],
        neighbours=2,
        gallery_images=plain_photos(2),
        gallery_embeddings=np.eye(2),
        gallery_labels=np.array([9, 7]),
    )

    # Numbered anew, each set by itself, 4 and 7, or 4 and 9, would be one.
    assert [is_right(frame) for frame in axis.patches] == [
        *(False, False),
        *(False, True),
    ]


def test_names_stand_under_neighbours_and_beside_queries():
    photos, embeddings, labels = birds(classes=2)
    names = ["fox_sparrow", "Song Sparrow"]

    axis = retrieval_gallery(
        photos, embeddings, labels, [5], names, neighbours=4
    )

    titles = ["0  fox sparrow", "1  Song Sparrow"]
    texts = [text.get_text() for text in axis.texts]
    assert texts[:5] == ["query", "nearest", "2", "3", "4"]
    shown = [5, *neighbours_in_rows(axis, 1)[0]]
    assert texts[5:] == [titles[label] for label in labels[shown]]
    for text, frame in zip(axis.texts[6:], axis.patches, strict=True):
        assert text.get_position()[0] == pytest.approx(frame.get_center()[0])
        assert text.get_position()[1] > frame.get_y() + frame.get_height()


def test_no_text_meets_a_photo_or_another_text():
    photos, embeddings, labels = birds(classes=2)
    names = ["black_throated_blue_warbler_of_the_islands", "jay"]

    axis = retrieval_gallery(photos, embeddings, labels, class_names=names)

    axis.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts]
    boxes += [frame.get_window_extent() for frame in axis.patches]
    pairs = [
        (one, other)
        for one in range(len(axis.texts))
        for other in range(one + 1, len(boxes))
        if boxes[one].overlaps(boxes[other])
    ]
    assert pairs == []


def test_queries_are_by_default_spread_over_the_classes():
    photos, embeddings, _ = birds(count=24)
    labels = np.tile([4, 0, 5, 2, 1, 3], 4)

    axis = retrieval_gallery(photos, embeddings, labels)

    assert labels[queries_shown(axis, 6)].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_small_set_shows_all_the_neighbours_that_it_has():
    photos, embeddings, _ = birds(count=3)

    axis = retrieval_gallery(photos, embeddings, np.array([0, 0, 1]))

    assert neighbours_in_rows(axis, 3).shape == (3, 2)


def test_among_equally_near_ones_the_first_comes_first():
    axis = retrieval_gallery(
        plain_photos(5), np.ones((5, 2)), np.array([0, 0, 1, 1, 1]), [2]
    )

    assert neighbours_in_rows(axis, 1).tolist() == [[0, 1, 3, 4]]


def test_takes_tensors_and_draws_into_a_given_axis():
    photos, embeddings, labels = birds()
    axis = plt.subplots()[1]

    drawn = retrieval_gallery(
        keras.ops.convert_to_tensor(photos),
        keras.ops.convert_to_tensor(embeddings, "float32"),
        keras.ops.convert_to_tensor(labels),
        keras.ops.convert_to_tensor([1, 2]),
        ax=axis,
    )

    assert drawn is axis
    assert queries_shown(axis, 2) == [1, 2]
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neighbours": 0}, "neighbours must be an integer"),
        ({"distance": "manhattan"}, "received 'manhattan'"),
        ({"queries": [40]}, r"in \[0, 40\), received 40"),
        ({"queries": [-1]}, "received -1"),
        ({"queries": []}, r"received \[\]"),
        ({"queries": [0.5]}, r"received \[0.5\]"),
        (
            {"images": plain_photos(39)},
            r"\(39,\).*received the shape \(40,\)",
        ),
        ({"class_names": ["one"]}, "received 1 and a maximum of 4"),
        ({"gallery_images": plain_photos(2)}, "no gallery_embeddings"),
        (
            {"gallery_embeddings": np.eye(3), "gallery_labels": np.arange(3)},
            "no gallery_images",
        ),
        (
            {
                "gallery_images": plain_photos(2),
                "gallery_embeddings": np.eye(3),
                "gallery_labels": np.arange(3),
            },
            r"gallery_labels must have the shape \(2,\)",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    photos, embeddings, labels = birds()
    right = {"images": photos, "embeddings": embeddings, "labels": labels}

    with pytest.raises(ValueError, match=f"^retrieval_gallery: .*{message}"):
        retrieval_gallery(**{**right, **arguments})

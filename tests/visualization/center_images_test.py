"""Each center must be shown with its own photos, count and mergers."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain.visualization.center_images import (
    center_images,
)
from keras_finegrain.visualization.photo_sheet import PITCH
from tests.visualization.helpers import plain_photos

pytestmark = pytest.mark.one_backend


def two_classes(per_class=6):
    """Class 0 lies around two directions, class 1 around one."""
    angles = [0.0, 0.1, 0.2, 1.5, 1.6, 1.8, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5]
    lengths = np.linspace(1, 30, 12)[:, None]
    embeddings = lengths * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return embeddings, np.repeat([0, 1], per_class), plain_photos(12)


def directions(*angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def captions(axis):
    return [text for text in axis.texts if text.get_text().startswith("center")]


def photos_in_rows(axis, per_center):
    """Which plain photo stands where beside each caption, -1 if none."""
    picture = np.asarray(axis.images[0].get_array())
    _, width, height, _ = axis.images[0].get_extent()
    scale = picture.shape[0] / height
    shown = []
    for text in captions(axis):
        row = int(text.get_position()[1] * scale)
        lefts = width - PITCH * np.arange(per_center, 0, -1)
        pixels = picture[row, ((lefts + 0.5) * scale).astype(int)].astype(int)
        shown.append([r if g == 100 else -1 for r, g, _ in pixels.tolist()])
    return shown


def test_photos_are_the_nearest_of_the_class_by_angle_alone():
    embeddings, labels, photos = two_classes()
    centers = np.stack([directions(0.12, 1.58), 9 * directions(3.5, 0.0)])

    axis = center_images(
        centers, embeddings, labels, photos, images_per_center=3
    )

    assert photos_in_rows(axis, 3) == [
        *([1, 2, 0], [4, 3, 5]),
        # Photo 0 is nearest to the last center, but of the other class.
        *([11, 10, 9], [11, 10, 9]),
    ]


def test_rows_say_how_many_of_the_class_the_center_is_nearest_to():
    embeddings, labels, photos = two_classes()
    centers = np.stack([directions(0.0, 1.4), directions(3.25, -2.6)])

    axis = center_images(centers, embeddings, labels, photos)

    assert [text.get_text() for text in captions(axis)] == [
        "center 0\nnearest to 3 of 6",
        "center 1\nnearest to 3 of 6",
        "center 0\nnearest to 5 of 6",
        "center 1\nnearest to 1 of 6",
    ]


def test_merged_centers_are_marked_in_words_and_colour():
    embeddings, labels, photos = two_classes()
    # 0 and 2 of the second class are joined by 3 only.
    centers = np.stack(
        [directions(0.0, 1.0, 2.0, 0.05), directions(0.0, 1.0, 0.18, 0.09)]
    )

    axis = center_images(centers, embeddings, labels, photos)

    rows = captions(axis)
    merged = [text.get_text().split("\n")[2:] for text in rows]
    mark = ["merged with center 0"]
    assert merged == [[], [], [], mark, [], [], mark, mark]
    colours = [text.get_color() for text in rows]
    assert [colour != "black" for colour in colours] == [
        bool(words) for words in merged
    ]


def test_one_center_a_class_may_come_without_an_axis_for_it():
    embeddings, labels, photos = two_classes()
    centers = directions(0.0, 3.5)

    axis = center_images(
        centers, embeddings, labels, photos, images_per_center=2
    )

    assert photos_in_rows(axis, 2) == [[0, 1], [11, 10]]


def test_chosen_classes_come_in_the_chosen_order_with_their_names():
    embeddings, labels, photos = two_classes()

    axis = center_images(
        directions(0.0, 3.5),
        embeddings,
        labels,
        photos,
        ["Fox Sparrow", "Song Sparrow"],
        classes=[1, 0],
    )

    names = [text.get_text() for text in axis.texts if "Spa" in text.get_text()]
    assert names == ["1  Song Sparrow", "0  Fox Sparrow"]
    assert [row[0] for row in photos_in_rows(axis, 5)] == [11, 0]


def test_200_classes_are_cut_to_25_rows_and_the_heading_says_so():
    rng = np.random.default_rng(0)

    axis = center_images(
        rng.normal(size=(200, 3, 4)),
        rng.normal(size=(200, 4)),
        rng.permutation(200),
        plain_photos(200 % 156)[rng.integers(0, 44, 200)],
    )

    assert axis.texts[0].get_text() == "the first 8 of 200 classes"
    assert len(captions(axis)) == 24


def test_no_text_meets_a_photo_or_another_text():
    embeddings, labels, photos = two_classes()
    names = ["black_throated_blue_warbler_of_the_islands" * 2, "jay"]
    centers = np.ones((2, 12, 2))

    axis = center_images(centers, embeddings, labels, photos, names)

    axis.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
    first_photo = axis.images[0].get_extent()[1] - 5 * PITCH
    edge = axis.transData.transform((first_photo, 0))[0]
    assert max(box.x1 for box in boxes) < edge


def test_takes_the_centers_of_a_layer_and_a_given_axis():
    embeddings, labels, photos = two_classes()
    layer = keras_finegrain.SoftTriple(2, centers_per_class=2)
    layer.build((None, 2))
    axis = plt.subplots()[1]

    drawn = center_images(
        layer.centers,
        keras.ops.convert_to_tensor(embeddings, "float32"),
        keras.ops.convert_to_tensor(labels),
        keras.ops.convert_to_tensor(photos),
        ax=axis,
    )

    assert drawn is axis
    assert len(captions(axis)) == 4
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images_per_center": 0}, "images_per_center must be an integer"),
        ({"centers": np.ones(2)}, r"centers must .*received \(2,\)"),
        ({"centers": np.ones((2, 3))}, "dim of 2, received 3"),
        ({"centers": np.ones((1, 2))}, "received 1 and a maximum of 1"),
        ({"centers": np.full((2, 2), np.nan)}, "centers must be finite"),
        ({"classes": [5]}, r"received \[5\] without"),
        ({"classes": []}, r"received \[\]"),
        (
            {"images": plain_photos(3)},
            r"shape \(3,\).*received the shape \(12,\)",
        ),
        ({"class_names": ["one"]}, "received 1 and a maximum of 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    embeddings, labels, photos = two_classes()
    right = {
        "centers": directions(0.0, 3.5),
        "embeddings": embeddings,
        "labels": labels,
        "images": photos,
    }

    with pytest.raises(ValueError, match=f"^center_images: .*{message}"):
        center_images(**{**right, **arguments})

"""The grid must show the right photos in the right rows, and be legible."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.visualization.class_grid import class_grid
from keras_finegrain.visualization.photo_sheet import PITCH, PIXELS
from tests.visualization.helpers import plain_photos

pytestmark = pytest.mark.one_backend


def canvas(axis):
    (image,) = axis.images
    return np.asarray(image.get_array())


def photos_in_rows(axis, rows, per_class):
    """Red of each place's middle in a grid of one column, -1 if blank."""
    picture = canvas(axis)
    _, width, height, _ = axis.images[0].get_extent()
    scale = picture.shape[0] / height
    shown = np.full((rows, per_class), -1)
    for row in range(rows):
        for order in range(per_class):
            left = width - (per_class - order) * PITCH
            pixel = picture[
                int((row * PITCH + 0.5) * scale), int((left + 0.5) * scale)
            ]
            if pixel.tolist() != [255, 255, 255]:
                assert pixel[1:].tolist() == [100, 200]
                shown[row, order] = pixel[0]
    return shown.tolist()


def boxes_of_texts(axis):
    """Each text's box in the unit of the sheet: left, top, right, bottom."""
    axis.figure.draw_without_rendering()
    to_sheet = axis.transData.inverted()
    boxes = [text.get_window_extent() for text in axis.texts]
    corners = [to_sheet.transform(box.get_points()) for box in boxes]
    return np.array([(a[0], b[1], b[0], a[1]) for a, b in corners])


def test_a_row_shows_its_classs_first_photos_in_their_order():
    labels = np.array([1, 0, 1, 1, 0, 1])

    axis = class_grid(plain_photos(6), labels, images_per_class=3)

    assert photos_in_rows(axis, 2, 3) == [[1, 4, -1], [0, 2, 3]]
    assert [text.get_text() for text in axis.texts] == ["0", "1"]


def test_no_column_is_kept_for_photos_that_no_class_has():
    labels = np.array([0, 0, 1])

    axis = class_grid(plain_photos(3), labels, images_per_class=10)

    assert photos_in_rows(axis, 2, 2) == [[0, 1], [2, -1]]
    width = axis.images[0].get_extent()[1]
    assert 2 * PITCH < width < 3 * PITCH


@pytest.mark.parametrize("shape", [(40, 120), (120, 40)])
def test_the_middle_is_shown_and_the_ends_are_cropped(shape):
    photo = np.full((*shape, 3), [255, 0, 0], "uint8")
    long_axis = int(np.argmax(shape))
    np.moveaxis(photo, long_axis, 0)[40:80] = [0, 0, 255]

    axis = class_grid([photo], [0])

    red, green, blue = canvas(axis).reshape(-1, 3).T
    photo = green < 255
    assert photo.sum() == PIXELS**2
    # Enlarging mixes the outermost pixels with what was cropped, by less
    # than half.
    assert (blue[photo] > red[photo]).all()
    assert np.mean(red[photo] == 0) > 0.9


def test_list_array_tensor_and_floats_give_the_same_picture():
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (3, 5, 7, 3)).astype("uint8")
    labels = np.array([0, 1, 0])

    expected = canvas(class_grid(photos, labels))

    for same in (
        list(photos),
        keras.ops.convert_to_tensor(photos),
        [keras.ops.convert_to_tensor(photo) for photo in photos],
        photos.astype("float32"),
        photos.astype("float32") / 255,
    ):
        np.testing.assert_array_equal(
            canvas(class_grid(same, keras.ops.convert_to_tensor(labels))),
            expected,
        )


def test_grey_photos_are_shown_in_grey():
    photos = np.full((2, 4, 4, 1), 90, "uint8")

    shown = canvas(class_grid(photos, [0, 0]))

    assert np.unique(shown.reshape(-1, 3), axis=0).tolist() == [
        [90, 90, 90],
        [255, 255, 255],
    ]


def test_classes_that_do_not_occur_take_no_row():
    axis = class_grid(plain_photos(2), np.array([[7], [3]]))

    assert [text.get_text() for text in axis.texts] == ["3", "7"]
    assert photos_in_rows(axis, 2, 1) == [[1], [0]]


def test_names_stand_beside_their_own_row_and_never_over_a_photo():
    # What matplotlib would take for a formula is a name too.
    names = [r"$\frac$", "white_throated_sparrow", "A name of many words " * 5]

    axis = class_grid(plain_photos(3), np.arange(3), names)

    left_of_photos = axis.images[0].get_extent()[1] - PITCH
    assert axis.texts[1].get_text() == "1  white throated\nsparrow"
    assert axis.texts[2].get_text().endswith("…")
    for row, (left, top, right, bottom) in enumerate(boxes_of_texts(axis)):
        assert left >= -0.01
        assert right < left_of_photos
        assert row * PITCH - 0.05 < top < bottom < row * PITCH + 1.05


def test_200_classes_are_one_image_no_taller_than_a_page_with_every_name():
    names = [f"a_long_tailed_warbler_number_{index}" for index in range(200)]
    labels = np.repeat(np.arange(200), 4)
    photos = np.tile(plain_photos(100), (8, 1, 1, 1))

    axis = class_grid(photos, labels, names, images_per_class=4)

    # `canvas` asks for exactly one image.
    mask = np.any(canvas(axis) != 255, axis=-1)
    width, height = axis.figure.get_size_inches()
    assert height <= 1.42 * width
    boxes = boxes_of_texts(axis)
    assert len(boxes) == 200
    scale = mask.shape[0] / axis.images[0].get_extent()[2]
    for left, top, right, bottom in np.maximum(boxes * scale, 0).astype(int):
        assert not mask[top:bottom, left:right].any()
    assert axis.texts[0].get_fontsize() > 5


def test_a_given_axis_is_used_and_its_text_shrinks_with_it():
    _, (small, other) = plt.subplots(1, 2, figsize=(4, 2))
    labels = np.arange(4)

    assert class_grid(plain_photos(4), labels, ax=small) is small
    own = class_grid(plain_photos(4), labels)

    assert not other.images
    assert len(plt.get_fignums()) == 2
    assert small.texts[0].get_fontsize() < own.texts[0].get_fontsize()
    own_box, small_box = boxes_of_texts(own)[0], boxes_of_texts(small)[0]
    np.testing.assert_allclose(small_box, own_box, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images_per_class": 0}, "images_per_class must be an integer"),
        ({"labels": np.arange(3)}, r"shape \(2,\).*received the shape \(3,\)"),
        ({"labels": np.ones((2, 2))}, "one-hot labels must name one class"),
        (
            {"labels": np.zeros(2)},
            "integers or one-hot, received dtype float64",
        ),
        ({"labels": np.array([0, -1])}, "minimum of -1"),
        ({"class_names": ["one"]}, "received 1 and a maximum of 1"),
        ({"images": [], "labels": []}, "received"),
        ({"images": np.zeros((2, 4, 4, 4))}, r"received \(4, 4, 4\)"),
        ({"images": np.zeros((2, 0, 4, 3))}, r"received \(0, 4, 3\)"),
        ({"images": np.full((2, 4, 4, 3), -1.0)}, "from -1 to -1"),
        ({"images": np.full((2, 4, 4, 3), np.nan)}, r"lie in \[0, 255\]"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    right = {"images": plain_photos(2), "labels": np.arange(2)}

    with pytest.raises(ValueError, match=f"^class_grid: .*{message}"):
        class_grid(**{**right, **arguments})

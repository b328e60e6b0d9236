"""A part must be marked where it is, and its name be legible."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_finegrain.datasets.synthetic_birds import (
    PartPoint,
    draw,
    species_table,
)
from keras_finegrain.visualization.parts import draw_parts


def draw_on(parts, height=20, width=40, **kwargs):
    ax = plt.subplots()[1]
    ax.imshow(np.zeros((height, width, 3)))
    draw_parts("caller", ax, parts, (height, width), **kwargs)
    return ax


def test_marks_lie_at_their_places_in_pixels():
    ax = draw_on({"corner": (0, 0), "middle": (0.5, 0.5), "end": (1, 1)})

    # An image of 40 by 20 pixels reaches from -0.5 to 39.5 and 19.5.
    np.testing.assert_allclose(
        ax.lines[0].get_xydata(), [(-0.5, -0.5), (19.5, 9.5), (39.5, 19.5)]
    )


def test_each_name_is_tied_to_its_own_place():
    parts = {"tail": (0.1, 0.9), "beak": (0.9, 0.2), "eye": (0.8, 0.1)}

    ax = draw_on(parts, height=100, width=100)

    assert {text.get_text(): tuple(text.xy) for text in ax.texts} == {
        name: pytest.approx((100 * x - 0.5, 100 * y - 0.5))
        for name, (x, y) in parts.items()
    }


def test_hidden_parts_are_left_out():
    parts = {
        "left eye": PartPoint(0.5, 0.5, visible=True),
        "right eye": PartPoint(0.6, 0.5, visible=False),
    }

    ax = draw_on(parts)

    assert [text.get_text() for text in ax.texts] == ["left eye"]
    assert len(ax.lines[0].get_xydata()) == 1


def test_marks_can_stand_without_names():
    ax = draw_on({"beak": (0.5, 0.5)}, labels=False)

    assert len(ax.lines) == 1
    assert not ax.texts


def test_nothing_is_drawn_where_all_is_hidden():
    assert not draw_on({"beak": PartPoint(0.5, 0.5, visible=False)}).lines


@pytest.mark.parametrize("seed", range(5))
def test_the_names_of_a_bird_do_not_overlap_nor_cover_it(seed):
    image, annotations = draw(species_table(4, 2)[0], seed=seed, size=224)
    figure, ax = plt.subplots(figsize=(5, 4))
    ax.imshow(image)
    draw_parts("caller", ax, annotations.parts, image.shape)
    figure.canvas.draw()

    # (An annotation's extent includes its line.)
    boxes = [
        plt.Text.get_window_extent(text, figure.canvas.get_renderer())
        for text in ax.texts
    ]

    assert len(boxes) > 5
    for index, box in enumerate(boxes):
        assert not box.overlaps(ax.get_window_extent())
        for other in boxes[:index]:
            assert not box.overlaps(other)


@pytest.mark.parametrize("crowd", [0.0, 0.5, 1.0])
def test_crowded_names_stay_beside_the_image(crowd):
    ax = draw_on({str(i): (0.5, crowd) for i in range(20)}, height=100)

    rows = sorted(text.xyann[1] for text in ax.texts)

    assert rows[0] >= 0
    assert rows[-1] <= 99


def test_places_in_pixels_are_an_error():
    with pytest.raises(
        ValueError, match=r"^caller: parts.*\(120, 80\).*'beak'"
    ):
        draw_on({"beak": (120, 80)})

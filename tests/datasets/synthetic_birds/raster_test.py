import numpy as np
import pytest

from keras_finegrain.datasets.synthetic_birds.raster import (
    Layer,
    coverage,
    ellipse,
    enlarge,
    ribbon,
    rotate,
    spline,
)

pytestmark = pytest.mark.one_backend


def area(points, height=40, width=50):
    return coverage(points, height, width)[1].sum()


def test_a_rectangle_covers_the_exact_share_of_each_pixel():
    # Half a row high: the scan lines divide pixels into sixths.
    window, cover = coverage(
        [(1.25, 1.5), (3.0, 1.5), (3.0, 3.0), (1.25, 3.0)], 5, 5
    )
    whole = np.zeros((5, 5))
    whole[window] = cover
    expected = np.zeros((5, 5))
    expected[1, 1:3] = 0.375, 0.5
    expected[2, 1:3] = 0.75, 1.0
    np.testing.assert_allclose(whole, expected, atol=1e-12)


def test_coverage_sums_to_the_area_whichever_way_round():
    disc = ellipse((20.3, 17.8), 9.0)
    x, y = disc.T
    shoelace = 0.5 * abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    assert area(disc) == pytest.approx(shoelace, rel=2e-3)
    assert area(disc[::-1]) == pytest.approx(area(disc), rel=1e-9)


def test_a_shape_over_the_edge_is_cut_there():
    square = [(-10.0, -10.0), (5.0, -10.0), (5.0, 4.0), (-10.0, 4.0)]
    assert area(square) == pytest.approx(20.0)
    beyond = [(45.0, 35.0), (60.0, 35.0), (60.0, 60.0), (45.0, 60.0)]
    assert area(beyond) == pytest.approx(25.0)


def test_a_shape_outside_covers_nothing():
    assert area([(60.0, 5.0), (70.0, 5.0), (65.0, 9.0)]) == 0.0
    assert area([(5.0, -9.0), (9.0, -9.0), (7.0, -2.0)]) == 0.0


def test_blend_is_over_compositing():
    layer = Layer(1, 1)
    layer.blend(np.array([1.0, 0.0, 0.0]), np.array([[0.5]]))
    layer.blend(np.array([0.0, 0.0, 1.0]), np.array([[0.5]]))
    assert layer.alpha[0, 0] == pytest.approx(0.75)
    np.testing.assert_allclose(layer.rgb[0, 0], [1 / 3, 0.0, 2 / 3])


def test_fill_stays_within():
    layer, within = Layer(6, 6), np.zeros((6, 6))
    within[:, :3] = 1.0
    square = [(1, 1), (5, 1), (5, 5), (1, 5)]
    layer.fill(square, (1.0, 1.0, 1.0), within=within)
    assert layer.alpha.sum() == pytest.approx(8.0)
    assert layer.alpha[:, 3:].max() == 0.0


def test_a_spline_passes_through_its_points():
    knots = [(0.0, 0.0), (4.0, 1.0), (5.0, 6.0), (-1.0, 3.0)]
    closed = spline(knots, steps=5)
    np.testing.assert_allclose(closed[::5], knots, atol=1e-12)
    opened = spline(knots, closed=False, steps=5)
    np.testing.assert_allclose(opened[::5], knots, atol=1e-12)


def test_a_ribbon_has_its_width():
    stroke = ribbon([(5.0, 10.0), (25.0, 10.0)], 4.0, 2.0)
    assert area(stroke) == pytest.approx(60.0)


def test_rotate_turns_clockwise_on_the_screen():
    turned = rotate([(3.0, 1.0)], 90.0, about=(1.0, 1.0))
    np.testing.assert_allclose(turned, [(1.0, 3.0)], atol=1e-9)


def test_enlarge_keeps_a_constant_and_the_range():
    np.testing.assert_allclose(enlarge(np.full((3, 4), 0.7), 20, 30), 0.7)
    noise = np.random.RandomState(0).uniform(size=(5, 5, 3))
    large = enlarge(noise, 37, 41)
    assert large.shape == (37, 41, 3)
    assert large.min() >= noise.min()
    assert large.max() <= noise.max()

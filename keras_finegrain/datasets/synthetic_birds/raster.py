"""Antialiased shapes on a numpy canvas.

Every pixel comes from additions, multiplications and square roots, which IEEE
754 rounds alike everywhere: a release of Pillow or another processor must not
change the pictures of a versioned data set.
"""

import math

import numpy as np
import numpy.typing as npt

# (corners, 2), or as many pairs.
Points = npt.ArrayLike

# Rows that one pixel is cut into; along a row the coverage is exact.
_SUBROWS = 6


class Layer:
    """An image with opacity, painted shape by shape, back to front.

    Colours are in [0, 1]. The colour is not multiplied by the opacity, so a
    shape that lies on another leaves no seam of the background.

    Args:
        height: in pixels.
        width: in pixels.
        background: three values in [0, 1]; `None` for a transparent layer.

    Example:

    >>> layer = Layer(4, 4)
    >>> layer.fill([(1, 1), (3, 1), (3, 3), (1, 3)], (1.0, 0.0, 0.0))
    >>> round(float(layer.alpha.sum()), 6)
    4.0
    """

    def __init__(
        self,
        height: int,
        width: int,
        background: tuple[float, float, float] | None = None,
    ) -> None:
        self.rgb = np.zeros((height, width, 3))
        self.alpha = np.zeros((height, width))
        if background is not None:
            self.rgb[:] = background
            self.alpha[:] = 1.0

    def fill(
        self,
        points: Points,
        colour: npt.ArrayLike,
        opacity: float = 1.0,
        within: np.ndarray | None = None,
    ) -> None:
        """Paints a polygon.

        Args:
            points: (corners, 2) of (x, y) in pixels; (0, 0) is the corner of
                the image.
            colour: three values, or an image of the layer's size.
            opacity: in [0, 1].
            within: (height, width) in [0, 1], to paint only inside another
                shape.
        """
        window, cover = coverage(points, *self.alpha.shape)
        if within is not None:
            cover = cover * within[window]
        colour = np.asarray(colour)
        self.blend(
            colour[window] if colour.ndim == 3 else colour,
            cover * opacity,
            window,
        )

    def blend(
        self,
        colour: np.ndarray,
        cover: np.ndarray,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Lays a colour with an opacity per pixel over what is there.

        Args:
            colour: (..., 3), of one colour or one for each pixel.
            cover: (rows, columns) in [0, 1].
            window: the part of the layer that `cover` stands for.
        """
        rgb, alpha = self.rgb[window], self.alpha[window]
        total = cover + alpha * (1.0 - cover)
        share = cover / np.maximum(total, 1e-6)
        rgb += share[..., None] * (colour - rgb)
        alpha[...] = total


def coverage(
    points: Points, height: int, width: int
) -> tuple[tuple[slice, slice], np.ndarray]:
    """How much of each pixel a polygon covers.

    Each pixel row is cut by a few scan lines. Where an edge crosses one, all
    that lies to the right of it changes sides: the crossings go into a grid of
    differences, and a running sum along x makes the areas.

    Args:
        points: (corners, 2) of (x, y) in pixels.
        height: of the image.
        width: of the image.

    Returns:
        The window of the image that the polygon touches, and the coverage
        inside that window, in [0, 1].
    """
    corners = np.asarray(points, dtype=np.float64)
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    left, right = _cut(low[0], high[0], width)
    top, bottom = _cut(low[1], high[1], height)
    rows, columns = bottom - top, right - left
    window = (slice(top, bottom), slice(left, right))
    if not rows or not columns:
        return window, np.zeros((rows, columns))

    x, y = corners[:, 0] - left, (corners[:, 1] - top) * _SUBROWS
    following = np.arange(1, len(x) + 1)
    following[-1] = 0
    next_x, next_y = x[following], y[following]
    # The scan lines from the upper end of each edge to its lower end.
    line_of = np.ceil(np.clip(y, 0.0, rows * _SUBROWS) - 0.5).astype(int)
    first = np.minimum(line_of, line_of[following])
    count = np.maximum(line_of, line_of[following]) - first
    edge = np.repeat(np.arange(len(x)), count)
    start = np.cumsum(count) - count
    line = np.arange(len(edge)) + (first - start)[edge]
    # An edge between two scan lines is never taken: it may be level.
    height_of = np.where(count, next_y - y, 1.0)
    slope = (next_x - x) / height_of
    crossing = (x - (y - 0.5) * slope)[edge] + line * slope[edge]
    crossing = np.minimum(np.maximum(crossing, 0.0), float(columns))
    weight = np.where(next_y > y, 1.0 / _SUBROWS, -1.0 / _SUBROWS)[edge]
    column = crossing.astype(int)
    right_share = weight * (crossing - column)
    cell = (line // _SUBROWS) * (columns + 2) + column
    size = rows * (columns + 2)
    change = np.bincount(cell, weight - right_share, size)
    change += np.bincount(cell + 1, right_share, size)
    area = np.cumsum(change.reshape(rows, columns + 2), axis=1)
    return window, np.minimum(np.abs(area[:, :columns]), 1.0)


def spline(points: Points, closed: bool = True, steps: int = 5) -> np.ndarray:
    """A smooth curve through the points (Catmull-Rom).

    Args:
        points: (count, 2).
        closed: joins the last point to the first.
        steps: pieces between two points.

    Returns:
        (curve points, 2).
    """
    knots = np.asarray(points, dtype=np.float64)
    first, last = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([first, knots, last])[:, None, :]
    a, b, c, d = (padded[i : len(padded) - 3 + i] for i in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    curve = 0.5 * (
        2.0 * b
        + t * (c - a)
        + t * t * (2.0 * a - 5.0 * b + 4.0 * c - d)
        + t * t * t * (3.0 * b - a - 3.0 * c + d)
    ).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def ribbon(
    line: Points, start_width: float, end_width: float | None = None
) -> np.ndarray:
    """The outline of a stroke along a line.

    Args:
        line: (count, 2), at least two points.
        start_width: the full width where the line begins.
        end_width: the full width where it ends; as at the start by default.

    Returns:
        (2 * count, 2), a polygon.
    """
    path = np.asarray(line, dtype=np.float64)
    taper = 0.0 if end_width is None else end_width - start_width
    width = start_width + np.arange(len(path)) * (taper / (len(path) - 1))
    along = np.empty_like(path)
    along[1:-1] = path[2:] - path[:-2]
    along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    length = np.sqrt(along[:, 0] * along[:, 0] + along[:, 1] * along[:, 1])
    aside = along[:, ::-1] * _LEFT
    aside *= (0.5 * width / np.maximum(length, 1e-9))[:, None]
    return np.concatenate([path + aside, (path - aside)[::-1]])


def ellipse(
    centre: npt.ArrayLike, radius: float, ratio: float = 1.0
) -> np.ndarray:
    """A round polygon: (20, 2).

    Args:
        centre: (x, y).
        radius: half the width.
        ratio: height over width.
    """
    return _CIRCLE * (radius, ratio * radius) + np.asarray(centre)


def turn(degrees: float) -> tuple[float, float]:
    """Cosine and sine of an angle, rounded so that every libm agrees."""
    angle = math.radians(degrees)
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


def rotate(
    points: Points, degrees: float, about: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Turns points clockwise on the screen (y points down).

    Args:
        points: (count, 2).
        degrees: the angle.
        about: the point that stays.
    """
    c, s = turn(degrees)
    offset = np.asarray(points, dtype=np.float64) - about
    turned = c * offset
    turned[..., 0] -= s * offset[..., 1]
    turned[..., 1] += s * offset[..., 0]
    return turned + about


def enlarge(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Smooth interpolation to a larger size, slightly blurred.

    Args:
        image: (rows, columns) or (rows, columns, channels).
        height: of the result.
        width: of the result.
    """
    return _stretch(_stretch(image, height, 0), width, 1)


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, an S-curve between them."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _stretch(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    count = image.shape[axis]
    # Quadratic B-spline: three neighbours, no plateaus and no corners.
    position = (np.arange(size) + 0.5) * (count / size) - 0.5
    middle = np.floor(position + 0.5).astype(int)
    shape = [1] * image.ndim
    shape[axis] = size
    t = (position - middle).reshape(shape)
    before, here, after = (
        np.take(image, np.clip(middle + step, 0, count - 1), axis=axis)
        for step in (-1, 0, 1)
    )
    return (
        before * (0.5 * (0.5 - t) * (0.5 - t))
        + here * (0.75 - t * t)
        + after * (0.5 * (0.5 + t) * (0.5 + t))
    )


def _cut(low: float, high: float, size: int) -> tuple[int, int]:
    """The whole pixels from low to high that lie in the image."""
    start = min(max(math.floor(low), 0), size)
    return start, min(max(math.ceil(high), start), size)


_LEFT = np.array([-1.0, 1.0])
_CIRCLE = np.array([turn(360 * step / 20) for step in range(20)])

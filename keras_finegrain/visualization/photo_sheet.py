"""Many photos and texts in one picture."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.optional import import_optional
from keras_finegrain.visualization.axes import axis_or_new
from keras_finegrain.visualization.checks import class_name
from keras_finegrain.visualization.photo import as_pixels

# Lengths on a sheet are in sides of a photo.
PITCH = 1.05
NAME_SIZE = 0.2
LINE_HEIGHT = 1.25
# What fits beside one photo.
NAME_LETTERS = 18
NAME_LINES = 3
# Pixels of a photo's side, and the number of photos from which on they are
# halved: a sheet then stays below 100 MB for 200 classes of 10 photos.
PIXELS = 128
MANY_PHOTOS = 500


class Photo(NamedTuple):
    """An image and the place of its upper left corner."""

    image: Any
    left: float
    top: float


class PhotoSheet:
    """An axis in whose coordinates a photo has the side 1.

    All photos are one image of matplotlib: thousands of axes would take
    minutes to draw and hundreds of megabytes.

    Args:
        ax: matplotlib axis to draw into, or None for one in a new figure.
        width: Width of the sheet.
        height: Height of the sheet.
        inches: A photo's side in a new figure.

    Attributes:
        ax: The axis.
        points: A photo's side on the figure, in points, to which text and
            lines are scaled.
    """

    def __init__(
        self, ax: Any, *, width: float, height: float, inches: float
    ) -> None:
        self.width, self.height = width, height
        self.ax = axis_or_new(ax, (width * inches, height * inches))
        if ax is not None:
            room = ax.get_window_extent()
            pixels = min(room.width / width, room.height / height)
            inches = pixels / ax.figure.dpi
        self.points = 72 * inches
        self.ax.set_axis_off()

    def draw(self, who: str, photos: Sequence[Photo]) -> None:
        """Draws photos at their places on white.

        Args:
            who: Name of the public function, with which errors begin.
            photos: All photos of the sheet.

        Raises:
            ValueError: If a photo is no image in [0, 255].
        """
        pixels = PIXELS if len(photos) < MANY_PHOTOS else PIXELS // 2
        # The sheet is a whole number of pixels: a place is rounded to one.
        shape = np.ceil(np.array([self.height, self.width]) * pixels)
        canvas = np.full((*shape.astype(int), 3), 255, np.uint8)
        for photo in photos:
            row, column = round(photo.top * pixels), round(photo.left * pixels)
            place = np.s_[row : row + pixels, column : column + pixels]
            canvas[place] = _square(who, photo.image, pixels)
        height, width = shape / pixels
        self.ax.imshow(canvas, extent=(0, width, height, 0))

    def write(
        self, left: float, top: float, text: str, size: float, **style: Any
    ) -> None:
        """Writes black text whose height is `size` sides of a photo.

        (The sheet is white under every matplotlib style.)

        Args:
            left: Where the text begins.
            top: Its middle.
            text: Some lines.
            size: Height of the font.
            **style: Other arguments of matplotlib's `Axes.text`.
        """
        style = {"color": "black", "va": "center", **style}
        self.ax.text(
            left,
            top,
            text,
            fontsize=size * self.points,
            linespacing=LINE_HEIGHT,
            # A dollar sign in a name begins no formula.
            parse_math=False,
            **style,
        )


def _square(who: str, image: Any, side: int) -> np.ndarray:
    """The central square of an image, `(side, side, 3)` uint8."""
    pixels = as_pixels(who, image)
    height, width = pixels.shape[:2]
    margin_x, margin_y = max(width - height, 0) / 2, max(height - width, 0) / 2
    pillow = import_optional("PIL.Image", who)
    return np.asarray(
        pillow.fromarray(pixels).resize(
            (side, side),
            resample=pillow.Resampling.BICUBIC,
            box=(margin_x, margin_y, width - margin_x, height - margin_y),
        )
    )


def class_title(
    index: int,
    class_names: Sequence[str] | None,
    letters: int = NAME_LETTERS,
) -> str:
    """A class's number and, in some lines, its name.

    Args:
        index: The class.
        class_names: Name of each class, or None for the number alone.
        letters: The most letters in a line.

    Returns:
        At most three lines. A longer name is cut and ends with "…".

    Example:
    >>> print(class_title(1, ["…", "black_throated_blue_warbler"]))
    1  black throated
    blue warbler
    """
    return textwrap.fill(
        class_name(index, class_names),
        letters,
        max_lines=NAME_LINES,
        placeholder=" …",
    )


def text_width(texts: Sequence[str], size: float) -> float:
    """Width of the longest line, with a margin, in the unit of the size."""
    textpath = import_optional("matplotlib.textpath", "visualization")
    fonts = import_optional("matplotlib.font_manager", "visualization")
    # Small fonts are fitted to whole pixels: a size of 100 is measured.
    font = fonts.FontProperties(size=100)
    measure = textpath.text_to_path.get_text_width_height_descent
    lines = "\n".join(texts).split("\n")
    widest = max(measure(line, font, ismath=False)[0] for line in lines)
    return size * (widest / 100 + 1.0)

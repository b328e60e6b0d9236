"""Photos of every class side by side, as one picture."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain._base.checks import positive_integer
from keras_finegrain.visualization.photo import as_photo
from keras_finegrain.visualization.requirements import import_for_pictures

# Lengths on a sheet are counted in sides of a photo.
PITCH = 1.05
NAME_SIZE = 0.2
LINE_HEIGHT = 1.25
# A name is broken into lines of at most this many letters, and cut after
# three lines: what fits beside one photo.
NAME_LETTERS = 18
NAME_LINES = 3
# One column of classes up to here: a figure's height on a page.
ROWS_OF_ONE_COLUMN = 30
PAGE = 2**0.5
# Pixels of a photo's side, and from how many photos on they are halved: a
# sheet then stays below 100 MB for 200 classes of 10 photos.
PIXELS = 128
MANY_PHOTOS = 500


class Photo(NamedTuple):
    """An image and where its upper left corner stands."""

    image: Any
    left: float
    top: float


def class_grid(
    images: Any,
    labels: Any,
    class_names: Sequence[str] | None = None,
    images_per_class: int = 10,
    ax: Any = None,
) -> Any:
    """Draws the first photos of every class in a row, its name at the left.

    The picture with which a fine-grained data set is introduced: what differs
    between the rows, and how much differs within one. Photos are cropped
    centrally to squares.

    Up to 30 classes stand below each other. More are laid in as many columns
    of classes as make the sheet no taller than an upright page, √2 times its
    width, with photos two thirds as wide: 200 classes of 10 photos take four
    columns and 21 x 21 inches.

    Args:
        images: Photos, a list of arrays `(height, width, 3)` of any sizes or
            one array or tensor `(samples, height, width, 3)`: uint8, or
            floats in [0, 255]. Floats of at most 1 are taken as in [0, 1].
        labels: Integers `(samples,)`, not negative; they index `class_names`.
            Classes that do not occur are left out.
        class_names: Name of each class, written behind its number with spaces
            for underscores and in at most three lines. Defaults to none: the
            numbers alone.
        images_per_class: Photos in a row, at least 1. Defaults to 10. Classes
            that have fewer leave their row's end blank.
        ax: matplotlib axis to draw into; text then scales with it. Defaults
            to an axis in a figure of its own.

    Returns:
        The matplotlib axis. A photo's side is its unit of length.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If an argument is out of its range, the numbers of images
            and labels disagree, a label lies outside `class_names`, or a photo
            is no RGB image in [0, 255].

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> photos = np.full((4, 6, 8, 3), 200, "uint8")
    >>> axis = class_grid(
    ...     photos, np.array([0, 1, 1, 0]), ["Song Sparrow", "Fox Sparrow"]
    ... )
    >>> [text.get_text() for text in axis.texts]
    ['0  Song Sparrow', '1  Fox Sparrow']
    """
    who = "class_grid"
    per_class = positive_integer(who, "images_per_class", images_per_class)
    images = image_sequence(images)
    labels = class_labels(who, labels, len(images), class_names)
    classes, sizes = np.unique(labels, return_counts=True)
    per_class = min(per_class, sizes.max())
    titles = [class_title(index, class_names) for index in classes]
    name_width = text_width(titles, NAME_SIZE)
    block_width = name_width + per_class * PITCH
    columns = _columns(len(classes), block_width)
    rows = -(-len(classes) // columns)

    photos = []
    corners = []
    for position, index in enumerate(classes):
        column, row = divmod(position, rows)
        # Half a photo's side between two columns of classes.
        left, top = column * (block_width + 0.5), row * PITCH
        corners.append((left, top))
        photos += [
            Photo(images[sample], left + name_width + order * PITCH, top)
            for order, sample in enumerate(
                np.flatnonzero(labels == index)[:per_class]
            )
        ]
    sheet = PhotoSheet(
        ax,
        width=columns * (block_width + 0.5) - 0.5,
        height=rows * PITCH,
        inches=0.6 if columns == 1 else 0.4,
    )
    sheet.draw(who, photos)
    for (left, top), title in zip(corners, titles, strict=True):
        sheet.write(left, top + 0.5, title, size=NAME_SIZE)
    return sheet.ax


class PhotoSheet:
    """An axis in whose coordinates a photo has the side 1.

    All photos are one image of matplotlib: thousands of axes would take
    minutes to draw and hundreds of megabytes.

    Args:
        ax: matplotlib axis to draw into, or None for one in a figure that is
            made for the sheet.
        width: Width of the sheet.
        height: Height of the sheet.
        inches: A photo's side in a figure that is made for the sheet.

    Attributes:
        ax: The axis.
        points: A photo's side on the figure, in points, to which text and
            lines are scaled.
    """

    def __init__(
        self, ax: Any, *, width: float, height: float, inches: float
    ) -> None:
        self.width, self.height = width, height
        if ax is None:
            pyplot = import_for_pictures("matplotlib.pyplot")
            size = (width * inches, height * inches)
            ax = pyplot.subplots(figsize=size, layout="constrained")[1]
        else:
            room = ax.get_window_extent()
            pixels = min(room.width / width, room.height / height)
            inches = pixels / ax.figure.dpi
        self.ax = ax
        self.points = 72 * inches
        ax.set_axis_off()

    def draw(self, who: str, photos: Sequence[Photo]) -> None:
        """Draws photos at their places on white.

        Args:
            who: Name of the public function, with which errors begin.
            photos: All photos of the sheet.

        Raises:
            ValueError: If a photo is no RGB image in [0, 255].
        """
        pixels = PIXELS if len(photos) < MANY_PHOTOS else PIXELS // 2
        # The sheet is a whole number of pixels: a place is rounded to one.
        shape = np.ceil(np.array([self.height, self.width]) * pixels)
        canvas = np.full((*shape.astype(int), 3), 255, np.uint8)
        for photo in photos:
            row, column = round(photo.top * pixels), round(photo.left * pixels)
            canvas[row : row + pixels, column : column + pixels] = square_photo(
                who, photo.image, pixels
            )
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
            # A dollar sign in a name is one.
            parse_math=False,
            **style,
        )


def square_photo(who: str, image: Any, side: int) -> np.ndarray:
    """The central square of an image, `(side, side, 3)` uint8.

    Args:
        who: Name of the public function, with which errors begin.
        image: Array or tensor `(height, width, 3)`: uint8, or floats in
            [0, 255]. Floats of at most 1 are taken as in [0, 1].
        side: Pixels of the result.

    Raises:
        ValueError: If the image is of another shape or range.
    """
    image = to_numpy(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(
            f"{who}: each image must have the shape (height, width, 3), "
            f"received {image.shape}."
        )
    if image.dtype != np.uint8:
        image = np.round(255 * as_photo(who, image)).astype(np.uint8)
    pillow = import_for_pictures("PIL.Image")
    height, width = image.shape[:2]
    margin_x, margin_y = max(width - height, 0) / 2, max(height - width, 0) / 2
    return np.asarray(
        pillow.fromarray(image).resize(
            (side, side),
            resample=pillow.Resampling.BICUBIC,
            box=(margin_x, margin_y, width - margin_x, height - margin_y),
        )
    )


def image_sequence(images: Any) -> Any:
    """Images of differing sizes as they are, a tensor as a NumPy array."""
    return images if isinstance(images, Sequence) else to_numpy(images)


def class_labels(
    who: str,
    labels: Any,
    samples: int,
    class_names: Sequence[str] | None,
    argument: str = "labels",
) -> np.ndarray:
    """Checks labels that index class names.

    Args:
        who: Name of the public function, with which errors begin.
        labels: Array or tensor of any backend, `(samples,)` or `(samples, 1)`.
        samples: How many there must be, at least 1.
        class_names: The names, or None.
        argument: What the labels are called there.

    Returns:
        Integers `(samples,)`.

    Raises:
        ValueError: If there are more or fewer, none, or one that is not an
            integer, negative or without a name.
    """
    labels = to_numpy(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (samples,) or not samples:
        raise ValueError(
            f"{who}: {argument} must have the shape ({max(samples, 1)},), one "
            f"integer a sample, received {labels.shape}. Turn one-hot labels "
            "and scores into integers with .argmax(axis=-1)."
        )
    if labels.dtype.kind not in "iub":
        raise ValueError(
            f"{who}: {argument} must be integers, received the dtype "
            f"{labels.dtype}."
        )
    if labels.min() < 0:
        raise ValueError(
            f"{who}: {argument} must not be negative, received a minimum of "
            f"{labels.min()}."
        )
    if class_names is not None and labels.max() >= len(class_names):
        raise ValueError(
            f"{who}: class_names must have one entry a class, received "
            f"{len(class_names)} and a maximum of {labels.max()} in {argument}."
        )
    return labels.astype(np.int64)


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
        At most three lines. What does not fit ends with "…".

    Example:
    >>> print(class_title(1, ["…", "black_throated_blue_warbler"]))
    1  black throated
    blue warbler
    """
    if class_names is None:
        return str(index)
    # TFDS writes names with underscores, at which no line would break.
    name = f"{index}  {class_names[index]}".replace("_", " ")
    lines = textwrap.wrap(name, letters, max_lines=NAME_LINES, placeholder=" …")
    return "\n".join(lines)


def text_width(texts: Sequence[str], size: float) -> float:
    """Width of the longest line, with a margin, in the unit of the size."""
    textpath = import_for_pictures("matplotlib.textpath")
    fonts = import_for_pictures("matplotlib.font_manager")
    # A font of 100 is measured: small ones are fitted to whole pixels.
    font = fonts.FontProperties(size=100)
    measure = textpath.text_to_path.get_text_width_height_descent
    lines = [line for text in texts for line in text.split("\n")]
    widest = max(measure(line, font, ismath=False)[0] for line in lines)
    return size * (widest / 100 + 1.0)


def _columns(classes: int, block_width: float) -> int:
    """The fewest columns with which a sheet is no taller than a page."""
    if classes <= ROWS_OF_ONE_COLUMN:
        return 1
    columns = 1
    while -(-classes // columns) * PITCH > PAGE * columns * block_width:
        columns += 1
    return columns

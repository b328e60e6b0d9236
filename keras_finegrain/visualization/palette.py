"""A colour and marker for each class that colour-blind readers tell apart."""

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from keras_finegrain._base.checks import positive_integer

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/) without the
# yellow, which is too faint for a small marker on white.
COLORS = (
    "#0072B2",  # blue
    "#E69F00",  # orange
    "#009E73",  # bluish green
    "#D55E00",  # vermilion
    "#56B4E9",  # sky blue
    "#CC79A7",  # reddish purple
    "#000000",  # black
)
# Ordered so that neighbours in the list differ most in shape.
MARKERS = ("o", "^", "s", "v", "D", "P", "X", "<", "p", ">", "h", "*", "d", "8")


LINE_STYLES = ("-", "--", "-.", ":")


class ClassStyle(NamedTuple):
    """Colour, marker and filling of one class."""

    color: str
    marker: str
    filled: bool


def class_styles(num_classes: int) -> list[ClassStyle]:
    """Gives each class a colour, marker and filling of its own.

    Seven colours that can be told apart with the common forms of colour
    blindness are combined with 14 markers, filled and hollow: 196 classes
    look different, and more repeat them.

    Args:
        num_classes: Number of classes, not negative.

    Returns:
        One `ClassStyle` for each class. The first seven differ in colour and
        in marker, so that few classes are the easiest to tell apart.

    Raises:
        ValueError: If `num_classes` is no integer or negative.

    Example:
    >>> class_styles(2)[1]
    ClassStyle(color='#E69F00', marker='^', filled=True)
    """
    if not isinstance(num_classes, int) or num_classes != 0:
        positive_integer("class_styles", "num_classes", num_classes)
    styles = []
    for index in range(num_classes):
        round_of_colors, color = divmod(index, len(COLORS))
        # The marker changes with the colour, so the first classes differ in
        # both. 14 markers and 7 colours share a factor: each round of colours
        # shifts by one to reach all combinations.
        marker = (color + round_of_colors) % len(MARKERS)
        filled = (round_of_colors // len(MARKERS)) % 2 == 0
        styles.append(ClassStyle(COLORS[color], MARKERS[marker], filled))
    return styles


class LineStyle(NamedTuple):
    """Colour and dashes of one method's line."""

    color: str
    dashes: str


def method_styles(names: Iterable[str]) -> dict[str, LineStyle]:
    """Gives each method a colour and dashes that follow from its name.

    The order of the names has no part in it, so that a method looks the same
    in pictures of other selections too; only a name whose look is taken in
    this picture moves to the next that is free.

    Args:
        names: Names of the methods.

    Returns:
        The style of each name. 28 look different, more repeat them.

    Example:
    >>> both = method_styles(["softmax", "center"])
    >>> both == method_styles(["center", "softmax"])
    True
    """
    looks = [LineStyle(c, dashes) for dashes in LINE_STYLES for c in COLORS]
    styles: dict[str, LineStyle] = {}
    taken: set[int] = set()
    for name in sorted(names):
        # Colours are told apart more easily than dashes: seven names have
        # seven colours.
        start = zlib.crc32(name.encode()) % len(COLORS)
        order = [
            turn * len(COLORS) + (start + step) % len(COLORS)
            for turn in range(len(LINE_STYLES))
            for step in range(len(COLORS))
        ]
        if len(taken) == len(looks):
            taken.clear()
        place = next(place for place in order if place not in taken)
        taken.add(place)
        # Dashes change with the colour too, for readers without colours.
        turn, color = divmod(place, len(COLORS))
        dashes = LINE_STYLES[(turn + color) % len(LINE_STYLES)]
        styles[name] = LineStyle(COLORS[color], dashes)
    return styles


def class_legend(figure: Any, axis: Any, *, title: str | None = None) -> Any:
    """Lists the classes of one axis to the right of a whole figure.

    For figures whose panels show the same classes, such as several
    `embedding_scatter` side by side: one legend serves them all.

    Args:
        figure: The matplotlib figure. Save it with `bbox_inches="tight"`: the
            legend lies outside its edge.
        axis: The axis whose labelled artists are listed.
        title: Heading of the legend. Defaults to none.

    Returns:
        The matplotlib legend, or `None` if the axis has no labels.

    Example:
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt
    >>> figure, axis = plt.subplots()
    >>> _ = axis.scatter([0], [0], label="0  Song Sparrow")
    >>> class_legend(figure, axis).get_texts()[0].get_text()
    '0  Song Sparrow'
    """
    handles, labels = axis.get_legend_handles_labels()
    if not handles:
        return None
    # As many rows as fit beside a panel at a size that can still be read.
    many = len(handles) > 48
    rows, font_size = (50, 5.5) if many else (24, 8)
    return figure.legend(
        handles,
        labels,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        ncols=-(-len(handles) // rows),
        fontsize=font_size,
        labelspacing=0.2 if many else 0.5,
        frameon=False,
        markerscale=1.6,
        handletextpad=0.4,
        borderaxespad=0.2,
    )

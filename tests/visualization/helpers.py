"""What several tests of pictures draw, and read from a drawing."""

import numpy as np


def plain_photos(count):
    """Photo i has the colour (i, 100, 200) all over."""
    photos = np.full((count, 4, 4, 3), [0, 100, 200], "uint8")
    photos[..., 0] += np.arange(count, dtype="uint8")[:, None, None]
    return photos


def tick_texts(axis):
    """Positions and texts of all of the rows' ticks."""
    ticks = axis.get_yticks().tolist() + axis.get_yticks(minor=True).tolist()
    labels = axis.get_yticklabels() + axis.get_yticklabels(minor=True)
    return {
        int(tick): label.get_text()
        for tick, label in zip(ticks, labels, strict=True)
    }


def shown_classes(axis):
    """The class of each row, from the numbers at the ticks."""
    texts = tick_texts(axis)
    return [int(texts[row].split()[0]) for row in range(len(texts))]

"""Photos that a small network learns in seconds: each class has its color."""

import io

import numpy as np
from PIL import Image

from keras_finegrain.datasets import Photos
from keras_finegrain.training import PhotosOnDevice, PhotoSplit, Settings

COLORS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0))
NAMES = ("red kite", "green jay", "bluethroat", "yellow wagtail")

SMALL = Settings(weights="none", image_size=16, epochs=2, batch_size=8, lr=3e-3)


def colored_photos(num_classes=3, train=16, test=4, boxes=True):
    """So many photos of each class, of several sizes, those to train first."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(num_classes, dtype=np.int32), train + test)
    encoded = []
    for number, label in enumerate(labels):
        shape = (20 + number % 5, 24 - number % 4, 3)
        pixels = rng.integers(0, 60, shape) + 150 * np.array(COLORS[label])
        encoded.append(png(pixels))
    box = (0.2, 0.3, 0.8, 0.7) if boxes else [np.nan] * 4
    return Photos(
        name="colors",
        encoded=tuple(encoded),
        labels=labels,
        boxes=np.tile(np.float32(box), (len(labels), 1)),
        is_test=np.arange(len(labels)) >= num_classes * train,
        class_names=NAMES[:num_classes],
    )


def gray_photos(grays):
    """One photo of each gray, each a class of its own, to train on."""
    count = len(grays)
    return Photos(
        name="grays",
        encoded=tuple(
            png(np.full((20 + number, 24, 3), gray))
            for number, gray in enumerate(grays)
        ),
        labels=np.arange(count, dtype=np.int32),
        boxes=np.full((count, 4), np.nan, np.float32),
        is_test=np.zeros(count, bool),
        class_names=tuple(map(str, grays)),
    )


def split_of(photos):
    """The photos, divided into those to train on and those to test on."""
    return PhotoSplit(
        PhotosOnDevice(photos),
        photos.labels,
        np.flatnonzero(~photos.is_test),
        np.flatnonzero(photos.is_test),
        photos.num_classes,
    )


def png(pixels):
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()

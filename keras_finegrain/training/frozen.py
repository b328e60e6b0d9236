"""The output of the frozen part of a backbone, computed once."""

import dataclasses
import hashlib
import json
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_finegrain._base.files import replacing
from keras_finegrain.training.batches import (
    Batch,
    Inputs,
    Labels,
    Numbers,
    OrderedBatches,
    TrainingBatches,
)
from keras_finegrain.training.digests import files_digest
from keras_finegrain.training.progress import Say, Steps, duration, print_line
from keras_finegrain.training.settings import Settings

# The settings that the output of the frozen part depends on.
_SETTINGS = (
    *("backbone", "backbone_args", "weights", "image_size", "freeze"),
    *("views", "augment", "color", "mixed_precision"),
)
Arrays = dict[str, npt.NDArray[Any]]
Features = npt.NDArray[np.float16]
Compute = Callable[[Callable[[int], Steps]], Arrays]


def compute_features(
    frozen: keras.Model,
    batches: Iterable[Any],
    front: keras.Model | None = None,
    *,
    varied: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Features, Labels]:
    """Runs the frozen part of a backbone over images.

    Args:
        frozen: From images to features; runs in inference mode.
        batches: `(inputs, labels)` in a fixed order.
        front: From the inputs to images; None if they are images.
        varied: Whether the front varies colors, as in training.
        advance: Called after each batch.

    Returns:
        The features `(images, ...)` and the labels `(images,)`.
    """
    features, labels = [], []
    for inputs, batch_labels in batches:
        if front is not None:
            inputs = front(inputs, training=varied)
        images = keras.ops.convert_to_numpy(inputs)
        features.append(frozen.predict_on_batch(images).astype(np.float16))
        labels.append(np.asarray(batch_labels, np.int32))
        advance()
    return np.concatenate(features), np.concatenate(labels)


@dataclasses.dataclass(frozen=True)
class FrozenFeatures:
    """The output of the frozen part, in place of images.

    Attributes:
        views: Of images cut at random, `(views, images, ...)`.
        plain: Of images cut as for testing, `(images, ...)`; more images may
            follow those of `views`.
        labels: The classes of all these images, `(images,)`.
        train_images: Numbers of the images to train on.
        test_images: Numbers of the images to test on.
    """

    views: Features
    plain: Features
    labels: Labels
    train_images: Numbers
    test_images: Numbers

    def train(self, settings: Settings, seed: int) -> TrainingBatches:
        """As `ImageStream.train`: an epoch has one view of each image."""

        def draw(images: Numbers, rng: np.random.Generator) -> Inputs:
            return rng.integers(len(self.views), size=len(images)), images

        def finish(view_and_image: Inputs, labels: Labels) -> Batch:
            return self.views[view_and_image], labels

        images = self.train_images
        return TrainingBatches(
            images, self.labels[images], settings, seed, draw, finish
        )

    def train_as_tested(self, settings: Settings) -> OrderedBatches:
        """As `ImageStream.train_as_tested`."""
        return self._ordered(settings, self.train_images)

    def test(self, settings: Settings) -> OrderedBatches:
        """As `ImageStream.test`."""
        return self._ordered(settings, self.test_images)

    def _ordered(self, settings: Settings, images: Numbers) -> OrderedBatches:
        return OrderedBatches(
            self.plain[images], self.labels[images], settings.batch_size
        )


class FeatureCache:
    """Keeps frozen features in memory and, in a folder, for other processes.

    Args:
        folder: The folder, or None.
        say: Takes a line on what is computed and kept.
        bars: Whether a terminal has a bar.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        say: Say = print_line,
        bars: bool = True,
    ) -> None:
        self._bars = bars
        self._folder = None if folder is None else pathlib.Path(folder)
        self._say = say
        self._latest: tuple[str, Arrays] | None = None

    def arrays(
        self,
        digest: str,
        settings: Settings,
        compute: Compute,
    ) -> Arrays:
        """The features of these images with these settings.

        Args:
            digest: Identifies the images.
            settings: Those of the run.
            compute: Computes the features that are not kept yet; its argument
                makes the `Steps` of so many batches.
        """
        key = _key(digest, settings)
        # Only the latest: head_bn of 1,244 photos in 8 views takes 1.4 GB.
        if self._latest is None or self._latest[0] != key:
            arrays = self._read(key)
            if arrays is None:
                arrays = self._computed(settings, compute)
                self._keep(key, arrays)
            self._latest = key, arrays
        return self._latest[1]

    def _computed(self, settings: Settings, compute: Compute) -> Arrays:
        part = {"all": "the backbone"}.get(str(settings.freeze))
        self._say(
            f"computing the output of {part or settings.freeze} once, in "
            f"{settings.views} views …"
        )
        started = time.perf_counter()
        arrays = compute(
            lambda total: Steps("features", total, self._say, self._bars)
        )
        self._say(f"… in {duration(time.perf_counter() - started)}")
        return arrays

    def _read(self, key: str) -> Arrays | None:
        """Kept features; None if there are none that can be read."""
        path = self._path(key)
        if path is None or not path.exists():
            return None
        try:
            with np.load(path) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            self._say(f"{path} cannot be read ({error}) and is made anew")
            return None
        self._say(f"the output of the frozen part is read from {path}")
        return arrays

    def _keep(self, key: str, arrays: Arrays) -> None:
        path = self._path(key)
        if path is None:
            return
        megabytes = sum(array.nbytes for array in arrays.values()) / 1e6
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            # The run has what it needs.
            self._say(f"not kept for other runs: {path} ({error.strerror})")
            return
        self._say(f"kept for other runs: {path} ({megabytes:.0f} MB)")

    def _path(self, key: str) -> pathlib.Path | None:
        return None if self._folder is None else self._folder / f"{key}.npz"


def user_cache() -> pathlib.Path:
    """The folder where features are kept for all runs of a user.

    `KERAS_FINEGRAIN_CACHE`, or `~/.cache/keras_finegrain`. It can be removed
    at any time.
    """
    default = pathlib.Path.home() / ".cache" / "keras_finegrain"
    folder = os.environ.get("KERAS_FINEGRAIN_CACHE") or default
    return pathlib.Path(folder) / "features"


def _key(digest: str, settings: Settings) -> str:
    """A short text of all that the features depend on."""
    what = {name: getattr(settings, name) for name in _SETTINGS}
    for name in ("backbone", "weights"):
        if os.path.isfile(what[name]):
            with open(what[name], "rb") as file:
                what[name] = hashlib.file_digest(file, "sha256").hexdigest()
        elif os.path.isdir(what[name]):
            # A preset of KerasHub.
            root = pathlib.Path(what[name])
            names = sorted(path.name for path in root.iterdir())
            what[name] = files_digest(root, names)
    text = json.dumps([digest, what], default=dict, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

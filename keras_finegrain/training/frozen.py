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

from keras_finegrain._base.files import remove_partial, replacing
from keras_finegrain.training.backbones import (
    build_backbone,
    cut_at,
    weights_file,
)
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
# Most batches of pooled features that are tested in one: they are small.
_AT_ONCE = 32
# Seconds for which no process that writes features leaves them as they are.
_PAUSE = 3600
Arrays = dict[str, npt.NDArray[Any]]
Features = npt.NDArray[np.floating]
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
        The features `(images, ...)`, float16 if they are maps, else float32,
        and the labels `(images,)`.
    """
    features, labels = [], []
    for inputs, batch_labels in batches:
        if front is not None:
            inputs = front(inputs, training=varied)
        images = keras.ops.convert_to_numpy(inputs)
        output = frozen.predict_on_batch(images)
        # Maps in half the memory; pooled features are small.
        dtype = np.float16 if output.ndim > 2 else np.float32
        features.append(output.astype(dtype))
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
        size = settings.batch_size
        if self.plain.ndim == 2:
            # Whole batches: devices cannot share a first one that is not.
            size *= max(1, min(len(images) // size, _AT_ONCE))
        return OrderedBatches(self.plain[images], self.labels[images], size)


class FeatureCache:
    """Keeps frozen features in memory and, in a folder, for other processes.

    It also keeps the backbone that they come from.

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
        self._latest: dict[bool, tuple[str, Arrays]] = {}
        self._backbone: tuple[str, keras.Model] | None = None

    def backbone(self, settings: Settings) -> tuple[keras.Model, Any]:
        """Builds a backbone and freezes what the settings say.

        One that is frozen as a whole is built once: the models of all runs
        share it. All of them must be built in one scope.

        Args:
            settings: Those of the run.

        Returns:
            The backbone, and the symbolic output of its frozen part or None.
        """
        if not settings.freeze:
            return build_backbone(settings), None
        key = _key("", settings)
        if self._backbone is not None and self._backbone[0] == key:
            backbone = self._backbone[1]
            return backbone, backbone.output
        backbone = build_backbone(settings)
        cut = cut_at(backbone, settings.freeze)
        if cut is backbone.output:
            self._backbone = key, backbone
        return backbone, cut

    def arrays(
        self,
        digest: str,
        settings: Settings,
        compute: Compute,
        pooled: bool = False,
    ) -> Arrays:
        """The features of these images with these settings.

        Args:
            digest: Identifies the images.
            settings: Those of the run.
            compute: Computes the features that are not kept yet; its argument
                makes the `Steps` of so many batches.
            pooled: Whether the features are behind the pooling.
        """
        key = _key(digest, settings, pooled)
        # The latest of each kind: a comparison may take both in turns, and
        # maps of 1,244 photos in 8 views take 1.4 GB.
        kept, arrays = self._latest.get(pooled, (None, None))
        if arrays is None or kept != key:
            arrays = self._read(key)
            if arrays is None:
                arrays = self._computed(settings, compute, pooled)
                self._keep(key, arrays)
            self._latest[pooled] = key, arrays
        return arrays

    def _computed(
        self, settings: Settings, compute: Compute, pooled: bool
    ) -> Arrays:
        part = {"all": "the backbone"}.get(str(settings.freeze))
        self._say(
            f"computing the {'pooled ' * pooled}output of "
            f"{part or settings.freeze} once, in {settings.views} views …"
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
            remove_partial(path.parent, unchanged_for=_PAUSE)
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


def _key(digest: str, settings: Settings, pooled: bool = False) -> str:
    """A short text of all that the features depend on."""
    what = {name: getattr(settings, name) for name in _SETTINGS}
    if pooled:
        what["pooling"] = settings.pooling
    what["weights"] = weights_file(settings) or settings.weights
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

"""What the frozen part of a backbone says of images, computed once."""

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_finegrain.training.batches import OrderedBatches, TrainingBatches
from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.settings import Settings

# What the output of the frozen part depends on, beside the images.
_SETTINGS = (
    *("backbone", "backbone_args", "weights", "image_size", "freeze"),
    *("views", "augment", "color", "mixed_precision"),
)
Arrays = dict[str, npt.NDArray[Any]]


def compute_features(
    frozen: keras.Model,
    batches: Iterable[Any],
    front: keras.Model | None = None,
    *,
    varied: bool = False,
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int32]]:
    """Runs the frozen part of a backbone over images.

    Args:
        frozen: From images to features; run as in inference.
        batches: `(inputs, labels)` in a fixed order.
        front: From the inputs to images; None if they are images.
        varied: Whether the front varies colours, as in training.

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
    return np.concatenate(features), np.concatenate(labels)


@dataclasses.dataclass(frozen=True)
class FrozenFeatures:
    """The output of the frozen part, in place of images.

    Attributes:
        views: Of images cut at random, `(views, images, ...)`.
        plain: Of images cut as for testing, `(images, ...)`: of the same ones
            first, perhaps of others behind them.
        labels: The classes of those, `(images,)`.
        train_images: Numbers of the images to train on.
        test_images: Numbers of the images to test on.
    """

    views: npt.NDArray[np.float16]
    plain: npt.NDArray[np.float16]
    labels: npt.NDArray[np.int32]
    train_images: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.int64]

    def train(
        self,
        settings: Settings,
        seed: int,
        balanced: tuple[int, int] | None = None,
    ) -> TrainingBatches:
        """As `Source.train`: an epoch has one view of each image."""

        def draw(
            images: npt.NDArray[np.int64], generator: np.random.Generator
        ) -> tuple[npt.NDArray[Any], ...]:
            return (generator.integers(len(self.views), size=len(images)),)

        def fetch(
            images: npt.NDArray[np.int64],
            labels: npt.NDArray[np.int32],
            view: npt.NDArray[np.int64],
        ) -> tuple[Any, Any]:
            return self.views[view, images], labels

        return TrainingBatches(
            self.train_images,
            self.labels[self.train_images],
            batch_size=settings.batch_size,
            seed=seed,
            draw=draw,
            fetch=fetch,
            balanced=balanced,
        )

    def train_as_tested(self, settings: Settings) -> OrderedBatches:
        """As `Source.train_as_tested`."""
        return self._ordered(settings, self.train_images)

    def test(self, settings: Settings) -> OrderedBatches:
        """As `Source.test`."""
        return self._ordered(settings, self.test_images)

    def _ordered(
        self, settings: Settings, images: npt.NDArray[np.int64]
    ) -> OrderedBatches:
        return OrderedBatches(
            self.plain[images], self.labels[images], settings.batch_size
        )


class FeatureCache:
    """Keeps frozen features for the process or, in a folder, for others too.

    Args:
        folder: Where they are kept; None for the memory of the process.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._folder = None if folder is None else pathlib.Path(folder)
        self._latest: tuple[str, Arrays] | None = None

    def arrays(
        self,
        digest: str,
        settings: Settings,
        compute: Callable[[], Arrays],
    ) -> Arrays:
        """What was computed of the same images with the same settings.

        Args:
            digest: Says which images they are.
            settings: Those of the run.
            compute: Called if it was not computed yet.
        """
        key = _key(digest, settings)
        # One alone: head_bn of 1,244 photos in 8 views are 1.4 GB.
        if self._latest is None or self._latest[0] != key:
            self._latest = key, self._read_or_compute(key, settings, compute)
        return self._latest[1]

    def _read_or_compute(
        self, key: str, settings: Settings, compute: Callable[[], Arrays]
    ) -> Arrays:
        path = None if self._folder is None else self._folder / f"{key}.npz"
        if path is not None and path.exists():
            with np.load(path) as file:
                return dict(file)
        print(
            f"computing the output of {settings.freeze} once, in "
            f"{settings.views} views …",
            flush=True,
        )
        started = time.perf_counter()
        arrays = compute()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{key}.{os.getpid()}.partial.npz")
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        megabytes = sum(array.nbytes for array in arrays.values()) / 1e6
        print(
            f"… {megabytes:.0f} MB in {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        return arrays


def _key(digest: str, settings: Settings) -> str:
    """A short text for all that the features depend on."""
    what = {name: getattr(settings, name) for name in _SETTINGS}
    for name in ("backbone", "weights"):
        if os.path.isfile(what[name]):
            with open(what[name], "rb") as file:
                what[name] = hashlib.file_digest(file, "sha256").hexdigest()
    text = json.dumps([digest, what], default=dict, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_freeze(settings: Settings) -> None:
    """Raises `TrainingError` for what does not go with a frozen part."""
    if settings.freeze is None:
        return
    if settings.mixup:
        raise TrainingError(
            f"--mixup {settings.mixup:g}: mixes images, and --freeze leaves "
            "features alone to train on. Leave one of them out"
        )
    if settings.weights == "none":
        # Each seed has others, and the features are kept for all seeds.
        raise TrainingError(
            f"--freeze {settings.freeze}: a backbone with --weights none has "
            "learned nothing to keep; pass weights or leave --freeze out"
        )

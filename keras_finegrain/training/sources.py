"""Where the images of a run come from, and in which batches."""

import functools
import uuid
from collections.abc import Iterable
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from keras_finegrain import datasets
from keras_finegrain.datasets.batching import augmented, batched
from keras_finegrain.datasets.crops import (
    evaluation_boxes,
    mirrored,
    training_boxes,
)
from keras_finegrain.training.batches import OrderedBatches, TrainingBatches
from keras_finegrain.training.crops import CropAndResize, Lookup, MixPairs
from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.frozen import (
    Arrays,
    FeatureCache,
    FrozenFeatures,
    compute_features,
)
from keras_finegrain.training.settings import Settings


class Source(Protocol):
    """Images to train on and to test on.

    Attributes:
        num_classes: Number of classes.
    """

    num_classes: int

    def front(self, settings: Settings) -> keras.Model | None:
        """From what the batches hold to images; None if they hold images."""

    def train(
        self,
        settings: Settings,
        seed: int,
        balanced: tuple[int, int] | None = None,
    ) -> Any:
        """Batches for `fit`, another order and other crops each epoch."""

    def train_as_tested(self, settings: Settings) -> Iterable[Any]:
        """The same images in a fixed order, cut as for testing."""

    def test(self, settings: Settings) -> Any:
        """Batches for `predict`, in a fixed order."""

    def frozen(
        self, settings: Settings, frozen: keras.Model, cache: FeatureCache
    ) -> FrozenFeatures:
        """What a frozen part of the backbone says of them, computed once.

        Args:
            settings: Those of the run.
            frozen: From images to features.
            cache: Keeps them for other runs.
        """


class ImageStream:
    """Images of any number, read and cut by `tf.data` as they are needed.

    Args:
        data: The data set.
    """

    def __init__(self, data: datasets.ImageDataset) -> None:
        self.num_classes = data.num_classes
        self._data = data
        self._test: Any = None
        # What a folder or a TFDS data set holds may be another tomorrow.
        self._digest = uuid.uuid4().hex

    def front(self, settings: Settings) -> None:
        """None: the batches hold images.

        Raises:
            TrainingError: If the settings ask for what only photos in memory
                have.
        """
        _refuse_what_needs_memory(settings)

    def train(
        self,
        settings: Settings,
        seed: int,
        balanced: tuple[int, int] | None = None,
    ) -> Any:
        """As `Source.train`."""
        if balanced is None:
            return datasets.batches(
                self._data.train,
                image_size=settings.image_size,
                batch_size=settings.batch_size,
                training=True,
                augment=settings.augment,
                seed=seed,
                cache=True,
            )
        return datasets.balanced_batches(
            self._data.train,
            image_size=settings.image_size,
            classes_per_batch=balanced[0],
            images_per_class=balanced[1],
            augment=settings.augment,
            seed=seed,
        )

    def train_as_tested(self, settings: Settings) -> Any:
        """As `Source.train_as_tested`."""
        return datasets.batches(
            self._data.train,
            image_size=settings.image_size,
            batch_size=settings.batch_size,
            training=False,
        )

    def test(self, settings: Settings) -> Any:
        """As `Source.test`; the crops are kept in memory."""
        if self._test is None:
            self._test = datasets.batches(
                self._data.test,
                image_size=settings.image_size,
                batch_size=settings.batch_size,
                training=False,
                cache=True,
            )
        return self._test

    def frozen(
        self, settings: Settings, frozen: keras.Model, cache: FeatureCache
    ) -> FrozenFeatures:
        """As `Source.frozen`."""
        data = self._data
        _refuse_what_needs_memory(settings)

        def compute() -> Arrays:
            views = []
            for number in range(settings.views):
                images = augmented(
                    data.train, settings.image_size, settings.augment, number
                )
                view = batched(images, settings.batch_size, False)
                views.append(compute_features(frozen, view)[0])
            train = compute_features(frozen, self.train_as_tested(settings))
            test = compute_features(frozen, self.test(settings))
            return {
                "views": np.stack(views),
                "plain": np.concatenate([train[0], test[0]]),
                "labels": np.concatenate([train[1], test[1]]),
            }

        arrays = cache.arrays(self._digest, settings, compute)
        images = np.arange(data.train_size + data.test_size)
        return FrozenFeatures(
            **arrays,
            train_images=images[: data.train_size],
            test_images=images[data.train_size :],
        )


class PhotosOnDevice:
    """Decoded photos that lie on the device, and are cut and varied there.

    They are decoded when they are first needed, and stand in one array as
    high and as wide as the largest of them, each at its upper left.

    Args:
        photos: The photos.
        crop_to_boxes: Whether each is cut to its bounding box.
    """

    def __init__(
        self, photos: datasets.Photos, *, crop_to_boxes: bool = False
    ) -> None:
        self._photos = photos
        self._crop_to_boxes = crop_to_boxes

    def __len__(self) -> int:
        return len(self._photos.labels)

    @property
    def digest(self) -> str:
        """Says which photos they are, and how they are cut."""
        return f"{self._photos.digest}{' boxes' * self._crop_to_boxes}"

    @functools.cached_property
    def _decoded(self) -> list[npt.NDArray[np.uint8]]:
        return self._photos.decode(crop_to_boxes=self._crop_to_boxes)

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Height and width of each photo `(photos, 2)`."""
        return np.array([photo.shape[:2] for photo in self._decoded])

    @functools.cached_property
    def _lookup(self) -> Lookup:
        height, width = self.sizes.max(axis=0)
        pixels = np.zeros((len(self), height, width, 3), np.uint8)
        for row, photo in zip(pixels, self._decoded, strict=True):
            row[: photo.shape[0], : photo.shape[1]] = photo
        del self._decoded  # The array has them now.
        return Lookup(pixels, name="photos")

    def front(self, settings: Settings) -> keras.Model:
        """From numbers of photos, their boxes and shares to images.

        With `mixup` the batches hold the shares too.
        """
        numbers = keras.Input((), dtype="int32", name="photo")
        boxes = keras.Input((4,), name="box")
        inputs = [numbers, boxes]
        images = CropAndResize(settings.image_size)(
            self._lookup(numbers), boxes
        )
        if settings.color:
            images = _varied_colors(images, settings.color)
        if settings.mixup:
            inputs.append(keras.Input((), name="share"))
            images = MixPairs(dtype="float32")(images, inputs[-1])
        return keras.Model(inputs, images, name="front")


class PhotoSplit:
    """Some photos to train on and others to test on.

    Args:
        photos: Where they are.
        labels: The class of each photo, in [0, num_classes) where it is
            trained on.
        train: Numbers of the photos to train on.
        test: Numbers of the photos to test on.
        num_classes: Number of classes.
    """

    def __init__(
        self,
        photos: PhotosOnDevice,
        labels: npt.NDArray[np.int32],
        train: npt.NDArray[np.int64],
        test: npt.NDArray[np.int64],
        num_classes: int,
    ) -> None:
        self.num_classes = num_classes
        self._photos = photos
        self._labels = labels
        self._train = train
        self._test = test

    def front(self, settings: Settings) -> keras.Model:
        """As `PhotosOnDevice.front`."""
        return self._photos.front(settings)

    def train(
        self,
        settings: Settings,
        seed: int,
        balanced: tuple[int, int] | None = None,
    ) -> TrainingBatches:
        """As `Source.train`."""
        classes = np.eye(self.num_classes, dtype="float32")

        def draw(
            samples: npt.NDArray[np.int64], generator: np.random.Generator
        ) -> tuple[Any, ...]:
            boxes = self._boxes(settings, samples, generator)
            if not settings.mixup:
                return (boxes,)
            alpha = settings.mixup
            shares = generator.beta(alpha, alpha, size=len(samples))
            return boxes, shares.astype("float32")

        def fetch(
            samples: npt.NDArray[np.int64],
            labels: npt.NDArray[np.int32],
            *drawn: npt.NDArray[np.float32],
        ) -> tuple[Any, Any]:
            if settings.mixup:
                own = drawn[1][:, None]
                labels = classes[labels]
                labels = own * labels + (1 - own) * labels[::-1]
            return (samples.astype("int32"), *drawn), labels

        return TrainingBatches(
            self._train,
            self._labels[self._train],
            batch_size=settings.batch_size,
            seed=seed,
            draw=draw,
            fetch=fetch,
            balanced=balanced,
        )

    def train_as_tested(self, settings: Settings) -> OrderedBatches:
        """As `Source.train_as_tested`."""
        return self._ordered(settings, self._train)

    def test(self, settings: Settings) -> OrderedBatches:
        """As `Source.test`."""
        return self._ordered(settings, self._test)

    def frozen(
        self, settings: Settings, frozen: keras.Model, cache: FeatureCache
    ) -> FrozenFeatures:
        """As `Source.frozen`; of all photos, for every split of them."""
        photos = np.arange(len(self._photos))

        def compute() -> Arrays:
            front = self.front(settings)
            views = []
            for number in range(settings.views):
                generator = np.random.default_rng(number)
                boxes = self._boxes(settings, photos, generator)
                view = self._ordered(settings, photos, boxes)
                features = compute_features(frozen, view, front, varied=True)
                views.append(features[0])
            plain = self._ordered(settings, photos)
            return {
                "views": np.stack(views),
                "plain": compute_features(frozen, plain, front)[0],
            }

        return FrozenFeatures(
            **cache.arrays(self._photos.digest, settings, compute),
            labels=self._labels,
            train_images=self._train,
            test_images=self._test,
        )

    def _boxes(
        self,
        settings: Settings,
        samples: npt.NDArray[np.int64],
        generator: np.random.Generator,
    ) -> npt.NDArray[np.float32]:
        """What is cut out of the photos to train on them."""
        sizes = self._photos.sizes[samples]
        if settings.augment == "flip_crop":
            boxes = training_boxes(sizes, generator)
        else:
            boxes = evaluation_boxes(sizes)
        if settings.augment == "none":
            return boxes
        return mirrored(boxes, generator)

    def _ordered(
        self,
        settings: Settings,
        samples: npt.NDArray[np.int64],
        boxes: npt.NDArray[np.float32] | None = None,
    ) -> OrderedBatches:
        if boxes is None:
            boxes = evaluation_boxes(self._photos.sizes[samples])
        inputs: tuple[npt.NDArray[Any], ...] = (samples.astype("int32"), boxes)
        if settings.mixup:
            inputs += (np.ones(len(samples), "float32"),)
        return OrderedBatches(
            inputs, self._labels[samples], settings.batch_size
        )


def _varied_colors(images: Any, factor: float) -> Any:
    """Varies images in [0, 255] in training, and leaves others alone."""
    # In [0, 1]: Keras clips the saturation at the highest pixel.
    images = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
    images = keras.layers.RandomColorJitter(
        value_range=(0, 1),
        brightness_factor=factor,
        # One number would never lower the contrast.
        contrast_factor=(factor, factor),
        saturation_factor=(0.5 - factor / 2, 0.5 + factor / 2),
        dtype="float32",
    )(images)
    return keras.layers.Rescaling(255, dtype="float32")(images)


def _refuse_what_needs_memory(settings: Settings) -> None:
    for name in ("color", "mixup"):
        if getattr(settings, name):
            raise TrainingError(
                f"--{name} {getattr(settings, name):g}: needs photos in memory"
            )

"""Where the images of a run come from, and in which batches."""

import dataclasses
import functools
import uuid
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_finegrain import datasets
from keras_finegrain.datasets.batching import batched, squares
from keras_finegrain.datasets.crops import (
    evaluation_boxes,
    mirrored,
    training_boxes,
)
from keras_finegrain.training.batches import (
    Batch,
    Inputs,
    Labels,
    Numbers,
    OrderedBatches,
    TrainingBatches,
)
from keras_finegrain.training.crops import CropAndResize, Lookup, MixPairs
from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.frozen import (
    Arrays,
    FeatureCache,
    FrozenFeatures,
    compute_features,
)
from keras_finegrain.training.methods import balanced_batch
from keras_finegrain.training.progress import Steps
from keras_finegrain.training.settings import Settings

Boxes = npt.NDArray[np.float32]


class ImageStream:
    """Images of any number, read and cut by `tf.data` when they are needed.

    Args:
        data: The data set.
        digest: Identifies its images, for features that are kept from run to
            run; by default they are new to every source.

    Raises:
        TrainingError: If the data set has no images to test on.
    """

    def __init__(
        self, data: datasets.ImageDataset, digest: str | None = None
    ) -> None:
        # Where a split that is divided has one image of every class.
        if data.test_size == 0:
            raise TrainingError(
                f"{data.name}: has no images to test on, and a run tells how "
                "good its model is. Add images of some classes, or give "
                "train/ and test/ folders"
            )
        self.num_classes = data.num_classes
        self._data = data
        self._test: Any = None
        # A folder or a TFDS data set may hold other images tomorrow.
        self._digest = digest or uuid.uuid4().hex

    def front(self, settings: Settings) -> None:
        """None: the batches hold images.

        Raises:
            TrainingError: If the settings ask for what only photos in memory
                have.
        """
        option = settings.soft_labels
        if settings.color:
            option = f"color {settings.color:g}"
        if option:
            raise TrainingError(f"--{option}: needs photos in memory")

    def class_counts(self) -> list[int]:
        """Training images of each class; reads all of them once."""
        labels = [
            int(label) for _, label in self._data.train.as_numpy_iterator()
        ]
        return np.bincount(labels, minlength=self.num_classes).tolist()

    def train(self, settings: Settings, seed: int) -> Any:
        """Batches for `fit`, in another order and with other crops each epoch.

        Args:
            settings: Those of the run.
            seed: Seed of the order and the crops.
        """
        balanced = balanced_batch(settings, self.num_classes)
        shared: dict[str, Any] = {
            "image_size": settings.image_size,
            "augment": settings.augment,
            "seed": seed,
        }
        if balanced is None:
            return datasets.batches(
                self._data.train,
                batch_size=settings.batch_size,
                training=True,
                cache=True,
                **shared,
            )
        return datasets.balanced_batches(
            self._data.train,
            classes_per_batch=balanced[0],
            images_per_class=balanced[1],
            **shared,
        )

    def train_as_tested(self, settings: Settings) -> Any:
        """The training images in a fixed order, cut as for testing."""
        return _as_tested(self._data.train, settings)

    def test(self, settings: Settings) -> Any:
        """Batches for `predict`, in a fixed order; the crops are cached."""
        if self._test is None:
            self._test = _as_tested(self._data.test, settings, cache=True)
        return self._test

    def frozen(
        self, settings: Settings, frozen: keras.Model, cache: FeatureCache
    ) -> FrozenFeatures:
        """The output of the frozen part of a backbone, computed once.

        Args:
            settings: Those of the run.
            frozen: From images to features.
            cache: Keeps them for other runs.

        Raises:
            TrainingError: As `front`.
        """
        data = self._data
        self.front(settings)

        def compute(start: Callable[[int], Steps]) -> Arrays:
            train = self.train_as_tested(settings)
            test = self.test(settings)
            views = []
            for number in range(settings.views):
                images = squares(
                    data.train, settings.image_size, settings.augment, number
                )
                views.append(batched(images, settings.batch_size, False))
            passes = [*views, train, test]
            with start(sum(map(len, passes))) as steps:
                found = [
                    compute_features(frozen, batches, advance=steps.advance)
                    for batches in passes
                ]
            return {
                "views": np.stack([features for features, _ in found[:-2]]),
                "plain": np.concatenate([x for x, _ in found[-2:]]),
                "labels": np.concatenate([y for _, y in found[-2:]]),
            }

        images = np.arange(data.train_size + data.test_size)
        return FrozenFeatures(
            **cache.arrays(
                self._digest, settings, compute, pooled=_is_pooled(frozen)
            ),
            train_images=images[: data.train_size],
            test_images=images[data.train_size :],
        )


def _is_pooled(frozen: keras.Model) -> bool:
    """Whether the frozen part ends behind the pooling."""
    return len(frozen.output.shape) == 2


def _as_tested(images: Any, settings: Settings, cache: bool = False) -> Any:
    """Batches in a fixed order, cut as for testing."""
    return datasets.batches(
        images,
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        training=False,
        cache=cache,
    )


@dataclasses.dataclass(eq=False)
class PhotosOnDevice:
    """Decoded photos in the device's memory.

    They are decoded when they are first needed, into one array as high and as
    wide as the largest of them, each at its upper left.

    Attributes:
        photos: The photos.
        crop_to_boxes: Whether each is cut to its bounding box.
    """

    photos: datasets.Photos
    crop_to_boxes: bool = False

    def __len__(self) -> int:
        return len(self.photos.labels)

    @property
    def digest(self) -> str:
        """Identifies the photos and how they are cut."""
        return f"{self.photos.digest}{' boxes' * self.crop_to_boxes}"

    @functools.cached_property
    def _decoded(self) -> list[npt.NDArray[np.uint8]]:
        return self.photos.decode(crop_to_boxes=self.crop_to_boxes)

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Height and width of each photo `(photos, 2)`."""
        return np.array([photo.shape[:2] for photo in self._decoded])

    @functools.cached_property
    def lookup(self) -> Lookup:
        """From numbers of photos to the array's entries."""
        height, width = self.sizes.max(axis=0)
        pixels = np.zeros((len(self), height, width, 3), np.uint8)
        for row, photo in zip(pixels, self._decoded, strict=True):
            row[: photo.shape[0], : photo.shape[1]] = photo
        del self._decoded  # The array holds them now.
        return Lookup(pixels, name="photos")


@dataclasses.dataclass(frozen=True)
class PhotoSplit:
    """Some photos to train on and others to test on.

    Attributes:
        photos: The photos.
        labels: The class of each photo; in [0, num_classes) for those to train
            on.
        train_photos: Numbers of the photos to train on.
        test_photos: Numbers of the photos to test on.
        num_classes: Number of classes.
    """

    photos: PhotosOnDevice
    labels: Labels
    train_photos: Numbers
    test_photos: Numbers
    num_classes: int

    def front(self, settings: Settings) -> keras.Model:
        """From numbers of photos, their boxes and, with `mixup`, shares.

        Raises:
            TrainingError: For the method `"pmg"`, whose model makes jigsaws of
                its inputs, which must be images.
        """
        if settings.method == "pmg":
            raise TrainingError(
                "--method pmg: needs batches of images, from an ImageStream"
            )
        numbers = keras.Input((), dtype="int32", name="photo")
        boxes = keras.Input((4,), name="box")
        inputs = [numbers, boxes]
        images = CropAndResize(settings.image_size)(
            self.photos.lookup(numbers), boxes
        )
        if settings.color:
            images = _varied_colors(images, settings.color)
        if settings.mixup:
            inputs.append(keras.Input((), name="share"))
            images = MixPairs(dtype="float32")(images, inputs[-1])
        return keras.Model(inputs, images, name="front")

    def class_counts(self) -> list[int]:
        """As `ImageStream.class_counts`."""
        labels = self.labels[self.train_photos]
        return np.bincount(labels, minlength=self.num_classes).tolist()

    def train(self, settings: Settings, seed: int) -> TrainingBatches:
        """As `ImageStream.train`."""
        smoothing = settings.label_smoothing
        # A row a class: the label of its images.
        rows = (1 - smoothing) * np.eye(self.num_classes, dtype="float32")
        rows += smoothing / self.num_classes

        def draw(photos: Numbers, rng: np.random.Generator) -> Inputs:
            boxes = self._boxes(settings, photos, rng)
            inputs = (photos.astype("int32"), boxes)
            if not settings.mixup:
                return inputs
            shares = rng.beta(settings.mixup, settings.mixup, len(photos))
            return *inputs, shares.astype("float32")

        def finish(inputs: Inputs, labels: Labels) -> Batch:
            if not settings.soft_labels:
                return inputs, labels
            soft = rows[labels]
            if settings.mixup:
                share = inputs[-1][:, None]
                soft = share * soft + (1 - share) * soft[::-1]
            return inputs, soft

        photos = self.train_photos
        return TrainingBatches(
            photos, self.labels[photos], settings, seed, draw, finish
        )

    def train_as_tested(self, settings: Settings) -> OrderedBatches:
        """As `ImageStream.train_as_tested`."""
        return self._ordered(settings, self.train_photos)

    def test(self, settings: Settings) -> OrderedBatches:
        """As `ImageStream.test`."""
        return self._ordered(settings, self.test_photos)

    def frozen(
        self, settings: Settings, frozen: keras.Model, cache: FeatureCache
    ) -> FrozenFeatures:
        """As `ImageStream.frozen`; of all photos, for every split of them."""
        photos = np.arange(len(self.photos))

        def compute(start: Callable[[int], Steps]) -> Arrays:
            front = self.front(settings)
            plain = self._ordered(settings, photos)
            views = []
            with start((settings.views + 1) * len(plain)) as steps:
                for number in range(settings.views):
                    rng = np.random.default_rng(number)
                    boxes = self._boxes(settings, photos, rng)
                    view = self._ordered(settings, photos, boxes)
                    features = compute_features(
                        *(frozen, view, front),
                        varied=True,
                        advance=steps.advance,
                    )
                    views.append(features[0])
                tested = compute_features(
                    frozen, plain, front, advance=steps.advance
                )
            return {"views": np.stack(views), "plain": tested[0]}

        return FrozenFeatures(
            **cache.arrays(
                *(self.photos.digest, settings, compute),
                pooled=_is_pooled(frozen),
            ),
            labels=self.labels,
            train_images=self.train_photos,
            test_images=self.test_photos,
        )

    def _boxes(
        self, settings: Settings, photos: Numbers, rng: np.random.Generator
    ) -> Boxes:
        """The parts that are cut out of photos to train on."""
        sizes = self.photos.sizes[photos]
        if settings.augment == "flip_crop":
            boxes = training_boxes(sizes, rng)
        else:
            boxes = evaluation_boxes(sizes)
        return boxes if settings.augment == "none" else mirrored(boxes, rng)

    def _ordered(
        self, settings: Settings, photos: Numbers, boxes: Boxes | None = None
    ) -> OrderedBatches:
        if boxes is None:
            boxes = evaluation_boxes(self.photos.sizes[photos])
        inputs: Inputs = (photos.astype("int32"), boxes)
        if settings.mixup:
            inputs += (np.ones(len(photos), "float32"),)
        return OrderedBatches(inputs, self.labels[photos], settings.batch_size)


def _varied_colors(images: Any, factor: float) -> Any:
    """Varies the colors of images in [0, 255], in training alone."""
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


Source = ImageStream | PhotoSplit

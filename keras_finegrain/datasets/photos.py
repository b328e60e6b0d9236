"""Photos in memory, from one file that needs no TensorFlow."""

import dataclasses
import functools
import hashlib
import io
import itertools
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from keras_finegrain._base import checks
from keras_finegrain._base.files import replacing
from keras_finegrain.datasets.crops import squares_around
from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.image_files import opened
from keras_finegrain.datasets.loading import open_splits
from keras_finegrain.datasets.requirements import import_pillow
from keras_finegrain.datasets.selection import (
    Division,
    MissingTestClasses,
    SingleImages,
)

_DIGEST_LENGTH = 16  # hexadecimal digits


# Arrays have no single truth value, so `==` compares identities.
@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
    """Photos of look-alike classes in memory, from one file.

    `prepare` makes them of any data set that `load` reads, and `save` writes
    them into one file. Reading that file and decoding its photos takes NumPy
    and Pillow alone, so a machine without TensorFlow or a network can use it.

    Attributes:
        name: The name or folder of the data set.
        encoded: Each photo as the bytes of an image file. A JPEG takes 20 to
            30 kB where the short side is 256.
        labels: `(photos,)` int32, in [0, num_classes).
        boxes: `(photos, 4)` float32: ymin, xmin, ymax, xmax of the bounding
            box as shares of height and width; NaN where there is none.
        is_test: `(photos,)` bool, True for the photos of the test split.
        class_names: The name of each class; the index is the label.
        keys: What each photo is known by, as in `ImageDataset`. Files that
            were written without give numbers, `"train/12"`.

    Raises:
        ValueError: If the attributes do not describe the same photos.

    Example:
        >>> import io
        >>> import numpy as np
        >>> from PIL import Image
        >>> from keras_finegrain.datasets import Photos
        >>> def flat(color):
        ...     file = io.BytesIO()
        ...     Image.new("RGB", (8, 6), color).save(file, "PNG")
        ...     return file.getvalue()
        >>> photos = Photos(
        ...     name="flags",
        ...     encoded=(flat("red"), flat("blue")),
        ...     labels=np.array([0, 1], "int32"),
        ...     boxes=np.full((2, 4), np.nan, "float32"),
        ...     is_test=np.array([False, True]),
        ...     class_names=("red", "blue"),
        ... )
        >>> [image[0, 0].tolist() for image in photos.decode(photos.is_test)]
        [[0, 0, 255]]
    """

    name: str
    encoded: tuple[bytes, ...] = dataclasses.field(repr=False)
    labels: npt.NDArray[np.int32] = dataclasses.field(repr=False)
    boxes: npt.NDArray[np.float32] = dataclasses.field(repr=False)
    is_test: npt.NDArray[np.bool_] = dataclasses.field(repr=False)
    class_names: tuple[str, ...]
    keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        count = len(self.encoded)
        for field, shape, dtype in (
            ("labels", (count,), np.int32),
            ("boxes", (count, 4), np.float32),
            ("is_test", (count,), np.bool_),
        ):
            array = getattr(self, field)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"Photos: {field} must be {np.dtype(dtype)} of the shape "
                    f"{shape} for {count} photos, received {array.dtype} of "
                    f"the shape {array.shape}"
                )
        if not self.keys:
            places = np.where(
                self.is_test, self.is_test.cumsum(), (~self.is_test).cumsum()
            )
            keys = tuple(
                f"{'test' if is_test else 'train'}/{place - 1}"
                for is_test, place in zip(self.is_test, places, strict=True)
            )
            object.__setattr__(self, "keys", keys)  # It is frozen.
        if len(self.keys) != count:
            raise ValueError(
                f"Photos: keys must hold one text for each of {count} photos, "
                f"received {len(self.keys)}. Leave them out for numbers"
            )
        wrong = self.labels[
            (self.labels < 0) | (self.labels >= self.num_classes)
        ]
        if wrong.size:
            raise ValueError(
                f"Photos: labels must lie in [0, {self.num_classes}), the "
                f"number of class_names, received {wrong[0]}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in [0, num_classes)."""
        return len(self.class_names)

    @functools.cached_property
    def digest(self) -> str:
        """Identifies the photos: results are comparable if it is the same.

        It is the beginning of a SHA-256 of all attributes but `name` and
        `keys`. Photos
        that `prepare` made smaller differ in a few bits between releases of
        Pillow, and so does their digest: copy the file instead.
        """
        content = hashlib.sha256()
        for text in (*self.encoded, *map(str.encode, self.class_names)):
            content.update(hashlib.sha256(text).digest())
        for array in (self.labels, self.boxes, self.is_test):
            content.update(array.tobytes())
        return content.hexdigest()[:_DIGEST_LENGTH]

    @classmethod
    def prepare(
        cls,
        name: str | os.PathLike[str],
        *,
        short_side: int = 256,
        data_dir: str | os.PathLike[str] | None = None,
        classes: str | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
        quality: int = 90,
        splits: Sequence[str] | None = None,
        missing_test_classes: MissingTestClasses = "error",
        single_images: SingleImages = "error",
    ) -> Self:
        """Reads a data set as `load` does, and makes its photos small.

        A photo whose short side has at most `short_side` pixels keeps its
        bytes as they are, whatever their format. Others are resized to that
        short side, their aspect kept, and become JPEG. The training photos
        come first, in the order of the data set, then those for testing.
        Every photo is decoded, so a damaged one is found here. This alone
        needs TensorFlow.

        Args:
            name: As in `load`: a TFDS data set, `"synthetic_birds"` or a
                folder.
            short_side: Pixels of the short side, at least 1. The default is
                what crops of 224 pixels are taken from.
            data_dir: As in `load`.
            classes: As in `load`.
            test_fraction: As in `load`.
            seed: As in `load`.
            quality: Quality of the JPEGs that are written, from 1 to 95. The
                default of 90 takes a quarter fewer bytes than 95.
            splits: As in `load`.
            missing_test_classes: As in `load`.
            single_images: As in `load`.

        Returns:
            The photos, with bounding boxes where the data set has the
            feature `bbox`.

        Raises:
            DatasetError: In one line, for whatever is wrong with the data
                set; it names the photo that cannot be decoded.
            MissingPackageError: A `DatasetError`, if a package is missing.
            ValueError: If `short_side` or `quality` is out of its range.

        Example:
            >>> from keras_finegrain.datasets import Photos
            >>> birds = Photos.prepare("synthetic_birds")  # doctest: +SKIP
            >>> birds.save("birds.npz")  # doctest: +SKIP
        """
        checks.positive_integer("Photos.prepare", "short_side", short_side)
        checks.positive_integer("Photos.prepare", "quality", quality)
        if quality > 95:
            raise ValueError(
                "Photos.prepare: quality must lie in [1, 95] (above, JPEG "
                f"files grow and gain nothing), received quality={quality}"
            )
        import_pillow()
        found = open_splits(
            name,
            data_dir,
            classes,
            Division(
                test_fraction,
                seed,
                missing_test_classes=missing_test_classes,
                single_images=single_images,
            ),
            splits=splits,
        )
        train, test = found.train, found.test
        encoded: list[bytes] = []
        boxes: list[npt.NDArray[np.float32]] = []
        no_box = np.full(4, np.nan, np.float32)
        for records in (train, test):
            for example in records.examples().as_numpy_iterator():
                photo, origin = example["encoded"], example["origin"].decode()
                encoded.append(_made_small(photo, origin, short_side, quality))
                boxes.append(example.get("bbox", no_box))
        labels = np.concatenate([train.labels, test.labels])
        return cls(
            name=str(name),
            encoded=tuple(encoded),
            labels=labels.astype(np.int32),
            boxes=np.array(boxes, np.float32),
            is_test=np.arange(labels.size) >= train.labels.size,
            class_names=found.class_names,
            keys=(*train.keys, *test.keys),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one file, which `load` reads.

        It is an uncompressed `.npz`: the photos are compressed already.

        Args:
            path: The file. A missing folder is made, an existing file
                replaced when the new one is whole.

        Raises:
            OSError: If the file cannot be written.
        """
        path = pathlib.Path(path).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(
                file,
                name=np.array(self.name),
                encoded=np.frombuffer(b"".join(self.encoded), np.uint8),
                ends=np.cumsum([len(photo) for photo in self.encoded]),
                labels=self.labels,
                boxes=self.boxes,
                is_test=self.is_test,
                class_names=np.array(self.class_names),
                keys=np.array(self.keys, str),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a file that `save` wrote.

        Args:
            path: The file.

        Raises:
            DatasetError: If the file does not exist, was not written by
                `save`, or is damaged.
        """
        path = pathlib.Path(path).expanduser()
        try:
            with np.load(path, allow_pickle=False) as file:
                encoded = file["encoded"].tobytes()
                ends = file["ends"].tolist()
                return cls(
                    name=str(file["name"]),
                    encoded=tuple(
                        encoded[start:end]
                        for start, end in itertools.pairwise([0, *ends])
                    ),
                    labels=file["labels"],
                    boxes=file["boxes"],
                    is_test=file["is_test"],
                    class_names=tuple(file["class_names"].tolist()),
                    keys=tuple(file["keys"].tolist()) if "keys" in file else (),
                )
        except OSError as error:
            raise DatasetError(
                f"The photos {str(path)!r} cannot be read "
                f"({error.strerror or error}): make the file with "
                "Photos.prepare(name).save(path)"
            ) from error
        except Exception as error:
            # A damaged archive may raise almost anything.
            raise DatasetError(
                f"{str(path)!r} is damaged or no file of photos: make it anew "
                "with Photos.prepare(name).save(path)"
            ) from error

    def decode(
        self,
        indices: Sequence[int] | npt.NDArray[Any] | None = None,
        *,
        crop_to_boxes: bool = False,
    ) -> list[npt.NDArray[np.uint8]]:
        """Decodes photos to RGB, on all cores.

        Grayscale is repeated over the three channels, an alpha channel is
        dropped, and of an animation the first frame is taken. Photos are
        turned as their EXIF orientation says.

        Args:
            indices: Which photos, as NumPy indexes: integers, or a mask such
                as `is_test`; None for all.
            crop_to_boxes: Cut each photo to the square around its bounding
                box, as `load` does with `crop_to_bbox=True`.

        Returns:
            uint8 arrays `(height, width, 3)`, in the order of `indices`.

        Raises:
            DatasetError: If a photo cannot be decoded or, with
                `crop_to_boxes=True`, has no bounding box.
            MissingPackageError: A `DatasetError`, if Pillow is missing.
            IndexError: If there is no photo of an index.
        """
        checks.boolean("Photos.decode", "crop_to_boxes", crop_to_boxes)
        import_pillow()
        chosen = np.arange(len(self.encoded))
        try:
            if indices is not None:
                chosen = chosen[np.asarray(indices)]
        except IndexError as error:
            raise IndexError(
                "Photos.decode: indices must be integers below "
                f"{len(self.encoded)}, the number of photos, or a mask of "
                f"that length: {error}"
            ) from error
        if crop_to_boxes:
            self._check_boxes(chosen)

        def decoded(index: int) -> npt.NDArray[np.uint8]:
            image = opened(self.encoded[index], self._origin(index))
            if crop_to_boxes:
                size = (image.height, image.width)
                square = squares_around(self.boxes[[index]], [size])[0]
                top, left, bottom, right = square.astype(int).tolist()
                image = image.crop((left, top, right, bottom))
            return np.array(image)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(decoded, chosen.tolist()))

    def _check_boxes(self, chosen: npt.NDArray[np.int_]) -> None:
        without = chosen[np.isnan(self.boxes[chosen]).any(axis=1)]
        if without.size:
            raise DatasetError(
                "Photos.decode: crop_to_boxes=True needs a bounding box for "
                f"every photo, and {without.size} of {chosen.size} have none, "
                f"such as {self._origin(without[0])}: leave those out of "
                "indices, or decode whole photos"
            )

    def _origin(self, index: int) -> str:
        return f"{self.name}, photo {index}"


def _made_small(
    encoded: bytes, origin: str, short_side: int, quality: int
) -> bytes:
    """Returns the bytes of a photo whose short side is `short_side` at most."""
    image = opened(encoded, origin)
    if min(image.size) <= short_side:
        return encoded
    scale = short_side / min(image.size)
    size = tuple(round(side * scale) for side in image.size)
    file = io.BytesIO()
    # Lanczos is the sharpest: a second resize follows in training.
    image.resize(size, import_pillow().Resampling.LANCZOS).save(
        file, "JPEG", quality=quality
    )
    return file.getvalue()

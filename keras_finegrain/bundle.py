"""A trained model with all that an answer needs, in one folder."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_finegrain._base import checks
from keras_finegrain._base.arrays import softmax
from keras_finegrain._base.files import replacing_path
from keras_finegrain.gallery import Gallery
from keras_finegrain.gallery.embedder import as_paths

MODEL, GALLERY, TESTED = "model.keras", "gallery.npz", "tested.npz"
_DESCRIPTION = "bundle.json"
_FORMAT = 1


@dataclasses.dataclass(eq=False)
class Bundle:
    """A trained model with its class names, image size and gallery.

    `keras-finegrain train` writes one for each method; the other commands
    need nothing else. `save` and `load` keep it in a folder: `model.keras`,
    `bundle.json` and, with a gallery, `gallery.npz`.

    Attributes:
        model: From images `(n, image_size, image_size, 3)` in [0, 255] to
            scores `(n, classes)`.
        class_names: The name of each class that the model has a score for.
        image_size: Height and width of the images, in pixels. Photos are cut
            and resized to it as `datasets.read_images` does.
        temperature: What the scores are divided by before the softmax, so
            that the probabilities hold (`metrics.fit_temperature`). `None` if
            the model gives probabilities.
        gallery: A `Gallery` of known photos, for `identify` and `similar`, or
            `None`. It may know more classes than the model.
        about: What else is worth knowing, as JSON has words for it: method,
            settings, data, versions.

    Raises:
        TypeError: If `model` is no Keras model or `about` no dict.
        ValueError: If class names, size or temperature do not fit the model.

    Example:

    >>> import tempfile
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Rescaling(1 / 255),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> bundle = Bundle(model, ("gull", "tern"), image_size=8, temperature=2.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bundle.save(folder)
    ...     again = Bundle.load(folder)
    >>> again.class_names, again.predict(np.zeros((1, 8, 8, 3))).tolist()
    (('gull', 'tern'), [[0.5, 0.5]])
    """

    model: keras.Model
    class_names: Sequence[str]
    image_size: int
    temperature: float | None = None
    gallery: Any = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        who = "Bundle"
        if not isinstance(self.model, keras.Model):
            raise TypeError(
                f"{who}: model must be a Keras model, received "
                f"{checks.shown(self.model)}."
            )
        if not isinstance(self.about, dict):
            raise TypeError(
                f"{who}: about must be a dict, received "
                f"{checks.shown(self.about)}."
            )
        self.class_names = (
            checks.names_or_none(who, "class_names", self.class_names) or ()
        )
        size = checks.positive_integer(who, "image_size", self.image_size)
        self.image_size = size
        if self.temperature is not None:
            self.temperature = checks.number(
                who, "temperature", self.temperature, above=0
            )
        expected, received = (None, size, size, 3), self.model.input_shape
        if received not in (expected, (None, None, None, 3)):
            raise ValueError(
                f"{who}: image_size must be that of the model, whose input "
                f"is {received}, received {size}."
            )
        scores = self.model.output_shape
        if len(scores) != 2 or scores[1] != len(self.class_names):
            raise ValueError(
                f"{who}: class_names must have one name for each score, "
                f"received {len(self.class_names)} names for a model whose "
                f"output is {scores}."
            )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the bundle into a folder, which is made if it is missing.

        Args:
            folder: The folder. Of a bundle that is there, the files are
                replaced; other files stay.

        Raises:
            OSError: If the folder cannot be written to; the bundle that was
                there stays.
        """
        folder = pathlib.Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "format": _FORMAT,
            "class_names": list(self.class_names),
            "image_size": self.image_size,
            "temperature": self.temperature,
            "about": self.about,
        }
        # ASCII: paths in it need not be UTF-8.
        text = json.dumps(description, indent=2)
        # On a full disk the earlier bundle stays.
        with (
            replacing_path(folder / _DESCRIPTION) as described,
            replacing_path(folder / MODEL) as model,
        ):
            described.write_text(text, "utf-8")
            self.model.save(model)
            if self.gallery is None:
                (folder / GALLERY).unlink(missing_ok=True)
            else:
                self.gallery.save(folder / GALLERY)
            # It comes back last: no description stands beside half a bundle.
            (folder / _DESCRIPTION).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a bundle that `save` or a run of the command wrote.

        Args:
            path: The folder of a bundle; or that of a run, which holds one
                bundle for each method: then the one whose model is right on
                the largest share of the run's test photos.

        Raises:
            ValueError: If there is no bundle, or it cannot be read.
        """
        folder = bundle_folder(path)
        description = _read_description(folder)
        try:
            model = keras.models.load_model(folder / MODEL, compile=False)
        except Exception as error:
            # A damaged archive, or a layer that is not imported: anything.
            raise ValueError(
                f"Bundle.load: {folder / MODEL} cannot be read "
                f"({checks.shown(str(error))}). If its model has layers of "
                "your own, import them first; else train again."
            ) from error
        gallery = None
        if (folder / GALLERY).is_file():
            gallery = Gallery.load(folder / GALLERY, model)
        return cls(
            model=model,
            class_names=tuple(description["class_names"]),
            image_size=description["image_size"],
            temperature=description["temperature"],
            gallery=gallery,
            about=description["about"],
        )

    def predict(self, photos: Any, batch_size: int = 32) -> np.ndarray:
        """The probability of each class, for each photo.

        Args:
            photos: An array of images `(n, size, size, 3)` or
                `(size, size, 3)` in [0, 255]; or the path of a photo or of a
                folder of them, or a list of paths.
            batch_size: Photos in a batch. Defaults to 32.

        Returns:
            float32 `(n, classes)`; the rows sum to 1.

        Raises:
            ValueError: If a photo cannot be read or has another shape.
        """
        from keras_finegrain import datasets

        who = "Bundle.predict"
        batch_size = checks.positive_integer(who, "batch_size", batch_size)
        paths = as_paths(photos)
        images: Any = paths or self._images(who, photos)
        rows = [np.zeros((0, len(self.class_names)), "float32")]
        # Paths are read a batch at a time: 10,000 photos take 6 GB.
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            if paths:
                batch = datasets.read_images(batch, self.image_size)
            rows.append(self.probabilities(self.model.predict_on_batch(batch)))
        return np.concatenate(rows)

    def probabilities(self, scores: Any) -> np.ndarray:
        """The probabilities of the model's scores `(n, classes)`."""
        scores = np.asarray(scores, "float64")
        if self.temperature is None:
            return scores.astype("float32")
        return softmax(scores / self.temperature).astype("float32")

    def identify(self, photos: Any, k: int = 5) -> list[Any]:
        """The class of each photo or "unknown": `Gallery.identify`."""
        return self._gallery("identify").identify(photos, k=k)

    def similar(self, photos: Any, k: int = 5) -> list[Any]:
        """The known photos nearest to each photo: `Gallery.search`."""
        return self._gallery("similar").search(photos, k=k)

    def add(
        self,
        photos: Any,
        class_name: str,
        keys: Sequence[str] | None = None,
    ) -> None:
        """Adds photos of a class, new or known, to the gallery.

        The model is not trained: `identify` and `similar` know the class from
        now on, `predict` does not. `save` keeps it.
        """
        self._gallery("add").add(photos, class_name, keys=keys)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str,
        *,
        embedding: bool = False,
        **options: Any,
    ) -> Any:
        """Writes the model for an app: `keras_finegrain.export`.

        The class names and the temperature go with it; in the metadata, under
        "gallery", what an app needs that searches in the gallery's vectors by
        the embedding: `class_names` with those that were added, which are not
        in the model's scores, the `threshold` for unknown photos, the
        `temperature` of the similarities and the `bandwidth`.

        Args:
            path: As in `keras_finegrain.export`.
            format: Likewise.
            embedding: Likewise.
            **options: Its other arguments; `metadata` is added to the above.

        Returns:
            The path.
        """
        import keras_finegrain

        metadata: dict[str, Any] = {}
        if self.gallery is not None:
            metadata["gallery"] = {
                name: getattr(self.gallery, name)
                for name in (
                    *("class_names", "threshold", "temperature"),
                    "bandwidth",
                )
            }
        if (more := options.pop("metadata", None)) is not None:
            # (Of another type: its error is that of export.)
            metadata = metadata | more if isinstance(more, dict) else more
        return keras_finegrain.export(
            self.model,
            path,
            format,
            embedding=embedding,
            temperature=self.temperature,
            class_names=self.class_names,
            metadata=metadata,
            **options,
        )

    def _gallery(self, who: str) -> Any:
        if self.gallery is None:
            raise ValueError(
                f"Bundle.{who}: the bundle has no gallery. Make one: "
                "bundle.gallery = keras_finegrain.Gallery.of(bundle.model, "
                "data, class_names=bundle.class_names)."
            )
        return self.gallery

    def _images(self, who: str, photos: Any) -> np.ndarray:
        images = checks.real_array(who, "photos", photos)
        images = images[None] if images.ndim == 3 else images
        size = self.image_size
        if images.shape[1:] != (size, size, 3):
            raise ValueError(
                f"{who}: photos must be paths, or images of the shape (n, "
                f"{size}, {size}, 3), received {images.shape}. For photos of "
                "any size pass their paths, or use datasets.read_images."
            )
        return images.astype("float32", copy=False)


def bundle_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """The folder of a bundle, or of the best bundle of a run.

    Raises:
        ValueError: If there is none.
    """
    folder = pathlib.Path(path).expanduser()
    if (folder / _DESCRIPTION).is_file():
        return folder
    found = bundles_in(folder)
    if not found:
        raise ValueError(
            f"Bundle.load: path must be the folder of a bundle (with a "
            f"{_DESCRIPTION}) or of a run, received {str(path)!r}. "
            '"keras-finegrain train photos/" writes one.'
        )
    return max(found, key=accuracy_on_test)


def bundles_in(run: pathlib.Path) -> list[pathlib.Path]:
    """The folders of a run's bundles, by name."""
    return sorted(each.parent for each in run.glob(f"*/{_DESCRIPTION}"))


def accuracy_on_test(folder: pathlib.Path) -> float:
    """The share of the run's test photos that a bundle is right on; or -1."""
    if not (folder / TESTED).is_file():
        return -1.0
    with np.load(folder / TESTED, allow_pickle=False) as tested:
        return float(np.mean(tested["scores"].argmax(1) == tested["labels"]))


def named_right(
    gallery: Gallery,
    embeddings: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> np.ndarray:
    """Whether `identify` gives each photo its name, known or not."""
    answers = gallery.identify_embeddings(embeddings)
    names = np.array([answer.class_name for answer in answers])
    return names == np.array(class_names)[labels]


def _read_description(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    try:
        description = json.loads(path.read_text("utf-8"))
        version = description["format"]
        for name in ("class_names", "image_size", "temperature", "about"):
            description[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Bundle.load: {path} is damaged or no description of a bundle. "
            "Write it anew with Bundle.save, or train again."
        ) from error
    if version != _FORMAT:
        raise ValueError(
            f"Bundle.load: {path} has the format {checks.shown(version)}, "
            f"and this version of keras_finegrain reads {_FORMAT}. Update "
            "keras_finegrain."
        )
    return description

"""A model's embeddings of photos, as unit vectors."""

import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.checks import positive_integer, real_array
from keras_finegrain.distribution import scope_of
from keras_finegrain.embedding import embed, embedding_model
from keras_finegrain.metrics.embedding_set import unit_rows

# Side of the images for a model that takes any.
_ANY_SIDE = 96


class Embedder:
    """The part of a model that makes the embedding.

    Args:
        model: A functional or sequential model of one input.
        layer: As in `embedding_model`.
        batch_size: Photos in a batch.
    """

    def __init__(
        self,
        model: keras.Model,
        layer: str | keras.layers.Layer | None,
        batch_size: int,
    ) -> None:
        self._batch_size = positive_integer("Gallery", "batch_size", batch_size)
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"Gallery: model must be a Keras model, received {model!r:.80}."
            )
        found = embedding_model(model, layer)
        if len(found.inputs) != 1:
            raise ValueError(
                "Gallery: model must have one input, received "
                f"{len(found.inputs)}: "
                f"{[tensor.name for tensor in found.inputs]}. Pass "
                "keras.Model(photo, embedding) of the input that is the photo."
            )
        self._input = found.inputs[0]
        # (Of a list of one input Keras warns where it is given an array.)
        with scope_of(model):
            self._model = keras.Model(self._input, found.outputs[0])

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self._model.output_shape[-1])

    def of_data(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors and integer labels of data with labels."""
        embeddings, labels = embed(self._model, data, self._batch_size)
        return unit_vectors(embeddings), labels.astype(np.int64)

    def of_photos(self, who: str, photos: Any) -> np.ndarray:
        """Unit vectors of an array of photos, of one photo or of files."""
        if paths := as_paths(photos):
            self._check_square(who)
            # Memory holds the photos of one batch.
            batches = (
                self._read(paths[start : start + self._batch_size])
                for start in range(0, len(paths), self._batch_size)
            )
        else:
            photos = self._checked(who, photos)
            batches = (
                photos[start : start + self._batch_size]
                for start in range(0, len(photos), self._batch_size)
            )
        nothing = np.zeros((0, self.dim), np.float32)
        return unit_vectors(
            np.concatenate([nothing, *map(self._embedded, batches)])
        )

    def _embedded(self, batch: np.ndarray) -> np.ndarray:
        # Few sizes, so that few are compiled; one photo costs one. (`predict`
        # makes a data set for each call, which takes as long as many photos.)
        size = 1 << (len(batch) - 1).bit_length()
        padded = np.resize(batch, (size, *batch.shape[1:]))
        return np.asarray(self._model.predict_on_batch(padded)[: len(batch)])

    def _checked(self, who: str, photos: Any) -> np.ndarray:
        """The photos as an array of what the model takes."""
        photos = real_array(who, "photos", photos)
        shape = tuple(self._input.shape[1:])
        if photos.ndim == len(shape):
            photos = photos[None]
        fits = photos.ndim == len(shape) + 1 and all(
            want in (None, have)
            for want, have in zip(shape, photos.shape[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"{who}: photos must be what the model takes, an array "
                f"(photos, *{shape}) or one photo {shape}, or files, received "
                f"{photos.shape}."
            )
        return photos

    def _check_square(self, who: str) -> None:
        shape = tuple(self._input.shape[1:])
        square = len(shape) == 3 and shape[0] == shape[1] and shape[2] == 3
        if not square or shape[0] is None:
            raise ValueError(
                f"{who}: photos must be arrays for a model whose input is not "
                f"a square colour image of one size, received files and an "
                f"input {shape}. Read them as the model takes them and pass "
                "the array."
            )

    def _read(self, paths: list[str]) -> np.ndarray:
        from keras_finegrain.datasets import read_images

        return np.asarray(read_images(paths, self._input.shape[1]))

    def fingerprint(self) -> np.ndarray:
        """The embedding of fixed noise, by which models are told apart."""
        shape = [
            _ANY_SIDE if side is None else side
            for side in self._input.shape[1:]
        ]
        noise = np.random.default_rng(0).integers(0, 256, (2, *shape))
        if "int" in keras.backend.standardize_dtype(self._input.dtype):
            noise %= 2  # a token that every vocabulary has
        embeddings = self._model.predict(
            noise.astype(self._input.dtype), verbose=0
        )
        return np.asarray(embeddings, np.float32)


def as_paths(photos: Any) -> list[str]:
    """The files of a path, a folder or a list of paths; else empty."""
    if isinstance(photos, (str, os.PathLike)):
        path = os.path.expanduser(photos)
        if not os.path.isdir(path):
            return [path]
        from keras_finegrain.datasets import image_paths

        return image_paths(path)
    if not isinstance(photos, Iterable) or hasattr(photos, "dtype"):
        return []
    paths = list(photos)
    if not all(isinstance(path, (str, os.PathLike)) for path in paths):
        return []
    return [os.fspath(path) for path in paths]


def unit_vectors(embeddings: Any, who: str = "Gallery") -> np.ndarray:
    """Embeddings scaled to length 1, float32; one of zeros stays zero.

    Raises:
        ValueError: If an embedding is NaN or infinite.
    """
    vectors = real_array(who, "embeddings", embeddings)
    if vectors.ndim != 2:
        raise ValueError(
            f"{who}: embeddings must have the shape (photos, dim), received "
            f"{vectors.shape}."
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{who}: embeddings must be finite, received NaN or infinity for "
            f"{np.sum(~finite)} of {len(finite)} photos, first for number "
            f"{np.argmin(finite)}. Look at that photo, and at whether the "
            "model's training went to NaN."
        )
    return unit_rows(vectors.astype(np.float32))

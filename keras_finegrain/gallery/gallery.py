"""Known photos, their classes and the model that compares them."""

import collections
import difflib
import math
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_finegrain._base import checks
from keras_finegrain._base.arrays import softmax
from keras_finegrain._base.checks import number, one_of, positive_integer
from keras_finegrain._base.files import as_path
from keras_finegrain.gallery import stored
from keras_finegrain.gallery.answers import Answer, Candidate, Match
from keras_finegrain.gallery.embedder import Embedder, as_paths, unit_vectors
from keras_finegrain.gallery.index import INDICES
from keras_finegrain.gallery.qdrant import upload
from keras_finegrain.gallery.scores import NEAREST, class_scores
from keras_finegrain.labels.forms import integer_labels
from keras_finegrain.metrics.calibration import fit_temperature
from keras_finegrain.metrics.embedding_set import unit_rows

# As docs/unknown.md measured.
BANDWIDTH = 0.2
# Photos that are compared with all classes at a time.
_CHUNK = 256
# How far the embedding of fixed noise may lie from the saved one, as a share
# of its length: backends and half precision differ by less than 0.01.
_TOLERANCE = 0.02
# How far two unit vectors of one photo may lie apart: batches of several
# sizes differ by less.
_SAME = 1e-5


class Gallery:
    """Known photos, by which new ones are named.

    Each photo is known by its embedding, scaled to length 1. A new photo is
    compared with the known ones by the cosine of the embeddings. How like it
    is to a class is its cosine to a mean of the class's photos, in which each
    has the weight `exp(cosine to the new photo / bandwidth)`: a female is
    compared with a mean of females, mostly. (The prototype that attends to the
    query, of Doersch et al., "CrossTransformers", 2020, without its places in
    the image.) A class is added without training, from few photos.

    `Gallery.of` makes one from data, `Gallery.load` from a file. Several
    threads may use one gallery at once.

    Memory holds `4 · dim` bytes for each photo and its key, about 300 bytes;
    the approximate search another 300.

    Args:
        model: A functional or sequential model that takes photos.
        layer: The layer whose output is the embedding, or its name. Defaults
            to the input of the head, as in `embedding_model`.
        index: `"exact"` compares a photo with every known one;
            `"approximate"` searches a graph (HNSW), for some hundred thousand
            photos and more. Defaults to `"exact"`.
        bandwidth: Of two photos of a class, the one whose cosine is larger by
            this much has e = 2.7 times the weight. At least 0.001, which
            compares with the nearest photo of a class alone; 100 compares with
            the plain mean. Defaults to 0.2, as `docs/unknown.md` has measured.
        batch_size: Photos in a batch. Defaults to 32.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If the model is none.
        ValueError: If the model has no embedding or several inputs, or an
            argument is out of its range.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> red, blue = np.zeros((2, 3, 8, 8, 3), "float32")
    >>> red[..., 0], blue[..., 2] = 200, 200
    >>> photos, labels = np.concatenate([red, blue]), [0, 0, 0, 1, 1, 1]
    >>> gallery = keras_finegrain.Gallery.of(
    ...     model, (photos, np.array(labels)), ["red", "blue"]
    ... )
    >>> gallery
    <Gallery of 6 photos, 2 classes>
    >>> gallery.identify(red[0] * 0.9)[0].class_name
    'red'
    >>> gallery.add(255 - red[:2], "cyan")
    ('6', '7')
    >>> gallery.identify(255 - red[0])[0].class_name
    'cyan'
    """

    def __init__(
        self,
        model: keras.Model,
        layer: str | keras.layers.Layer | None = None,
        *,
        index: str = "exact",
        bandwidth: float = BANDWIDTH,
        batch_size: int = 32,
    ) -> None:
        self._kind = one_of("Gallery", "index", index, list(INDICES))
        self._bandwidth = number(
            "Gallery", "bandwidth", bandwidth, at_least=0.001
        )
        self._embedder = Embedder(model, layer, batch_size)
        self._layer = getattr(layer, "name", layer)
        self._index = INDICES[self._kind](self._embedder.dim)
        self._lock = threading.RLock()
        self._keys: list[str] = []
        self._known: set[str] = set()
        # Row by row; the classes are numbered as in _names.
        self._classes = np.zeros(0, np.int64)
        self._names: list[str] = []
        self._sums = np.zeros((0, self._index.dim))
        # What the labels of data mean.
        self._label_names: tuple[str, ...] = ()
        self._next_key = 0
        self._threshold: float | None = None
        self._temperature: float | None = None

    @classmethod
    def of(
        cls,
        model: keras.Model,
        data: Any,
        class_names: Sequence[str] | None = None,
        *,
        keys: Sequence[str] | None = None,
        layer: str | keras.layers.Layer | None = None,
        index: str = "exact",
        bandwidth: float = BANDWIDTH,
        batch_size: int = 32,
    ) -> Self:
        """A gallery of data with labels.

        Args:
            model: As in `Gallery`.
            data: Arrays `(x, y)`, or anything that gives batches `(x, y)`: a
                `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch
                `DataLoader`. It is read once.
            class_names: Name of the class of each label. Defaults to "class
                0", "class 1", …
            keys: One string for each photo, all different, by which answers
                name it: its path. Defaults to "0", "1", …
            layer: As in `Gallery`.
            index: As in `Gallery`.
            bandwidth: As in `Gallery`.
            batch_size: Photos in a batch, for arrays. Defaults to 32.

        Raises:
            ImportError: If faiss is not installed.
            TypeError: If the model or the data is none.
            ValueError: If an argument does not fit the data, two keys or two
                names are equal, or an embedding is NaN.
        """
        gallery = cls(
            model,
            layer,
            index=index,
            bandwidth=bandwidth,
            batch_size=batch_size,
        )
        vectors, labels = gallery._embedder.of_data(data)
        gallery._fill("Gallery.of", vectors, labels, class_names, keys)
        return gallery

    @classmethod
    def of_embeddings(
        cls,
        model: keras.Model,
        embeddings: Any,
        labels: Any,
        class_names: Sequence[str] | None = None,
        *,
        keys: Sequence[str] | None = None,
        layer: str | keras.layers.Layer | None = None,
        index: str = "exact",
        bandwidth: float = BANDWIDTH,
        batch_size: int = 32,
    ) -> Self:
        """A gallery of embeddings that the model has given before.

        Args:
            model: As in `Gallery`.
            embeddings: Array or tensor `(photos, dim)`.
            labels: Integers `(photos,)` or one-hot rows.
            class_names: As in `Gallery.of`.
            keys: As in `Gallery.of`.
            layer: As in `Gallery`.
            index: As in `Gallery`.
            bandwidth: As in `Gallery`.
            batch_size: Photos in a batch. Defaults to 32.

        Raises:
            ImportError: If faiss is not installed.
            ValueError: As in `Gallery.of`, and if the model's embedding has
                another dim.
        """
        who = "Gallery.of_embeddings"
        gallery = cls(
            model,
            layer,
            index=index,
            bandwidth=bandwidth,
            batch_size=batch_size,
        )
        vectors = unit_vectors(embeddings, who)
        gallery._check_dim(who, vectors)
        numbers = integer_labels(who, labels, len(vectors)).astype(np.int64)
        gallery._fill(who, vectors, numbers, class_names, keys)
        return gallery

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return (
            f"<Gallery of {len(self)} photos, {len(self.class_names)} classes>"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that have a photo, in the order in which they came."""
        return tuple(self._names)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each photo, in the order in which they came."""
        return tuple(self._keys)

    @property
    def threshold(self) -> float | None:
        """A photo whose similarity is below is unknown; `None` before."""
        return self._threshold

    @property
    def temperature(self) -> float | None:
        """What similarities are divided by for probabilities, or `None`."""
        return self._temperature

    @property
    def bandwidth(self) -> float:
        """How much larger a cosine has e = 2.7 times the weight."""
        return self._bandwidth

    def search(self, photos: Any, k: int = 5) -> list[list[Match]]:
        """The most similar known photos.

        Args:
            photos: An array of what the model takes, `(photos, height, width,
                3)`, one photo `(height, width, 3)`, a file, a list of files,
                or a folder, whose images come as `datasets.image_paths` lists
                them.
            k: How many for each photo; all where there are fewer. Defaults to
                5.

        Returns:
            A list for each photo, nearest first; of equally near ones the one
            that was added first comes first. A photo whose embedding is zero
            has a cosine of 0 to all.

        Raises:
            ValueError: If the photos are not what the model takes.
        """
        who = "Gallery.search"
        k = positive_integer(who, "k", k)
        with self._lock:
            vectors = self._embedder.of_photos(who, photos)
            return self._matches(*self._index.search(vectors, k))

    def identify(self, photos: Any, k: int = 5) -> list[Answer]:
        """Names photos.

        Args:
            photos: As in `search`.
            k: The most runners-up, and known photos, that an answer has.
                Defaults to 5.

        Returns:
            An answer for each photo.

        Raises:
            ValueError: If the gallery has no photo, or the photos are not what
                the model takes.
        """
        who = "Gallery.identify"
        k = positive_integer(who, "k", k)
        with self._lock:
            self._check_photos(who)
            vectors = self._embedder.of_photos(who, photos)
            return self._all_answers(vectors, k)

    def identify_embeddings(self, embeddings: Any, k: int = 5) -> list[Answer]:
        """As `identify`, of embeddings that the model has given before.

        Args:
            embeddings: Array or tensor `(photos, dim)`.
            k: As in `identify`.

        Returns:
            An answer for each photo.

        Raises:
            ValueError: As in `identify`, and if the model's embedding has
                another dim.
        """
        who = "Gallery.identify_embeddings"
        k = positive_integer(who, "k", k)
        vectors = unit_vectors(embeddings, who)
        self._check_dim(who, vectors)
        with self._lock:
            self._check_photos(who)
            return self._all_answers(vectors, k)

    def add(
        self,
        photos: Any,
        class_name: str,
        keys: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Adds photos of one class, which need not be there.

        A new class is found from now on; one that exists has more photos. The
        threshold stays.

        Args:
            photos: As in `search`.
            class_name: Name of their class.
            keys: One string for each, as in `of`. Defaults to the paths of
                files, else to the next numbers that are free.

        Returns:
            The keys of the photos.

        Raises:
            ValueError: If a key is there already, or the photos are not what
                the model takes. The gallery is then as it was.
        """
        who = "Gallery.add"
        name = checks.string(who, "class_name", class_name)
        if paths := as_paths(photos):
            photos = paths
            keys = paths if keys is None else keys
        with self._lock:
            vectors = self._embedder.of_photos(who, photos)
            new = self._new_keys(who, keys, len(vectors))
            self._append(vectors, [name] * len(new), new)
        return new

    def remove(
        self,
        class_name: str | None = None,
        keys: str | Iterable[str] | None = None,
    ) -> int:
        """Removes a class, or photos.

        A class whose last photo goes is no longer there.

        Args:
            class_name: The class, with all its photos.
            keys: Keys of photos, or one key.

        Returns:
            How many photos went.

        Raises:
            ValueError: If not one of the two is given, or there is no such
                class or key. The gallery is then as it was.
        """
        who = "Gallery.remove"
        if (class_name is None) == (keys is None):
            raise ValueError(
                f"{who}: either class_name or keys must be given, received "
                f"{'neither' if keys is None else 'both'}."
            )
        with self._lock:
            if keys is None:
                gone = self._classes == self._number_of(who, class_name)
            else:
                wanted = {keys} if isinstance(keys, str) else set(keys)
                if missing := wanted - self._known:
                    raise ValueError(
                        f"{who}: keys must be those of photos in the gallery, "
                        f"received {len(missing)} others, such as "
                        f"{min(map(repr, missing))}. `gallery.keys` lists them."
                    )
                gone = np.fromiter(
                    (key in wanted for key in self._keys), bool, len(self)
                )
            rows = np.flatnonzero(gone)
            self._drop(rows)
        return len(rows)

    def calibrate(
        self,
        data: Any,
        false_alarms: float = 0.05,
        class_names: Sequence[str] | None = None,
    ) -> Self:
        """Sets the threshold for unknown, and the probabilities' temperature.

        The threshold is such that, of new photos of the known classes, the
        share `false_alarms` is called unknown on average, or a little less
        (split conformal prediction: the floor(false_alarms · (n + 1))-th
        lowest similarity of the n photos). The temperature is
        `metrics.fit_temperature` of the similarities to all classes.

        Calibrate again when many classes have come or gone: a photo finds a
        like one more easily among more.

        Args:
            data: As in `Gallery.of`: photos of the gallery's classes that the
                model was not trained on and that the gallery does not hold.
                Of the others it is too sure.
            false_alarms: Share of photos of known classes that may be called
                unknown, in (0, 1). Defaults to 0.05.
            class_names: Name of the class of each label. Defaults to those
                that the gallery was made with.

        Returns:
            The gallery. `threshold` and `temperature` have been set.

        Raises:
            ValueError: If there are fewer than 1 / false_alarms - 1 photos, a
                label is of no class in the gallery, or the similarities are
                no better than chance.

        Warns:
            UserWarning: If the gallery holds some of the photos.
        """
        who = "Gallery.calibrate"
        share = number(who, "false_alarms", false_alarms, above=0, below=1)
        with self._lock:
            self._check_photos(who)
            vectors, labels = self._embedder.of_data(data)
            copies = self._set_threshold(
                who, vectors, labels, share, class_names
            )
        self._warn_of(who, copies, len(vectors))
        return self

    def calibrate_embeddings(
        self,
        embeddings: Any,
        labels: Any,
        false_alarms: float = 0.05,
        class_names: Sequence[str] | None = None,
    ) -> Self:
        """As `calibrate`, of embeddings that the model has given before.

        Args:
            embeddings: Array or tensor `(photos, dim)`, of photos as in
                `calibrate`.
            labels: Integers `(photos,)` or one-hot rows.
            false_alarms: As in `calibrate`.
            class_names: As in `calibrate`.

        Returns:
            The gallery. `threshold` and `temperature` have been set.

        Raises:
            ValueError: As in `calibrate`, and if the model's embedding has
                another dim.

        Warns:
            UserWarning: If the gallery holds some of the photos.
        """
        who = "Gallery.calibrate_embeddings"
        share = number(who, "false_alarms", false_alarms, above=0, below=1)
        vectors = unit_vectors(embeddings, who)
        self._check_dim(who, vectors)
        numbers = integer_labels(who, labels, len(vectors)).astype(np.int64)
        with self._lock:
            self._check_photos(who)
            copies = self._set_threshold(
                who, vectors, numbers, share, class_names
            )
        self._warn_of(who, copies, len(vectors))
        return self

    def save(
        self, path: str | os.PathLike[str], dtype: str = "float32"
    ) -> None:
        """Writes embeddings, classes, keys and thresholds into one file.

        The model is not in it. A file that is there is replaced when the new
        one is whole.

        Args:
            path: The file, such as `"gallery.npz"`.
            dtype: `"float16"` halves the file; cosines move by less than
                0.001. Defaults to `"float32"`.

        Raises:
            ValueError: If `dtype` is another.
        """
        file = as_path("Gallery.save", "path", path)
        one_of("Gallery.save", "dtype", dtype, ("float32", "float16"))
        with self._lock:
            about = {
                "layer": self._layer,
                "index": self._kind,
                "bandwidth": self._bandwidth,
                "class_names": self._names,
                "label_names": self._label_names,
                "next_key": self._next_key,
                "threshold": self._threshold,
                "temperature": self._temperature,
            }
            what = stored.Stored(
                self._index.vectors().astype(dtype),
                self._classes,
                self._keys,
                self._embedder.fingerprint(),
                about,
            )
        stored.write(file, what)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: keras.Model,
        *,
        layer: str | keras.layers.Layer | None = None,
        batch_size: int = 32,
    ) -> Self:
        """Reads a gallery that `save` wrote.

        Args:
            path: The file.
            model: The model that the gallery was made with. It may run on
                another backend. That it is the same is checked by its
                embedding of fixed noise, which has to be within 2 % of the
                saved one.
            layer: Its layer with the embedding. Defaults to the one that the
                gallery was made with.
            batch_size: Photos in a batch. Defaults to 32.

        Raises:
            FileNotFoundError: If there is no such file.
            ImportError: If faiss is not installed.
            ValueError: If the file is no gallery or damaged, or the model is
                another.
        """
        who = "Gallery.load"
        what = stored.read(as_path(who, "path", path))
        about = what.about
        gallery = cls(
            model,
            about["layer"] if layer is None else layer,
            index=about["index"],
            bandwidth=about["bandwidth"],
            batch_size=batch_size,
        )
        vectors = unit_rows(what.embeddings.astype(np.float32))
        gallery._check_dim(who, vectors)
        gallery._check_model(what.fingerprint)
        names = about["class_names"]
        gallery._number(names)
        gallery._append(vectors, [names[c] for c in what.classes], what.keys)
        gallery._label_names = tuple(about["label_names"])
        gallery._next_key = about["next_key"]
        gallery._threshold = about["threshold"]
        gallery._temperature = about["temperature"]
        return gallery

    def to_faiss(self) -> Any:
        """A copy of the photos' vectors as an index of faiss.

        The vectors have length 1, and the index compares them by their inner
        product, which is the cosine. The id of a vector is the place of its
        photo in `keys`.
        """
        with self._lock:
            return self._index.copy()

    def to_qdrant(self, client: Any, collection: str) -> None:
        """Puts the photos' records into a collection of Qdrant.

        A record has the vector, of length 1, and as payload the photo's `key`
        and its `class_name`. It replaces the record of the same key; records
        of other keys stay.

        Args:
            client: A `qdrant_client.QdrantClient`.
            collection: Name of the collection. It is made, for cosines, where
                there is none.

        Raises:
            ImportError: If qdrant-client is not installed.
            ValueError: If the collection is one of other vectors.
        """
        checks.string("Gallery.to_qdrant", "collection", collection)
        with self._lock:
            vectors, keys = self._index.vectors(), list(self._keys)
            names = [self._names[number] for number in self._classes]
        upload(client, collection, vectors, keys, names)

    def embed(self, photos: Any) -> np.ndarray:
        """The vectors by which photos are compared.

        Args:
            photos: As in `search`.

        Returns:
            float32 `(photos, dim)`, each of length 1: for a search elsewhere,
            such as in the collection of `to_qdrant`.

        Raises:
            ValueError: If the photos are not what the model takes.
        """
        with self._lock:
            return self._embedder.of_photos("Gallery.embed", photos)

    def _check_photos(self, who: str) -> None:
        if not len(self):
            raise ValueError(
                f"{who}: the gallery must have a photo, received an empty one. "
                "Add photos first: gallery.add(photos, class_name)."
            )

    def _check_dim(self, who: str, vectors: np.ndarray) -> None:
        if vectors.shape[1] != self._index.dim:
            raise ValueError(
                f"{who}: model must be the one that gave the embeddings, of "
                f"dim {vectors.shape[1]}, received one whose embedding has dim "
                f"{self._index.dim}. Pass that model, or name its layer."
            )

    def _check_model(self, saved: np.ndarray) -> None:
        own = self._embedder.fingerprint()
        far = np.inf
        if own.shape == saved.shape:
            length = max(float(np.linalg.norm(saved)), 1e-12)
            far = float(np.linalg.norm(own - saved)) / length
        # (NaN is far, too.)
        if not far <= _TOLERANCE:
            raise ValueError(
                "Gallery.load: model must be the one that the gallery was made "
                "with, received one whose embedding of the same image differs "
                f"by {far:.0%}. Load that model, or make the gallery anew: "
                "keras_finegrain.Gallery.of(model, data)."
            )

    def _number_of(self, who: str, class_name: Any) -> int:
        name = checks.string(who, "class_name", class_name)
        if name not in self._names:
            near = difflib.get_close_matches(name, self._names, 3, 0.0)
            raise ValueError(
                f"{who}: class_name must be a class of the gallery, received "
                f"{checks.shown(name)}. The nearest of its "
                f"{len(self._names)} classes are {near}."
            )
        return self._names.index(name)

    def _set_threshold(
        self,
        who: str,
        vectors: np.ndarray,
        labels: np.ndarray,
        share: float,
        class_names: Sequence[str] | None,
    ) -> int:
        """Sets threshold and temperature.

        Returns:
            How many of the photos are in the gallery.
        """
        names = checks.names_or_none(who, "class_names", class_names)
        names = self._label_names if names is None else names
        needed = math.ceil(round(1 / share, 9)) - 1
        if len(vectors) < needed:
            raise ValueError(
                f"{who}: data must have at least {needed} photos for "
                f"false_alarms of {share:g}, received {len(vectors)}. Pass "
                "more photos, or allow more false alarms."
            )
        numbers = self._numbers_of_labels(who, labels, names)
        scores, copies = self._scores_of_all(vectors)
        temperature = 1.0
        if len(self._names) > 1:
            temperature = fit_temperature(scores, numbers)
        # (0.05 · 20 is to be 1, whatever floats make of it.)
        rank = math.floor(round(share * (len(vectors) + 1), 9))
        self._threshold = float(np.sort(scores.max(axis=1))[rank - 1])
        self._temperature = temperature
        return copies

    def _warn_of(self, who: str, copies: int, count: int) -> None:
        if copies:
            warnings.warn(
                f"{who}: data should hold no photo of the gallery, received "
                f"{copies} of {count} that are in it. For them the "
                "similarity is 1, so that too many new photos will be called "
                "unknown. Pass photos that were kept back.",
                stacklevel=3,
            )

    def _fill(
        self,
        who: str,
        vectors: np.ndarray,
        labels: np.ndarray,
        class_names: Any,
        keys: Any,
    ) -> None:
        """The first photos, with labels in place of names."""
        names = checks.names_or_none(who, "class_names", class_names)
        low, high = int(labels.min()), int(labels.max())
        if names is None:
            names = tuple(f"class {label}" for label in range(high + 1))
        if low < 0 or high >= len(names):
            raise ValueError(
                f"{who}: class_names must have one entry a class, received "
                f"{len(names)} and labels from {low} to {high}."
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(
                f"{who}: class_names must all be different, received "
                f"{checks.shown(twice)} twice."
            )
        new = self._new_keys(who, keys, len(vectors))
        self._label_names = names
        # In the order of the labels, of which some may have no photo.
        self._number([names[label] for label in np.unique(labels)])
        self._append(vectors, [names[label] for label in labels], new)

    def _new_keys(self, who: str, keys: Any, count: int) -> tuple[str, ...]:
        """The keys of new photos: those given, or numbers that are free."""
        if keys is None:
            found: list[str] = []
            while len(found) < count:
                key = str(self._next_key)
                self._next_key += 1
                if key not in self._known:
                    found.append(key)
            return tuple(found)
        if isinstance(keys, str) or not isinstance(keys, Iterable):
            raise TypeError(
                f"{who}: keys must be a list of strings, one for each photo, "
                f"received {checks.shown(keys)}."
            )
        new = tuple(keys)
        if not all(isinstance(key, str) and key for key in new):
            wrong = next(k for k in new if not (isinstance(k, str) and k))
            raise ValueError(
                f"{who}: keys must be strings, one for each photo, received "
                f"{checks.shown(wrong)}."
            )
        if len(new) != count:
            raise ValueError(
                f"{who}: keys must be one for each photo, received {len(new)} "
                f"for {count} photos."
            )
        taken = next((key for key in new if key in self._known), None)
        if taken is not None:
            raise ValueError(
                f"{who}: keys must be new, received {checks.shown(taken)}, "
                "which is in the gallery already. Remove that photo first, or "
                "pass another key."
            )
        if len(set(new)) < len(new):
            twice = collections.Counter(new).most_common(1)[0][0]
            raise ValueError(
                f"{who}: keys must all be different, received "
                f"{checks.shown(twice)} twice."
            )
        return tuple(str(key) for key in new)

    def _number(self, names: Iterable[str]) -> dict[str, int]:
        """The number of each class; those that are new get the next ones."""
        numbers = {name: number for number, name in enumerate(self._names)}
        for name in names:
            numbers.setdefault(name, len(numbers))
        new = list(numbers)[len(self._names) :]
        self._names.extend(new)
        more = np.zeros((len(new), self._index.dim))
        self._sums = np.concatenate([self._sums, more])
        return numbers

    def _append(
        self, vectors: np.ndarray, names: Sequence[str], keys: Sequence[str]
    ) -> None:
        numbers = self._number(dict.fromkeys(names))
        classes = np.array([numbers[name] for name in names], np.int64)
        self._index.add(vectors)
        np.add.at(self._sums, classes, vectors)
        self._classes = np.concatenate([self._classes, classes])
        self._keys.extend(keys)
        self._known.update(keys)

    def _drop(self, rows: np.ndarray) -> None:
        classes = self._classes[rows]
        np.subtract.at(self._sums, classes, self._index.vectors(rows))
        self._index.remove(rows)
        self._known.difference_update(self._keys[row] for row in rows)
        self._keys = list(np.delete(np.array(self._keys, object), rows))
        self._classes = np.delete(self._classes, rows)
        # The classes that are left are numbered anew.
        left = np.unique(self._classes)
        self._classes = np.searchsorted(left, self._classes)
        self._names = [self._names[number] for number in left]
        self._sums = self._sums[left]

    def _numbers_of_labels(
        self, who: str, labels: np.ndarray, names: Sequence[str]
    ) -> np.ndarray:
        """The number in the gallery of the class of each label."""
        numbers = {name: number for number, name in enumerate(self._names)}
        for label in np.unique(labels):
            if not 0 <= label < len(names):
                raise ValueError(
                    f"{who}: class_names must have one entry a class, "
                    f"received {len(names)} and the label {label}."
                )
            if names[label] not in numbers:
                raise ValueError(
                    f"{who}: data must be photos of the gallery's classes, "
                    f"received some of {checks.shown(names[label])} (label "
                    f"{label}), of which it has none. Leave them out, or add "
                    "photos of that class first."
                )
        return np.array([numbers[names[label]] for label in labels])

    def _scores_of_all(self, vectors: np.ndarray) -> tuple[np.ndarray, int]:
        """Similarities to all classes, and how many photos are known ones."""
        scores, copies = [], 0
        for start in range(0, len(vectors), _CHUNK):
            chunk = vectors[start : start + _CHUNK]
            _, found = self._index.search(chunk, NEAREST)
            scores.append(self._scores(chunk, found))
            nearest = self._index.vectors(found[:, 0])
            apart = np.abs(chunk - nearest).max(axis=1)
            copies += int(np.sum(apart < _SAME))
        return np.concatenate(scores), copies

    def _scores(self, vectors: np.ndarray, found: np.ndarray) -> np.ndarray:
        means = unit_rows(self._sums).astype(np.float32)
        return class_scores(
            *(self._index, self._classes, means, vectors, found),
            self._bandwidth,
        )

    def _all_answers(self, vectors: np.ndarray, k: int) -> list[Answer]:
        answers: list[Answer] = []
        for start in range(0, len(vectors), _CHUNK):
            answers += self._answers(vectors[start : start + _CHUNK], k)
        return answers

    def _answers(self, vectors: np.ndarray, k: int) -> list[Answer]:
        cosines, found = self._index.search(vectors, max(k, NEAREST))
        # With one number of them for all k, a probability does not hang on k.
        scores = self._scores(vectors, found[:, :NEAREST])
        matches = self._matches(cosines[:, :k], found[:, :k])
        shares: Any = np.full(scores.shape, None)
        if self._temperature is not None:
            shares = softmax(scores / self._temperature)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : k + 1]
        answers = []
        for photo, order in enumerate(best):
            first, *others = (
                Candidate(
                    self._names[number],
                    float(scores[photo, number]),
                    None
                    if self._temperature is None
                    else float(shares[photo, number]),
                )
                for number in order
            )
            unknown = None
            if self._threshold is not None:
                unknown = first.similarity < self._threshold
            answers.append(
                Answer(*first, unknown, tuple(others), tuple(matches[photo]))
            )
        return answers

    def _matches(
        self, similarities: np.ndarray, rows: np.ndarray
    ) -> list[list[Match]]:
        return [
            [
                Match(
                    self._keys[row],
                    self._names[self._classes[row]],
                    float(similarity),
                )
                for similarity, row in zip(*pair, strict=True)
                if row >= 0
            ]
            for pair in zip(similarities, rows, strict=True)
        ]

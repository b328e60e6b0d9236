"""Writes embeddings for TensorBoard's projector."""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.checks import (
    boolean,
    names_or_none,
    positive_integer,
)
from keras_finegrain._base.optional import import_optional
from keras_finegrain.callbacks.embedding_callback import EmbeddingCallback
from keras_finegrain.embedding import images_of, labelled_batches
from keras_finegrain.visualization.checks import class_labels

# The largest picture that a browser takes for a texture.
_SPRITE_PIXELS = 8192


class EmbeddingProjector(EmbeddingCallback):
    """Writes embeddings, labels and thumbnails for TensorBoard's projector.

    `tensorboard --logdir LOG_DIR` then shows the samples as small pictures in
    PCA, t-SNE or UMAP, with an entry for each written epoch. TensorFlow is not
    needed.

    Args:
        log_dir: Folder for TensorBoard; it is made.
        data: As in `EmbeddingMetrics`, in the same order each time.
        layer: As in `EmbeddingMetrics`.
        class_names: Name of each class. Defaults to numbers alone.
        thumbnails: Whether samples are shown as pictures: an input must be
            images `(batch, height, width, 1 or 3)`, in [0, 1] if the first
            batch holds no value above 1, else in [0, 255]. Defaults to `True`.
        thumbnail_size: Side of a thumbnail in pixels. Defaults to 32, at which
            a browser takes up to 65,536 samples.
        frequency: Writes after every so many epochs. Defaults to 1; the last
            epoch is always written.
        batch_size: Samples in a batch, for arrays. Defaults to 32.

    Raises:
        ImportError: If thumbnails are asked for and Pillow is missing.
        ValueError: For an argument out of its range, and when training begins
            if there are no images for thumbnails, too many of them, or a
            label without a name.

    Example:

    >>> import tempfile
    >>> model = keras.Sequential([
    ...     keras.Input((4, 4, 3)),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(5),
    ...     keras.layers.Dense(2),
    ... ])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> x, y = np.ones((6, 4, 4, 3)), np.arange(6) % 2
    >>> folder = tempfile.mkdtemp()
    >>> projector = EmbeddingProjector(folder, (x, y), thumbnail_size=8)
    >>> history = model.fit(x, y, verbose=0, callbacks=[projector])
    >>> sorted(path.name for path in pathlib.Path(folder).iterdir())
    ['epoch_0001.tsv', 'metadata.tsv', 'projector_config.pbtxt', 'sprite.png']
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        data: Any,
        layer: str | keras.layers.Layer | None = None,
        *,
        class_names: Sequence[str] | None = None,
        thumbnails: bool = True,
        thumbnail_size: int = 32,
        frequency: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__(data, layer, frequency, batch_size)
        self.log_dir = pathlib.Path(log_dir)
        who = type(self).__name__
        self.class_names = names_or_none(who, "class_names", class_names)
        self.thumbnails = boolean(who, "thumbnails", thumbnails)
        self.thumbnail_size = positive_integer(
            who, "thumbnail_size", thumbnail_size
        )
        self._written: list[str] = []
        self._last: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the labels and thumbnails, which all epochs share."""
        del logs
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._written, self._last = [], None
        labels: list[np.ndarray] = []
        images: list[np.ndarray] = []
        brightest = 0.0
        for x, y in labelled_batches(self.data, self.batch_size):
            labels.append(y)
            if self.thumbnails:
                pictures = self._pictures(x, sum(map(len, labels)))
                # The first batch says whether white is 1 or 255.
                brightest = brightest or (1 if pictures.max() <= 1 else 255)
                images.append(self._shrunk(pictures * (255 / brightest)))
        self._write_metadata(np.concatenate(labels))
        if self.thumbnails:
            self._write_sprite(np.concatenate(images))

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Writes the embeddings of this epoch."""
        del logs
        self._last = epoch
        if self.is_due(epoch):
            self._write_embeddings(epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the embeddings of the last epoch."""
        del logs
        if self._last is not None and not self.is_due(self._last):
            self._write_embeddings(self._last)

    def _write_embeddings(self, epoch: int) -> None:
        embeddings, _ = self.embeddings(self.data)
        name = f"epoch_{epoch + 1:04}"
        rows = (
            "\t".join(f"{value:.7g}" for value in row) for row in embeddings
        )
        self._write(f"{name}.tsv", "\n".join(rows) + "\n")
        self._written.append(name)
        self._write("projector_config.pbtxt", self._config())

    def _config(self) -> str:
        """The configuration. TensorBoard shows its first epoch: the newest."""
        sprite = ""
        if self.thumbnails:
            side = self.thumbnail_size
            sprite = (
                '  sprite {\n    image_path: "sprite.png"\n'
                f"    single_image_dim: {side}\n"
                f"    single_image_dim: {side}\n  }}\n"
            )
        return "".join(
            f'embeddings {{\n  tensor_name: "{name}"\n'
            f'  tensor_path: "{name}.tsv"\n'
            f'  metadata_path: "metadata.tsv"\n{sprite}}}\n'
            for name in reversed(self._written)
        )

    def _write_metadata(self, labels: np.ndarray) -> None:
        # TensorBoard takes the heading of a single column for a sample.
        lines = [str(label) for label in labels]
        if self.class_names is not None:
            names = self.class_names
            class_labels("EmbeddingProjector", labels, None, names)
            lines = ["class\tlabel"]
            lines += [f"{names[label]}\t{label}" for label in labels]
        self._write("metadata.tsv", "\n".join(lines) + "\n")

    def _pictures(self, x: Any, samples: int) -> np.ndarray:
        """The images of a batch; raises if they cannot be shown."""
        images = images_of(x)
        if images is None:
            shapes = [array.shape for array in keras.tree.flatten(x)]
            raise ValueError(
                "EmbeddingProjector: thumbnails need an input of images "
                f"(batch, height, width, 1 or 3), received {shapes}. Pass "
                "thumbnails=False."
            )
        side = self.thumbnail_size
        most = (_SPRITE_PIXELS // side) ** 2
        if samples > most:
            raise ValueError(
                f"EmbeddingProjector: data must have at most {most} samples "
                f"for thumbnail_size={side}, received {samples} or more. Pass "
                "fewer samples, a smaller thumbnail_size, or thumbnails=False."
            )
        return images

    def _shrunk(self, images: np.ndarray) -> np.ndarray:
        """Images in [0, 255] as thumbnails, uint8."""
        smaller = keras.ops.image.resize(
            images.astype("float32"),
            (self.thumbnail_size,) * 2,
            antialias=True,
            data_format="channels_last",
        )
        shrunk = np.asarray(keras.ops.convert_to_numpy(smaller))
        shrunk = np.clip(shrunk + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(shrunk, 3 // shrunk.shape[-1], axis=-1)

    def _write_sprite(self, images: np.ndarray) -> None:
        """All thumbnails in one square picture, row by row."""
        side, columns = self.thumbnail_size, math.ceil(math.sqrt(len(images)))
        sheet = np.zeros((columns * columns, side, side, 3), np.uint8)
        sheet[: len(images)] = images
        sheet = sheet.reshape(columns, columns, side, side, 3)
        sheet = sheet.swapaxes(1, 2).reshape(2 * (columns * side,) + (3,))
        pillow = import_optional("PIL.Image", "EmbeddingProjector")
        pillow.fromarray(sheet).save(self.log_dir / "sprite.png")

    def _write(self, name: str, text: str) -> None:
        (self.log_dir / name).write_text(text, encoding="utf-8")

"""Saves that leave the older file whole until the new one is."""

import os
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_finegrain._base.files import replacing_path


class WholeFiles:
    """Mixed into a Keras model: its files are whole or not replaced.

    Keras opens the file itself and writes into it, so that a full disk or a
    killed process destroys the model that was there.
    """

    def save(
        self,
        filepath: Any,
        overwrite: bool = True,
        zipped: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.save`; an older file is replaced by a whole one."""
        endings = () if zipped is False else (".keras", ".h5", ".hdf5")
        with _to_replace(filepath, overwrite, endings) as path:
            super().save(path, overwrite, zipped, **kwargs)  # type: ignore[misc]

    def save_weights(
        self,
        filepath: Any,
        overwrite: bool = True,
        max_shard_size: float | None = None,
    ) -> None:
        """As `keras.Model.save_weights`; one file is replaced as in `save`."""
        endings = (".weights.h5",) if max_shard_size is None else ()
        with _to_replace(filepath, overwrite, endings) as path:
            super().save_weights(  # type: ignore[misc]
                path, overwrite, max_shard_size
            )


@contextmanager
def _to_replace(
    filepath: Any, overwrite: bool, endings: tuple[str, ...]
) -> Iterator[Any]:
    """Where to write; as given where there is no local file to replace.

    That is a folder, a remote path or a device, and a file that Keras asks
    about before it overwrites it.
    """
    path = str(filepath)
    if (
        not path.endswith(endings)
        or "://" in path
        or (os.path.exists(path) and not (overwrite and os.path.isfile(path)))
    ):
        yield filepath
        return
    with replacing_path(pathlib.Path(path)) as partial:
        yield partial

"""The file of a gallery."""

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from keras_finegrain._base.files import replacing

FORMAT = 2
_KIND = "keras_finegrain gallery"


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a file of a gallery holds.

    Attributes:
        embeddings: Unit vectors `(photos, dim)`, float32 or float16.
        classes: Number of each photo's class.
        keys: Key of each photo.
        fingerprint: The model's embedding of fixed noise.
        about: What else there is, as JSON holds it.
    """

    embeddings: np.ndarray
    classes: np.ndarray
    keys: list[str]
    fingerprint: np.ndarray
    about: dict[str, Any]


def write(path: pathlib.Path, stored: Stored) -> None:
    """Writes the file; what was there is replaced when the new one is whole."""
    about = {"kind": _KIND, "format": FORMAT, **stored.about}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(
            file,
            embeddings=stored.embeddings,
            classes=stored.classes,
            keys=_as_bytes(stored.keys),
            fingerprint=stored.fingerprint,
            about=_as_bytes(about),
        )


def read(path: pathlib.Path) -> Stored:
    """Reads a file that `write` wrote.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no gallery, or one of another version.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Gallery.load: path must be a file that Gallery.save wrote, "
            f"received {str(path)!r}, which is no file."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            if about["kind"] != _KIND:
                raise ValueError(about["kind"])
            if about["format"] == FORMAT:
                return Stored(
                    file["embeddings"],
                    file["classes"],
                    json.loads(file["keys"].tobytes()),
                    file["fingerprint"],
                    about,
                )
    # (What NumPy raises for a file that is none of its own, or half of one.)
    except (
        KeyError,
        OSError,
        EOFError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ):
        raise ValueError(
            "Gallery.load: path must be a file that Gallery.save wrote, "
            f"received another or a damaged one: {str(path)!r}."
        ) from None
    remedy = "Update keras-finegrain."
    if about["format"] < FORMAT:
        # (What was its threshold is none for today's similarity.)
        remedy = (
            "Make it anew: keras_finegrain.Gallery.of(model, data); of a run, "
            "train again."
        )
    raise ValueError(
        f"Gallery.load: path must be a gallery of format {FORMAT}, received "
        f"one of format {about['format']}: {str(path)!r}. {remedy}"
    )


def _as_bytes(value: Any) -> np.ndarray:
    # An array of strings is as wide as the longest of them. (In ASCII, so
    # that names of files that are no Unicode come back as they were.)
    return np.frombuffer(json.dumps(value).encode("ascii"), np.uint8)

"""What identifies the images of a data set, so that features can be kept."""

import hashlib
import json
import os
import pathlib
import re
from typing import Any

from keras_finegrain import datasets

# Raise it when images are cut, turned or resized in another way: kept
# features are of the images as they were cut.
_CROPS = 2


def digest_of(data: datasets.ImageDataset, **selection: Any) -> str:
    """A short text that is another one when the images are others.

    A folder is known by the names, sizes and times of its files, a data set
    of TFDS by its name, its version and the keys of its images.

    Args:
        data: The data set.
        **selection: The arguments of `datasets.load` that it was loaded with.
    """
    images = [data.train_keys, data.test_keys]
    root = pathlib.Path(data.name).expanduser()
    what: list[Any] = [_CROPS, data.name, data.class_names, *images]
    what.append(selection.get("crop_to_bbox", False))
    if _is_folder_of(root, data):
        keys = sorted(sum(images, ()))
        what.append(files_digest(root, [_file_of(root, key) for key in keys]))
        what.append(str(root.resolve()))
    else:
        what.append(_version(data.name, selection.get("data_dir")))
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def files_digest(root: pathlib.Path, names: list[str]) -> str:
    """Identifies files by their names, sizes and times of change."""
    digest = hashlib.sha256()
    for name in names:
        found = os.stat(root / name)
        digest.update(
            f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(
                errors="surrogateescape"
            )
        )
    return digest.hexdigest()


def _is_folder_of(root: pathlib.Path, data: datasets.ImageDataset) -> bool:
    key = data.train_keys[0]
    return root.is_dir() and (root / _file_of(root, key)).exists()


def _file_of(root: pathlib.Path, key: str) -> str:
    """The name of a key's file: a key has bytes that are no UTF-8 escaped."""
    if (root / key).exists():
        return key
    return os.fsdecode(
        re.sub(
            rb"\\x([0-9a-f]{2})",
            lambda found: bytes.fromhex(found[1].decode()),
            os.fsencode(key),
        )
    )


def _version(name: str, data_dir: Any) -> str:
    """The version of a prepared data set of TFDS."""
    from keras_finegrain.datasets import tfds_source

    return str(tfds_source.open_builder(name, data_dir, False).info.full_name)

"""Images in folders, one folder a class."""

import pathlib
from typing import Any

import numpy as np

from keras_finegrain.datasets.decoding import EXTENSIONS, damaged
from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.requirements import import_tensorflow
from keras_finegrain.datasets.sources import Records, Source

_TEST_NAMES = ("test", "val", "validation", "valid")

# How a file begins, and what must stand near its end: a download that broke
# off lacks it. A file that lacks either is decoded before it is refused.
_SIGNATURES = (
    (b"\xff\xd8\xff", b"\xff\xd9"),  # JPEG: start, end of image
    (b"\x89PNG\r\n\x1a\n", b"IEND"),
    (b"GIF8", b""),
    (b"BM", b""),
    (b"RIFF", b""),
)
_TAIL = 4096  # bytes; cameras append a little after the end of the image

_Files = dict[str, list[pathlib.Path]]


def read_folder(path: str | pathlib.Path) -> Source:
    """Lists the images of a folder and looks at how each file begins.

    The folder holds one folder a class, or `train` and `test` (or `val`,
    `validation`, `valid`) folders that do. Images may lie deeper inside a
    class. Hidden files and files that are no images (by extension) are
    passed over. Classes and files are in alphabetical order.

    Args:
        path: The folder; `~` is expanded.

    Raises:
        DatasetError: If there is no such folder, it has no images, or a file
            is not the image that its name says.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        what = "is a file, not" if root.exists() else "does not exist as"
        raise DatasetError(
            f"{str(path)!r} {what} a folder: pass one that holds a folder "
            "for each class"
        )
    if (root / "dataset_info.json").exists():
        raise DatasetError(
            f"{str(path)!r} is a data set that TFDS prepared: load it by its "
            "name, with data_dir= the folder that its name's folder is in"
        )
    splits = _split_folders(root)
    files = {split: _class_files(folder) for split, folder in splits.items()}
    if not any(any(classes.values()) for classes in files.values()):
        raise DatasetError(
            f"The folder {str(path)!r} has no images: it must hold one folder "
            f"a class, with files that end in {', '.join(EXTENSIONS)}"
        )
    class_names = tuple(sorted(set().union(*files.values())))
    records = {
        split: _records(classes, class_names)
        for split, classes in files.items()
    }
    return Source(
        name=str(path),
        class_names=class_names,
        train=records["train"],
        test=records.get("test"),
        is_complete=True,
    )


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    folders = {folder.name.lower(): folder for folder in _subfolders(root)}
    # A class of vehicles may be called "train": it holds files, not folders.
    if "train" not in folders or not _subfolders(folders["train"]):
        return {"train": root}
    test = next((n for n in _TEST_NAMES if n in folders), None)
    if test is None:
        return {"train": folders["train"]}
    return {"train": folders["train"], "test": folders[test]}


def _class_files(folder: pathlib.Path) -> _Files:
    return {
        subfolder.name: [
            file
            for file in sorted(subfolder.rglob("*"))
            if file.suffix.lower() in EXTENSIONS
            and not any(
                p.startswith(".") for p in file.relative_to(folder).parts
            )
            and file.is_file()
        ]
        for subfolder in _subfolders(folder)
    }


def _records(classes: _Files, class_names: tuple[str, ...]) -> Records:
    members = [classes.get(name, []) for name in class_names]
    paths = [str(file) for files in members for file in files]
    labels = np.repeat(np.arange(len(members)), [len(m) for m in members])
    for path in paths:
        _check_file(path)
    # A shuffle buffer smaller than the data set would otherwise see only
    # neighbouring classes. The order is the same on every machine.
    order = np.random.default_rng(0).permutation(len(paths))
    paths = [paths[i] for i in order]
    labels = labels[order]

    def examples() -> Any:
        tf = import_tensorflow()
        return tf.data.Dataset.from_tensor_slices(
            {"origin": paths, "label": labels}
        ).map(
            lambda example: {
                **example,
                "encoded": tf.io.read_file(example["origin"]),
            },
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    return Records(labels, examples)


def _check_file(path: str) -> None:
    """Raises if a file is not a whole image, as far as its ends tell.

    Reading every byte would take as long as an epoch. Damage between the two
    ends is found, and its file named, when the image is decoded.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            file.seek(0, 2)
            file.seek(max(file.tell() - _TAIL, 0))
            tail = file.read()
    except OSError as error:
        raise DatasetError(
            f"The image {path!r} cannot be read: {error.strerror}"
        ) from error
    if any(head.startswith(h) and t in tail for h, t in _SIGNATURES):
        return
    tf = import_tensorflow()
    try:
        tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise DatasetError(damaged(path)) from error


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )

"""Images in folders: one folder a class."""

import collections
import dataclasses
import os
import pathlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from keras_finegrain.datasets import image_files
from keras_finegrain.datasets.errors import DatasetError, listed
from keras_finegrain.datasets.folder_tree import Folder, scan
from keras_finegrain.datasets.requirements import import_tensorflow
from keras_finegrain.datasets.sources import Records, Source
from keras_finegrain.datasets.split_names import naming, role

if TYPE_CHECKING:
    import tensorflow as tf

_TAIL = 4096  # bytes; cameras append a little after the end of the image

# Of the files that cannot be read.
_MOST_NAMED = 50

# More folders with the same subfolders are classes, each with the same parts.
_MOST_SPLITS = 5

_Files = dict[str, list[str]]


def read_folder(
    path: str | pathlib.Path,
    splits: Sequence[str] | None = None,
    thorough: bool = False,
) -> Source:
    """Lists the images of a folder and looks at how each file begins.

    The folder holds one folder a class, or folders to train and to test on
    that do. Images may lie deeper inside a class. Classes and files are in
    alphabetical order. A warning counts what is not read.

    Args:
        path: The folder; `~` is expanded.
        splits: As in `load`.
        thorough: Whether to read every file to its end.

    Raises:
        DatasetError: If there is no such folder, it has no images, its layout
            can be read in two ways, or files are not the images that their
            names say: it names them, a line each.
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
    if splits is None:
        top = scan(root)
        folders, left_out = _found_splits(top)
        beside = (
            [] if top in folders else [dataclasses.replace(top, folders=[])]
        )
    else:
        folders, left_out, beside = _named_splits(root, splits), [], []
    unread = _unread([*beside, *folders])
    files = [_class_files(folder) for folder in folders]
    if not any(any(classes.values()) for classes in files):
        flat = sum(len(folder.images) for folder in folders)
        where = f" in class folders, and {flat} beside them" if flat else ""
        raise DatasetError(
            f"The folder {str(path)!r} has no images{where}: it must hold one "
            "folder a class, with files that end in .jpg, .png, .webp, .tif or "
            "another usual ending" + "".join(f". {line}" for line in unread)
        )
    _refuse_double(files)
    warn_unread(path, [*left_out, *unread])
    _check_files(
        [path for classes in files for c in classes.values() for path in c],
        thorough,
    )
    class_names = tuple(sorted(set().union(*files)))
    records = [_records(root, classes, class_names) for classes in files]
    return Source(
        name=str(path),
        class_names=class_names,
        train=records[0],
        test=records[1] if len(records) > 1 else None,
        is_complete=True,
    )


def _named_splits(root: pathlib.Path, splits: Sequence[str]) -> list[Folder]:
    paths = [root / split for split in splits]
    for path in paths:
        if not path.is_dir():
            raise DatasetError(
                f"splits={tuple(splits)!r}: {str(path)!r} is no folder. "
                f"{str(root)!r} holds {listed(_names(scan(root))) or 'none'}"
            )
    seen: dict[str, str] = {}
    return [scan(path, seen) for path in paths]


def _found_splits(root: Folder) -> tuple[list[Folder], list[str]]:
    """Returns the folders to train and test on, and what is left out.

    Raises:
        DatasetError: If the names and the layout do not tell.
    """
    folders = root.with_images()
    roles = {folder.path: role(folder.name) for folder in folders}
    # A class of vehicles may be called "train": it holds files, not folders.
    parts = [f for f in folders if roles[f.path] and f.with_images()]
    flat = [f for f in folders if roles[f.path] and not f.with_images()]
    others = [f for f in folders if not roles[f.path]]
    if not parts:
        if flat and (not others or len({roles[f.path] for f in flat}) > 1):
            _stop(
                root,
                flat,
                "look like splits and hold images without class folders",
                "Sort these into one folder a class",
            )
        _refuse_hidden_splits(root, folders)
        return [root], []
    train = [f for f in parts if roles[f.path] == "train"]
    test = [f for f in parts if roles[f.path] == "test"]
    test = test or [f for f in parts if roles[f.path] == "validation"]
    if not train:
        _stop(root, folders, "have none that is known to be for training")
    for chosen, purpose in ((train, "training"), (test, "testing")):
        if len(chosen) > 1:
            names = listed([folder.name for folder in chosen])
            _stop(root, folders, f"have more than one for {purpose} ({names})")
    chosen = [*train, *test]
    left = [folder for folder in folders if folder not in chosen]
    empty = [f for f in root.folders if role(f.name) and f not in folders]
    if (left or empty) and not test:
        _stop(
            root,
            [*folders, *empty],
            f"have {train[0].name!r} for training, and none with class folders "
            "is known to be for testing",
        )
    if not left:
        return chosen, []
    return chosen, [
        f"the folders {listed([f.name for f in left])} are left out, beside "
        f"{train[0].name!r} to train and {test[0].name!r} to test on (name "
        "them in splits= to say so)"
    ]


def _refuse_hidden_splits(root: Folder, folders: list[Folder]) -> None:
    """Raises where class folders look like splits or hold some."""
    for folder in folders:
        roles = {role(sub.name) for sub in folder.with_images()}
        if "train" in roles and len(roles - {None}) > 1:
            raise DatasetError(
                f"The folder {folder.path!r} holds "
                f"{listed(_names(folder))}, which look like splits and would "
                "be mixed as one class: pass the folder that train and test "
                "folders are in, or splits=('.',) if they are parts of a class"
            )
    inside = [set(_names(folder)) for folder in folders]
    if (
        1 < len(folders) <= _MOST_SPLITS
        and not any(folder.images for folder in folders)
        and len(set.intersection(*inside)) > 1
    ):
        _stop(root, folders, "have the same subfolders and look like splits")


def _stop(
    root: Folder, folders: list[Folder], what: str, remedy: str = ""
) -> None:
    names = [folder.name for folder in folders]
    names.sort(key=lambda name: role(name) != "train")
    remedy = remedy or naming((names[0], names[1]))
    raise DatasetError(
        f"The folders {listed(names)} of {root.path!r} {what}. {remedy}; or "
        "pass splits=('.',) if they are classes"
    )


def _names(folder: Folder) -> list[str]:
    return [sub.name for sub in folder.with_images()]


def _class_files(folder: Folder) -> _Files:
    files: _Files = collections.defaultdict(list)
    for subfolder in folder.folders:
        files[subfolder.name] += subfolder.all_images()
    return dict(files)


def _refuse_double(files: list[_Files]) -> None:
    """Raises if a link leads to a file that is read anyway."""
    paths = [path for classes in files for c in classes.values() for path in c]
    if not any(map(os.path.islink, paths)):
        return
    seen: dict[str, str] = {}
    for path in paths:
        first = seen.setdefault(os.path.realpath(path), path)
        if first != path:
            raise DatasetError(
                f"{path!r} and {first!r} are one file (a link), which would "
                "be read twice: remove one of them"
            )


def _unread(folders: list[Folder]) -> list[str]:
    """Says how many images are not read, which, and why."""
    lines = []
    beside = [path for folder in folders for path in folder.images]
    if beside:
        lines.append(f"{_counted(beside)} beside the class folders")
    return [*lines, *hidden_and_unread(folders)]


def hidden_and_unread(folders: list[Folder]) -> list[str]:
    """Says how many images are hidden or of a format that is not read."""
    lines = []
    hidden = [path for folder in folders for path in folder.all("hidden")]
    if hidden:
        lines.append(f"{_counted(hidden)} hidden or in folders of thumbnails")
    by_extension: dict[str, list[str]] = collections.defaultdict(list)
    for folder in folders:
        for path in folder.all("unread"):
            extension = pathlib.PurePath(path).suffix.lower()
            by_extension[extension].append(path)
    for extension, paths in sorted(by_extension.items()):
        lines.append(
            f"{_counted(paths)} of a format that is not read here "
            f"({image_files.how_to_read(extension)})"
        )
    return lines


def _counted(paths: list[str]) -> str:
    files = "image file" if len(paths) == 1 else "image files"
    return f"{len(paths)} {files} ({listed(paths)})"


def warn_unread(path: str | pathlib.Path, lines: list[str]) -> None:
    """Warns of what is not read of a folder, if there is any."""
    if lines:
        warnings.warn(
            f"The folder {str(path)!r} is not read as a whole: "
            f"{'; '.join(lines)}",
            stacklevel=2,
        )


def _check_files(paths: list[str], thorough: bool) -> None:
    """Raises if any file is not a whole image, and names up to fifty."""
    check = _read_file if thorough else _check_file

    def problem(path: str) -> str:
        try:
            check(path)
        except DatasetError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [text for text in pool.map(problem, paths) if text]
    if len(problems) > 1:
        lines = problems[:_MOST_NAMED]
        if left := len(problems) - len(lines):
            lines.append(f"and {left} more")
        problems = [
            f"{len(problems)} of {len(paths)} images cannot be read:\n"
            + "\n".join(lines)
        ]
    if problems:
        raise DatasetError(problems[0])


def _records(
    root: pathlib.Path, classes: _Files, class_names: tuple[str, ...]
) -> Records:
    members = [classes.get(name, []) for name in class_names]
    paths = [path for files in members for path in files]
    labels = np.repeat(np.arange(len(members)), [len(m) for m in members])
    # A shuffle buffer smaller than the data set would otherwise see only
    # neighbouring classes. The order is the same on every machine.
    order = np.random.default_rng(0).permutation(len(paths))
    paths = [paths[i] for i in order]
    labels = labels[order]

    def examples() -> "tf.data.Dataset":
        tf = import_tensorflow()
        return tf.data.Dataset.from_tensor_slices(
            {
                # Names of files are bytes, and need not be UTF-8.
                "path": [os.fsencode(path) for path in paths],
                "origin": [shown(path) for path in paths],
                "label": labels,
            }
        ).map(
            lambda example: {
                "origin": example["origin"],
                "label": example["label"],
                "encoded": tf.io.read_file(example["path"]),
            },
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    keys = tuple(shown(_relative(path, root)) for path in paths)
    return Records(labels, examples, keys)


def _check_file(path: str) -> None:
    """Raises if a file is not a whole image, as far as its ends tell.

    Reading every byte would take as long as an epoch. Damage between the two
    ends is found, and its file named, when the image is decoded.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            tail = file.read()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not image_files.ends_look_right(head, tail, size):
        _read_file(path)


def _read_file(path: str) -> None:
    image_files.verify(bytes_of(path), shown(path))


def bytes_of(path: str) -> bytes:
    """Reads a file.

    Raises:
        DatasetError: If it cannot be read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> DatasetError:
    return DatasetError(f"The image {path!r} cannot be read: {error.strerror}")


def _relative(path: str, root: pathlib.Path) -> str:
    return pathlib.Path(os.path.relpath(path, root)).as_posix()


def shown(path: str) -> str:
    """A path for a message: text, whatever bytes it holds."""
    return os.fsencode(path).decode(errors="backslashreplace")

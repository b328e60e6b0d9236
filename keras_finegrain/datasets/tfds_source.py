"""Images from TensorFlow Datasets."""

import dataclasses
import difflib
import importlib.util
import os
import pathlib
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.errors import DatasetError, listed, one_line
from keras_finegrain.datasets.requirements import import_tensorflow, import_tfds
from keras_finegrain.datasets.sources import Records, Source
from keras_finegrain.datasets.split_names import Role, naming, role

_TEST_ROLES: tuple[Role, ...] = ("test", "validation")
_LABELS_PER_READ = 1024
# The features that hold the name of an image's file.
_FILE_NAMES = ("image/filename", "file_name", "filename")
_OWN = "synthetic_birds"


def known_names() -> list[str]:
    """Returns the names of the data sets that TFDS and this package have."""
    tfds = import_tfds()
    names = tfds.list_builders(with_community_datasets=False)
    return sorted({*names, _OWN})


def is_known(name: str) -> bool:
    """Whether TFDS, where it is installed, has a data set of this name."""
    if importlib.util.find_spec("tensorflow_datasets") is None:
        return False
    return name in known_names()


def open_builder(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    crop_to_bbox: bool = False,
) -> Any:
    """Finds a TFDS builder and checks that it gives images with a label.

    Nothing is downloaded.

    Args:
        name: As in `tfds.load`, with a configuration or version if wanted.
        data_dir: Where its data is or will be prepared; None for the
            default of TFDS, `~/tensorflow_datasets`.
        crop_to_bbox: Whether a bounding box is needed as well.

    Raises:
        DatasetError: If TFDS does not know the name, configuration or
            version, or the data set has no image, label or bounding box.
    """
    tfds = import_tfds()
    base = name.split("/")[0].split(":")[0]
    if base == _OWN:
        # Registers its builder.
        importlib.import_module(f"keras_finegrain.datasets.{_OWN}")
    try:
        # Offline, asking the Google bucket for prepared data only takes time.
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        raise DatasetError(_unknown(name, data_dir)) from None
    except Exception as error:
        if not re.fullmatch(r"[A-Za-z_]\w*", base):
            raise DatasetError(_unknown(name, data_dir)) from None
        # "Failed to construct dataset "x", builder_kwargs "{…}": the reason"
        reason = re.sub(r"^.*?builder_kwargs.*?}\": ", "", str(error.args[0]))
        if reason.startswith("BuilderConfig"):
            configs = list(tfds.builder_cls(base).builder_configs)
            reason = f"its configurations are {listed(configs) or 'none'}"
        raise DatasetError(
            f"TFDS cannot open {name!r}: {one_line(reason)}"
        ) from error
    image_and_label_keys(builder)
    if crop_to_bbox and not _has_boxes(builder):
        raise DatasetError(
            f"crop_to_bbox=True needs a feature 'bbox', and {name!r} has "
            f"{listed(sorted(_features(builder)))}"
        )
    return builder


def image_and_label_keys(builder: Any) -> tuple[str, str]:
    """Returns the names of the features that hold the image and its class."""
    tfds = import_tfds()
    features = _features(builder)
    for keys in (builder.info.supervised_keys, ("image", "label")):
        if (
            keys
            and len(keys) == 2
            and all(isinstance(key, str) for key in keys)
            and isinstance(features.get(keys[0]), tfds.features.Image)
            and isinstance(features.get(keys[1]), tfds.features.ClassLabel)
        ):
            return keys[0], keys[1]
    raise DatasetError(
        f"{builder.name!r} is not a data set of images with one class each: "
        f"its features are {listed(sorted(features)) or 'unnamed'}"
    )


def read_prepared(builder: Any, wanted: Sequence[str] | None = None) -> Source:
    """Reads the labels of a prepared builder, and no image.

    The key of a record is the name of its file, where the data set has these
    and no two are the same, and "split/number" elsewhere.

    Where its label feature has numbers for names and the records carry a
    `label_name` (caltech_birds2011), the names are taken from the records:
    `baird_sparrow`.

    Args:
        builder: The builder.
        wanted: The splits to train and test on; None finds them.

    Raises:
        DatasetError: If there is no train split, the names of the splits do
            not tell which to test on, or a label is out of range.
    """
    splits = list(builder.info.splits)
    _, label_key = image_and_label_keys(builder)
    names = list(builder.info.features[label_key].names)

    def read(split: str) -> Records:
        return _read_split(builder, split, names)

    if wanted is not None:
        for split in wanted:
            if split not in splits:
                raise DatasetError(
                    f"{builder.name!r} has no split {split!r}, it has "
                    f"{listed(splits)}"
                )
        records = [read(split) for split in wanted]
        for split, split_records in zip(wanted, records, strict=True):
            if _is_held_back(split_records):
                raise DatasetError(
                    f"The labels of the split {split!r} of {builder.name!r} "
                    f"were held back: name another of {listed(splits)}"
                )
        train, test = records[0], records[1] if len(records) > 1 else None
        used = list(wanted)
    else:
        train_split = _of_role(builder, "train", splits)
        if train_split is None:
            raise DatasetError(
                f"{builder.name!r} has no split 'train', it has "
                f"{listed(splits)}. {naming((splits[0], splits[-1]))}"
            )
        train, test = read(train_split), None
        used = [train_split]
        for test_role in _TEST_ROLES:
            test_split = _of_role(builder, test_role, splits)
            if test_split is None:
                continue
            test = read(test_split)
            if not _is_held_back(test):
                used.append(test_split)
                break
            test = None
        _say_what_is_left(builder, used, splits)
    if test is not None and not set(train.keys).isdisjoint(test.keys):
        train, test = (
            dataclasses.replace(r, keys=_numbered(split, r.labels.size))
            for split, r in zip(used, (train, test), strict=True)
        )
    return Source(builder.name, tuple(names), train, test, is_complete=False)


def _of_role(builder: Any, wanted: Role, splits: list[str]) -> str | None:
    """Returns the split of a role, or None if there is none."""
    found = [split for split in splits if role(split) == wanted]
    if wanted in found:
        return wanted
    if len(found) > 1:
        raise DatasetError(
            f"{builder.name!r} has more than one split for {wanted}: "
            f"{listed(found)}. {naming((splits[0], splits[-1]))}"
        )
    return found[0] if found else None


def _say_what_is_left(builder: Any, used: list[str], splits: list[str]) -> None:
    """Warns of splits that are not read, or raises if one may be to test on."""
    left = [split for split in splits if split not in used]
    if not left:
        return
    unknown = [split for split in left if role(split) not in _TEST_ROLES]
    if len(used) == 1 and unknown:
        raise DatasetError(
            f"{builder.name!r} has the splits {listed(splits)}, and none with "
            f"labels is known to be for testing. {naming((used[0], left[0]))}"
        )
    divided = ", of which a part is tested on" if len(used) == 1 else ""
    warnings.warn(
        f"{builder.name!r}: the splits {listed(left)} are left out, beside "
        f"{listed(used)}{divided} (name them in splits= to say so)",
        stacklevel=2,
    )


def _is_held_back(records: Records) -> bool:
    return bool(records.labels.size) and bool((records.labels < 0).all())


def _features(builder: Any) -> dict[str, Any]:
    """Returns the features by name; none where records are not named."""
    tfds = import_tfds()
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        return {}
    return dict(features.items())


def _has_boxes(builder: Any) -> bool:
    box = _features(builder).get("bbox")
    return isinstance(box, import_tfds().features.BBoxFeature)


def _read_split(builder: Any, split: str, names: list[str]) -> Records:
    image_key, label_key = image_and_label_keys(builder)
    labels, keys = _read_labels(builder, split, label_key, names)
    boxes = ["bbox"] if _has_boxes(builder) else []

    def examples() -> Any:
        tf, tfds = import_tensorflow(), import_tfds()
        skip = {image_key: tfds.decode.SkipDecoding()}
        dataset = _dataset(builder, split, [image_key, label_key, *boxes], skip)
        return dataset.enumerate().map(
            lambda index, example: {
                "encoded": example[image_key],
                "label": example[label_key],
                "origin": tf.strings.join(
                    [f"{builder.name}, {split} record ", tf.as_string(index)]
                ),
                **{box: example[box] for box in boxes},
            }
        )

    return Records(labels, examples, keys)


def _numbered(split: str, size: int) -> tuple[str, ...]:
    return tuple(f"{split}/{number}" for number in range(size))


def _read_labels(
    builder: Any, split: str, label_key: str, names: list[str]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Reads labels and keys of a split; fills in `names` that are numbers."""
    tf, tfds = import_tensorflow(), import_tfds()
    wanted = [label_key]
    name_feature = _features(builder).get("label_name")
    if isinstance(name_feature, tfds.features.Text) and all(
        name == str(i) for i, name in enumerate(names)
    ):
        wanted.append("label_name")
    texts = [
        feature
        for feature in _FILE_NAMES
        if isinstance(_features(builder).get(feature), tfds.features.Text)
    ][:1]
    wanted += texts
    read = [np.zeros(0, np.int64)]
    keys: list[str] = []
    found: dict[int, str] = {}
    try:
        dataset = _dataset(builder, split, wanted).batch(_LABELS_PER_READ)
        for batch in dataset.as_numpy_iterator():
            read.append(batch[label_key])
            for text in texts:
                keys += [k.decode(errors="replace") for k in batch[text]]
            named = zip(
                batch[label_key], batch.get("label_name", ()), strict=False
            )
            found.update((int(label), name.decode()) for label, name in named)
    except tf.errors.OpError as error:
        raise DatasetError(
            f"The {split} records of {builder.name!r} in "
            f"{str(builder.data_path)!r} cannot be read "
            f"({one_line(error.message)}): remove the folder and prepare it "
            "anew"
        ) from error
    labels = np.concatenate(read, dtype=np.int64)
    wrong = labels[(labels < 0) | (labels >= len(names))]
    # The labels of a whole split may be held back.
    if wrong.size and not (labels < 0).all():
        raise DatasetError(
            f"{builder.name!r}: labels must lie in [0, {len(names)}), and the "
            f"split {split!r} has {wrong.size} others, such as {wrong[0]}: "
            "its records and its features.json do not belong together"
        )
    for label, name in found.items():
        names[label] = name
    if not keys or len(set(keys)) < len(keys):
        return labels, _numbered(split, labels.size)
    return labels, tuple(keys)


def _dataset(
    builder: Any,
    split: str,
    features: list[str],
    decoders: dict[str, Any] | None = None,
) -> Any:
    tfds = import_tfds()
    return builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(
            dict.fromkeys(features, True), decoders=decoders
        ),
        # TFDS would keep small data sets in memory, and warn whenever one is
        # not read to its end. The argument `cache` of `batches` decides.
        read_config=tfds.ReadConfig(try_autocache=False),
    )


def _unknown(name: str, data_dir: str | os.PathLike[str] | None) -> str:
    base = name.split("/")[0].split(":")[0]
    known = known_names()
    if data_dir is not None and pathlib.Path(data_dir).is_dir():
        known += [p.name for p in pathlib.Path(data_dir).iterdir()]
    # "Cars-196" for cars196: people remember the letters and the numbers.
    letters = {_letters(candidate): candidate for candidate in known}
    near = difflib.get_close_matches(_letters(base), list(letters), n=3)
    message = f"TFDS has no data set {name!r}"
    if near:
        return f"{message}: did you mean {listed([letters[n] for n in near])}?"
    return (
        f"{message}, and it is no folder: pass a name of "
        "https://www.tensorflow.org/datasets/catalog or a folder with one "
        "folder a class"
    )


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())

"""What a command is given: a run, a bundle or a model, and photos."""

import argparse
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_finegrain.cli.output import CommandError, Output
from keras_finegrain.cli.parsing import SELECTION, add_selection, expanded

if TYPE_CHECKING:
    from keras_finegrain.bundle import Bundle

BATCH_SIZE = 32
# Share of new photos of known classes that a run calls unknown.
FALSE_ALARMS = 0.05
# Options of `datasets.load` with which no photo is left out.
_ALL: Any = {"missing_test_classes": "allow", "single_images": "train"}


def add_run(parser: argparse.ArgumentParser, *, or_model: bool = False) -> None:
    """Adds RUN, and the method whose model is taken."""
    or_file = ", or a .keras file from images in [0, 255]" if or_model else ""
    parser.add_argument(
        "run",
        type=expanded,
        metavar="RUN|MODEL" if or_model else "RUN",
        help=f"folder of a run, or of one method in it{or_file}",
    )
    parser.add_argument(
        "--method",
        help="the run's method whose model is taken (default: the one that "
        "is right on most test photos)",
    )


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Adds the photos, or folders of them."""
    parser.add_argument(
        "photos",
        nargs="+",
        type=expanded,
        metavar="PHOTO|FOLDER",
        help="an image file, or a folder of which every image is taken",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds DATA: photos whose classes are known."""
    parser.add_argument(
        "data",
        nargs="?",
        type=expanded,
        metavar="DATA",
        help="a folder with one folder of photos for each class, or the name "
        "of a TFDS data set, of which all photos are taken; of what the run "
        "was trained on, and by default, its test photos",
    )
    parser.add_argument(
        "--data-dir",
        type=expanded,
        metavar="DIR",
        help="where TFDS keeps its data",
    )
    add_selection(parser)


def folder_of(options: argparse.Namespace, out: Output) -> pathlib.Path:
    """The folder of the bundle that is meant; says which where it chooses."""
    from keras_finegrain.bundle import (
        accuracy_on_test,
        bundle_folder,
        bundles_in,
    )

    run = pathlib.Path(options.run)
    if options.method:
        found = [each.name for each in bundles_in(run)]
        if found and options.method not in found:
            raise CommandError(
                f"--method {options.method}: {run} has {', '.join(found)}"
            )
        run = run / options.method if found else run
    folder = bundle_folder(run)
    if options.method and folder.resolve().name != options.method:
        raise CommandError(
            f"--method {options.method}: {run} is the folder of one method, "
            f"{folder.resolve().name}; leave --method out"
        )
    if folder != run:
        accuracy = accuracy_on_test(folder)
        out.say(
            f"the model of {folder.name}, of the run's methods the one that "
            f"is right on most test photos ({accuracy:.1%})"
        )
    return folder


def load(
    options: argparse.Namespace, out: Output
) -> tuple["Bundle", pathlib.Path]:
    """The bundle that is meant, and its folder."""
    from keras_finegrain.bundle import Bundle

    folder = folder_of(options, out)
    return Bundle.load(folder), folder


def paths_of(photos: list[str]) -> list[str]:
    """The image files that are meant."""
    from keras_finegrain import datasets

    paths: list[str] = []
    for photo in photos:
        is_folder = os.path.isdir(photo)
        paths += datasets.image_paths(photo) if is_folder else [photo]
    return paths


def answers(
    ask: Callable[[list[str]], list[Any]], paths: list[str]
) -> Iterator[tuple[str, Any]]:
    """What is answered to each path, or the error of one that has no answer.

    Args:
        ask: Gives one answer for each path.
        paths: The photos.
    """
    from keras_finegrain.datasets import DatasetError, MissingPackageError

    for start in range(0, len(paths), BATCH_SIZE):
        some = paths[start : start + BATCH_SIZE]
        try:
            yield from zip(some, ask(some), strict=True)
        except MissingPackageError:
            raise
        except DatasetError:
            # One of them is damaged: the others have an answer all the same.
            for path in some:
                try:
                    yield path, ask([path])[0]
                except DatasetError as error:
                    yield path, error


def model_and_data(
    options: argparse.Namespace, out: Output
) -> tuple["Bundle", pathlib.Path | None, "LabelledPhotos"]:
    """The model, its bundle's folder, and the photos to measure it on."""
    if not options.run.endswith(".keras"):
        bundle, folder = load(options, out)
        return bundle, folder, _photos_of(bundle, folder, options, out)
    if not options.data:
        raise CommandError(
            f"{options.run} is a model without a run: name DATA, the photos "
            "to measure it on"
        )
    data = _load_all(options)
    bundle = _bundle_of_file(options.run, data.class_names)
    return bundle, None, _joined(data)


class LabelledPhotos:
    """Photos with known classes.

    Attributes:
        pairs: `tf.data.Dataset` of single `(file, label)` pairs.
        keys: Path or number of each.
        name: Where they come from.
        known: Those that the model was trained on, where these are the test
            photos of the same data; else None.
    """

    def __init__(
        self,
        pairs: Any,
        keys: tuple[str, ...],
        name: str,
        known: "LabelledPhotos | None" = None,
    ) -> None:
        self.pairs, self.keys, self.name = pairs, keys, name
        self.known = known

    def batches(self, image_size: int) -> Any:
        """Batches of images in [0, 255] and labels, in their order."""
        from keras_finegrain import datasets

        return datasets.batches(
            self.pairs,
            image_size=image_size,
            batch_size=BATCH_SIZE,
            training=False,
        )

    def only(self, keys: set[str]) -> "LabelledPhotos":
        """Those of the photos that have these keys."""
        import tensorflow as tf

        is_kept = [key in keys for key in self.keys]
        kept = tf.constant(is_kept)
        pairs = (
            self.pairs.enumerate()
            .filter(lambda number, _: kept[number])
            .map(lambda _, pair: pair)
            .apply(tf.data.experimental.assert_cardinality(sum(is_kept)))
        )
        return LabelledPhotos(
            pairs, tuple(itertools.compress(self.keys, is_kept)), self.name
        )


def place_of(key: str, bundle: "Bundle") -> str:
    """The path of a known photo, where its key is one within the data."""
    path = os.path.join(data_of(bundle) or "", key)
    return path if os.path.isfile(path) else key


def own_data(
    bundle: "Bundle",
    folder: pathlib.Path,
    out: Output,
    data_dir: str | None = None,
) -> tuple[LabelledPhotos, LabelledPhotos]:
    """The photos that the bundle's model was tested and trained on.

    They are those that the run wrote down: a folder with one photo more would
    be divided in another way.

    Args:
        bundle: The model.
        folder: Its bundle's folder.
        out: Says how many photos the run did not have.
        data_dir: Where TFDS keeps its data now.

    Raises:
        CommandError: If nothing tells which photos these are, or none is left.
    """
    from keras_finegrain import datasets
    from keras_finegrain.bundle import TESTED

    trained = bundle.about.get("arguments", {})
    name = data_of(bundle)
    if name is None:
        raise CommandError("the bundle does not say what it was trained on")
    selection = {each: trained[each] for each in SELECTION if each in trained}
    if data_dir is not None:
        selection["data_dir"] = data_dir
    in_gallery = set(() if bundle.gallery is None else bundle.gallery.keys)
    tested = _tested_keys(folder)
    if tested is None:
        data = datasets.load(name, **selection, decode=False)
        tested = set(data.test_keys)
        if tested & in_gallery:
            raise CommandError(
                f"{name}: its photos are others than those of the run, and "
                f"{folder} does not say which were kept back ({TESTED} is "
                "missing). Name other photos as DATA, or train again"
            )
    else:
        data = datasets.load(name, **(selection | _ALL), decode=False)
    every = _relabelled(_joined(data), data.class_names, bundle)
    rest = set(every.keys) - tested
    # A gallery that was made anew may have keys of its own.
    known = rest & in_gallery or rest
    if new := len(rest - known):
        out.say(f"{name}: {new} photos that the run did not have are left out")
    gone = len(tested - set(every.keys))
    if not known or gone == len(tested):
        which = "test photos" if known else "training photos"
        raise CommandError(
            f"{name}: none of the run's {which} is there. Name other photos "
            "as DATA, or train again"
        )
    if gone:
        out.warn(f"{name}: {gone} of the run's test photos are gone")
    return every.only(tested), every.only(known)


def _tested_keys(folder: pathlib.Path) -> set[str] | None:
    """The keys of the photos that a run kept back, where they are kept."""
    from keras_finegrain.bundle import TESTED

    if not (folder / TESTED).is_file():
        return None
    with np.load(folder / TESTED, allow_pickle=False) as tested:
        return set(tested["keys"].tolist())


def data_of(bundle: "Bundle") -> str | None:
    """The name of the bundle's data, or the folder, wherever one is now."""
    named = bundle.about.get("arguments", {}).get("data")
    place = bundle.about.get("data_path")
    return place if place and os.path.isdir(place) else named


def _photos_of(
    bundle: "Bundle",
    folder: pathlib.Path,
    options: argparse.Namespace,
    out: Output,
) -> LabelledPhotos:
    """The photos of DATA, labelled as the bundle's model numbers classes."""
    # Its training photos would make the model look better than it is.
    is_same = _is_same(options.data, data_of(bundle))
    if options.data and not is_same:
        data = _load_all(options)
        photos = _joined(data)
        out.say(f"{photos.name}: {len(photos.keys)} photos, all that are there")
        _refuse_strangers(photos.name, data.class_names, bundle)
        return _relabelled(photos, data.class_names, bundle)
    if data_of(bundle) is None:
        raise CommandError(
            f"{options.run} does not say what it was trained on: name DATA, "
            "the photos to measure it on"
        )
    if options.classes or options.splits:
        raise CommandError(
            "--classes, --splits: are for other data than the run's own, of "
            "which its test photos are taken; leave them out, or name DATA"
        )
    tested, known = own_data(bundle, folder, out, options.data_dir)
    tested.known = known
    out.say(f"{tested.name}: its {len(tested.keys)} test photos")
    return tested


def _is_same(data: str | None, trained: str | None) -> bool:
    if not data or not trained:
        return False
    is_folder = os.path.isdir(data) and os.path.isdir(trained)
    return os.path.samefile(data, trained) if is_folder else data == trained


def _load_all(options: argparse.Namespace) -> Any:
    from keras_finegrain import datasets

    return datasets.load(
        options.data,
        data_dir=options.data_dir,
        classes=options.classes,
        splits=options.splits,
        **_ALL,
        decode=False,
    )


def _joined(data: Any) -> LabelledPhotos:
    pairs = data.train.concatenate(data.test)
    return LabelledPhotos(pairs, data.train_keys + data.test_keys, data.name)


def _refuse_strangers(
    data: str, names: tuple[str, ...], bundle: "Bundle"
) -> None:
    known = list(bundle.class_names)
    strangers = [name for name in names if name not in known]
    if strangers:
        raise CommandError(
            f"{data}: the model has no class {strangers[0]!r}"
            + (f" and {len(strangers) - 1} others" if strangers[1:] else "")
            + f"; its {len(known)} classes are {', '.join(known[:5])}"
            + (", …" if known[5:] else "")
            + ". Rename the folders, or leave them out"
        )


def _relabelled(
    photos: LabelledPhotos, names: tuple[str, ...], bundle: "Bundle"
) -> LabelledPhotos:
    """The photos with the model's labels; of a class it has not, -1."""
    numbers = {name: number for number, name in enumerate(bundle.class_names)}
    if list(names) == list(numbers):
        return photos
    import tensorflow as tf

    table = tf.constant([numbers.get(name, -1) for name in names], tf.int64)
    pairs = photos.pairs.map(lambda image, label: (image, table[label]))
    return LabelledPhotos(pairs, photos.keys, photos.name)


def _bundle_of_file(path: str, class_names: tuple[str, ...]) -> "Bundle":
    import keras

    from keras_finegrain.bundle import Bundle

    if not os.path.isfile(path):
        raise CommandError(f"{path}: there is no such file")
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged archive may raise anything
        raise CommandError(
            f"{path}: no model that Keras can read ({error})"
        ) from error
    sides = model.input_shape[1:3]
    if len(model.input_shape) != 4 or None in sides or sides[0] != sides[1]:
        raise CommandError(
            f"{path}: its model must take square images of a fixed size, and "
            f"takes {model.input_shape}"
        )
    return Bundle(model, class_names, int(sides[0]))

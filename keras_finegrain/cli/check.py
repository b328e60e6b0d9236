"""`check`: whether photos can be read, and what is in them."""

import argparse

import numpy as np

from keras_finegrain.cli.output import DONE, Output
from keras_finegrain.cli.parsing import add_division, add_selection, expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument(
        "data",
        type=expanded,
        metavar="DATA",
        help="a folder with one folder of photos for each class, or the name "
        "of a TFDS data set",
    )
    parser.add_argument(
        "--data-dir",
        type=expanded,
        metavar="DIR",
        help="where TFDS keeps its data",
    )
    add_selection(parser)
    add_division(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    """Reads every image, and says how many of each class there are."""
    from keras_finegrain import datasets
    from keras_finegrain.datasets.loading import open_splits
    from keras_finegrain.datasets.selection import Division

    out.say(f"reading every image of {options.data} …")
    division = {
        "missing_test_classes": options.missing_test_classes,
        "single_images": options.single_images,
    }
    datasets.check(
        options.data,
        options.data_dir,
        options.classes,
        splits=options.splits,
        **division,
    )
    found = open_splits(
        options.data,
        options.data_dir,
        options.classes,
        Division(**division),
        splits=options.splits,
    )
    names = found.class_names
    counts = [
        np.bincount(records.labels, minlength=len(names)).tolist()
        for records in (found.train, found.test)
    ]
    rows = list(zip(names, counts[0], counts[1], strict=True))
    width = max(map(len, names))
    out.answer(f"{'class':{width}}  train  test")
    for name, trained, tested in rows:
        out.answer(f"{name:{width}}  {trained:5d}  {tested:4d}")
    total = sum(map(sum, counts))
    out.answer(
        f"{total} photos of {len(names)} classes can be read, "
        f"{sum(counts[0])} to train on and {sum(counts[1])} to test on"
    )
    few = [name for name, own in zip(names, counts[0], strict=True) if own < 5]
    if few:
        out.warn(
            f"{len(few)} classes have fewer than 5 photos to train on, such as "
            f"{few[0]}: more photos help more than any method"
        )
    out.result(
        {
            "data": options.data,
            "classes": {
                name: {"train": trained, "test": tested}
                for name, trained, tested in zip(
                    names, counts[0], counts[1], strict=True
                )
            },
        }
    )
    return DONE

"""What the command lines have in common."""

import argparse
import datetime
import math
import os
from collections.abc import Callable
from typing import Any

Reader = Callable[[str], Any]

# Options that are arguments of `datasets.load`.
SELECTION = (
    *("data_dir", "classes", "crop_to_bbox", "splits"),
    *("missing_test_classes", "single_images"),
)


class HelpFormatter(argparse.HelpFormatter):
    """States the defaults that are values; the others are in the text."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if isinstance(action.default, str | int | float) and not (
            action.default is False or action.default == argparse.SUPPRESS
        ):
            text += " (default: %(default)s)"
        return text


def add_values(group: Any, *options: tuple[str, Reader, Any, str, str]) -> None:
    """Adds options of one value: name, type, default, metavar and help."""
    for name, kind, default, metavar, text in options:
        group.add_argument(
            name, type=kind, default=default, metavar=metavar, help=text
        )


def add_choice(
    group: Any, name: str, choices: tuple[str, ...], text: str
) -> None:
    """Adds an option that is one of these; the first is the default."""
    group.add_argument(name, choices=choices, default=choices[0], help=text)


def add_run(group: Any) -> None:
    """Adds the seeds and the folder of the results."""
    add_values(
        group,
        ("--seeds", integer(1), 1, "N", "repeat everything with N seeds"),
        (
            *("--first-seed", integer(0), 0, "SEED"),
            "tune on other seeds than you report",
        ),
        (
            "--output",
            expanded,
            None,
            "DIR",
            "a new folder; default: runs/<time>",
        ),
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of an earlier run in --output",
    )


def add_selection(group: Any) -> None:
    """Adds which classes and splits are taken, as `datasets.load`."""
    group.add_argument(
        "--classes",
        metavar="PATTERN",
        help="take only the classes whose name contains this, e.g. sparrow",
    )
    group.add_argument(
        "--splits",
        nargs="+",
        metavar="NAME",
        help="what to train on and what to test on, where their names do not "
        "tell; one alone is divided, and . is the whole folder",
    )


def add_division(group: Any) -> None:
    """Adds what is done with classes of few images, as `datasets.load`."""
    add_choice(
        *(group, "--single-images", ("error", "train", "drop")),
        "a class of one image, where the data has no test photos of its own: "
        "train on it and do not test it, or leave it out",
    )
    add_choice(
        *(group, "--missing-test-classes", ("error", "allow")),
        "whether the data's own test photos may lack classes",
    )


# A shell leaves `--output=~/a` as it is.
expanded = os.path.expanduser


def new_folder() -> str:
    """The default of `--output`."""
    return f"runs/{datetime.datetime.now():%Y%m%d-%H%M%S}"


def integer(at_least: int, at_most: int = 2**31 - 1) -> Reader:
    """Reads an integer in this range; by default one that a tensor can hold."""
    rule = f"an integer of at least {at_least} and at most {at_most}"
    return _reader(int, rule, lambda value: at_least <= value <= at_most)


def _reader(kind: Reader, rule: str, is_valid: Callable[[Any], bool]) -> Reader:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        # (Python compares an int of any size.)
        if not -math.inf < value < math.inf or not is_valid(value):
            raise argparse.ArgumentTypeError(
                f"must be {rule}, received {text!r}"
            )
        return value

    return read


positive = _reader(float, "a number above 0", lambda value: value > 0)
not_negative = _reader(
    float, "a number of at least 0", lambda value: value >= 0
)
share = _reader(float, "a number in [0, 1]", lambda value: 0 <= value <= 1)

"""The command line."""

import argparse
import datetime
from collections.abc import Sequence

from birds_lib.parsing import (
    OneLineParser,
    integer,
    not_negative,
    positive,
    share,
)

VARIANTS = ("softmax", "center", "normalized")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    Args:
        argv: The arguments; `sys.argv` if None.

    Returns:
        The options, each checked for its own range.
    """
    options = _parser().parse_args(argv)
    options.variants = list(dict.fromkeys(options.variants))
    if options.epochs is None:
        options.epochs = 40 if options.dataset == "digits" else 20
    if options.lr is None:
        options.lr = 3e-3 if options.dataset == "digits" else 1e-3
    if options.output is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        options.output = f"runs/{now}"
    return options


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="mnist_features.py",
        description="Train two-dimensional features with and without center "
        "loss and draw them.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--dataset",
        default="digits",
        metavar="NAME|FOLDER",
        help="digits (8 x 8, part of scikit-learn), mnist or fashion_mnist "
        "(downloaded by TFDS), or a folder with the four IDX files of MNIST "
        "(default: digits)",
    )
    add("--data-dir", metavar="DIR", help="where TFDS keeps its data")
    add(
        "--train-images",
        type=integer(1),
        metavar="N",
        help="train on this many, drawn once; default: all",
    )
    add(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="for the legends; an IDX file has none",
    )
    add(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="VARIANT",
        help=f"one or several of {', '.join(VARIANTS)}; default: all",
    )
    add(
        "--center-weight",
        type=not_negative,
        default=0.1,
        metavar="WEIGHT",
        help="weight λ of the center loss (default: 0.1)",
    )
    add(
        "--normalized-weight",
        type=not_negative,
        default=0.1,
        metavar="WEIGHT",
        help="the same for normalized (default: 0.1)",
    )
    add(
        "--alpha",
        type=share,
        default=0.5,
        help="step α of the centers (default: 0.5)",
    )
    add(
        "--epochs",
        type=integer(1),
        metavar="N",
        help="default: 40 for digits, else 20",
    )
    add(
        "--batch-size",
        type=integer(1),
        default=64,
        metavar="N",
        help="default: 64",
    )
    add(
        "--lr",
        type=positive,
        metavar="RATE",
        help="first learning rate of Adam, which falls to 0 as a cosine; "
        "default: 0.003 for digits, else 0.001",
    )
    add(
        "--seeds",
        type=integer(1),
        default=1,
        metavar="N",
        help="repeat everything with this many seeds (default: 1)",
    )
    add(
        "--first-seed",
        type=integer(0),
        default=0,
        metavar="SEED",
        help="tune on other seeds than you report (default: 0)",
    )
    add("--output", metavar="DIR", help="a new folder; default: runs/<time>")
    add(
        "--overwrite",
        action="store_true",
        help="replace the results of an earlier run in --output",
    )
    return parser

"""The command line."""

import argparse
from collections.abc import Sequence

from keras_finegrain.cli.parsing import (
    OneLineParser,
    add_run,
    add_values,
    integer,
    new_folder,
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
        options.output = new_folder()
    return options


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        "mnist_features.py",
        "Train two-dimensional features with and without center loss and draw "
        "them.",
    )
    parser.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="for the legends; an IDX file has none",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="VARIANT",
        help=f"one or several of {', '.join(VARIANTS)}; default: all",
    )
    add_values(
        parser,
        (
            *("--dataset", str, "digits", "NAME|FOLDER"),
            "digits (8 x 8, part of scikit-learn), mnist or fashion_mnist "
            "(downloaded by TFDS), or a folder with the four IDX files of "
            "MNIST",
        ),
        ("--data-dir", str, None, "DIR", "where TFDS keeps its data"),
        (
            *("--train-images", integer(1), None, "N"),
            "train on this many, drawn once; default: all",
        ),
        ("--center-weight", not_negative, 0.1, "λ", "of the center loss"),
        ("--normalized-weight", not_negative, 0.1, "λ", "of normalized"),
        ("--alpha", share, 0.5, "α", "step of the centers"),
        ("--epochs", integer(1), None, "N", "40 for digits, else 20"),
        ("--batch-size", integer(1), 64, "N", "images in a batch"),
        (
            *("--lr", positive, None, "RATE"),
            "first learning rate of Adam, which falls to 0 as a cosine; 0.003 "
            "for digits, else 0.001",
        ),
    )
    add_run(parser)
    return parser

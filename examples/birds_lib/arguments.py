"""The command line."""

import argparse
import datetime
from collections.abc import Sequence
from typing import Any

from birds_lib.parsing import (
    OneLineParser,
    integer,
    not_negative,
    positive,
    share,
)

DEFAULT_METHODS = ("softmax", "center", "mc", "soft_triple")
# Those of `keras_finegrain.training.methods`, which to import takes seconds.
METHODS = (
    *DEFAULT_METHODS,
    *("hard_triple", "cosine"),
    *("normface", "cosface", "arcface", "subcenter_arcface", "sphereface"),
    *("combined_margin", "center_contrastive"),
    *("proxy_nca", "proxy_nca_plus_plus", "proxy_anchor"),
    *("triplet", "triplet_hard", "triplet_soft", "triplet_all"),
    *("contrastive", "multi_similarity", "n_pairs"),
)
BUILT_IN = "small"


class _HelpFormatter(argparse.HelpFormatter):
    """States the defaults that are values; the others are in the text."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if isinstance(action.default, str | int | float) and (
            action.default not in (False, argparse.SUPPRESS)
        ):
            text += " (default: %(default)s)"
        return text


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; what depends on another option is filled in.

    Args:
        argv: The arguments; `sys.argv` if None.

    Returns:
        The options, each checked for its own range.
    """
    arguments = _parser().parse_args(argv)
    arguments.method = list(dict.fromkeys(arguments.method))
    built_in = arguments.backbone == BUILT_IN
    if arguments.weights is None:
        arguments.weights = "none" if built_in else "imagenet"
    if arguments.image_size is None:
        arguments.image_size = 64 if built_in else 224
    if arguments.epochs is None:
        arguments.epochs = 12 if built_in else 30
    if arguments.lr is None:
        arguments.lr = 3e-3 if arguments.weights == "none" else 1e-4
    if arguments.output is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        arguments.output = f"runs/{now}"
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="train_birds.py",
        description="Train a classifier on look-alike birds by one or several "
        "methods and say what each bought.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_methods(parser.add_argument_group("the methods' own settings"))
    return parser


def _add_data(group: Any) -> None:
    group.add_argument(
        "--dataset",
        default="synthetic_birds",
        metavar="NAME|FOLDER",
        help="a TFDS data set with a label, or a folder with one folder a "
        "class",
    )
    group.add_argument(
        "--data-dir", metavar="DIR", help="where TFDS keeps its data"
    )
    group.add_argument(
        "--classes",
        metavar="PATTERN",
        help="take only the classes whose name holds this, e.g. sparrow",
    )
    group.add_argument(
        "--crop-to-bbox",
        action="store_true",
        help="cut every image to its bounding box",
    )
    group.add_argument(
        "--image-size",
        type=integer(8),
        metavar="PIXELS",
        help=f"side of the input; 64 for {BUILT_IN}, else 224",
    )
    group.add_argument(
        "--augment",
        choices=("flip_crop", "flip", "none"),
        default="flip_crop",
        help="how training images vary",
    )


def _add_model(group: Any) -> None:
    group.add_argument(
        "--backbone",
        default=BUILT_IN,
        metavar="NAME",
        help=f"{BUILT_IN} (a built-in conv net), a name in "
        "keras.applications, a KerasHub preset or a .keras file",
    )
    group.add_argument(
        "--backbone-args",
        nargs="+",
        type=_key_value,
        default=[],
        metavar="KEY=VALUE",
        help="further arguments of the backbone, e.g. alpha=0.75",
    )
    group.add_argument(
        "--weights",
        metavar="imagenet|none|FILE",
        help=f"first weights of the backbone; none for {BUILT_IN}, else "
        "imagenet",
    )
    group.add_argument(
        "--freeze",
        metavar="LAYER",
        help="keep the backbone up to this layer as it is, and compute its "
        "output over the data set once",
    )
    group.add_argument(
        "--views",
        type=integer(1),
        default=8,
        metavar="N",
        help="random views of each training image that a frozen part sees",
    )
    group.add_argument(
        "--pooling",
        choices=("average", "max"),
        default="average",
        help="over the feature map",
    )
    group.add_argument(
        "--embedding-size",
        type=integer(1),
        metavar="N",
        help="put a linear layer of this size after the pooling",
    )


def _add_training(group: Any) -> None:
    group.add_argument(
        "--method",
        nargs="+",
        choices=METHODS,
        default=list(DEFAULT_METHODS),
        metavar="METHOD",
        help=f"one or several of {', '.join(METHODS)}; by default "
        f"{', '.join(DEFAULT_METHODS)}",
    )
    group.add_argument(
        "--epochs", type=integer(1), help=f"12 for {BUILT_IN}, else 30"
    )
    group.add_argument(
        "--batch-size",
        type=integer(2),
        default=32,
        help="images in a batch, over all devices",
    )
    group.add_argument(
        "--lr",
        type=positive,
        help="first learning rate of AdamW, which falls to 0 as a cosine; "
        "0.003 from scratch, else 0.0001",
    )
    group.add_argument(
        "--head-lr-multiplier",
        type=positive,
        default=1.0,
        metavar="FACTOR",
        help="the head and its centers learn this much faster",
    )
    group.add_argument(
        "--weight-decay", type=not_negative, default=1e-4, help="of AdamW"
    )
    group.add_argument(
        "--seeds",
        type=integer(1),
        default=1,
        metavar="N",
        help="repeat everything with this many seeds",
    )
    group.add_argument(
        "--first-seed",
        type=integer(0),
        default=0,
        metavar="SEED",
        help="tune on other seeds than you report",
    )
    group.add_argument(
        "--distribute",
        choices=("none", "mirrored", "auto"),
        default="none",
        help="train on all local devices; auto where there are several",
    )
    group.add_argument(
        "--mixed-precision",
        choices=("none", "float16", "bfloat16"),
        default="none",
        help="compute in half precision",
    )
    group.add_argument(
        "--xla", action="store_true", help="compile the step with XLA"
    )
    group.add_argument(
        "--output", metavar="DIR", help="a new folder; default: runs/<time>"
    )
    group.add_argument(
        "--report",
        action="store_true",
        help="a page on each method's first model: figures, confusions, photos",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with a stopped run in --output; finished seeds are kept",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of an earlier run in --output",
    )


def _add_methods(group: Any) -> None:
    group.add_argument(
        "--loss-args",
        nargs="+",
        type=_key_value,
        default=[],
        metavar="KEY=VALUE",
        help="arguments of the compiled loss, e.g. scale=16 margin=0.3",
    )
    group.add_argument(
        "--images-per-class",
        type=integer(2),
        default=4,
        metavar="M",
        help="images of each class in a batch of the methods on pairs",
    )
    group.add_argument(
        "--sub-centers",
        type=integer(1),
        default=3,
        metavar="K",
        help="centers of each class of subcenter_arcface",
    )
    group.add_argument(
        "--center-weight",
        type=not_negative,
        default=1e-3,
        help="weight λ of the center loss",
    )
    group.add_argument(
        "--center-alpha", type=share, default=0.5, help="step α of the centers"
    )
    group.add_argument(
        "--mc-weight",
        type=not_negative,
        default=0.005,
        help="weight μ of the mutual-channel loss",
    )
    group.add_argument(
        "--mc-diversity-weight",
        type=not_negative,
        default=10.0,
        help="weight λ of the diversity",
    )
    group.add_argument(
        "--soft-triple-centers",
        type=integer(1),
        default=10,
        help="centers K of each class",
    )
    group.add_argument(
        "--soft-triple-gamma",
        type=positive,
        default=0.1,
        help="softness γ of the choice of a center",
    )
    group.add_argument(
        "--soft-triple-tau",
        type=not_negative,
        default=0.2,
        help="weight τ of the regularizer",
    )
    group.add_argument(
        "--soft-triple-scale",
        type=positive,
        default=20.0,
        help="scale λ of the similarities",
    )
    group.add_argument(
        "--soft-triple-margin",
        type=not_negative,
        default=0.01,
        help="margin δ",
    )


def _key_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(
            f"must be KEY=VALUE such as alpha=0.75, received {text!r}"
        )
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, {"true": True, "false": False}.get(value.lower(), value)

"""The command line."""

import argparse
from collections.abc import Sequence
from typing import Any

from birds_lib.parsing import (
    OneLineParser,
    add_choice,
    add_run,
    add_values,
    integer,
    new_folder,
    not_negative,
    positive,
    share,
)

DEFAULT_METHODS = ("softmax", "center", "mc", "soft_triple")
# Those of `keras_finegrain.training.methods`, whose import takes seconds.
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
# A batch of larger images needs more memory than a machine has.
MOST_PIXELS = 4096


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; defaults that depend on options are filled in.

    Args:
        argv: The arguments; `sys.argv` if None.

    Returns:
        The options, each checked for its own range.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    options.method = list(dict.fromkeys(options.method))
    built_in = options.backbone == BUILT_IN
    if options.weights is None:
        options.weights = "none" if built_in else "imagenet"
    if options.image_size is None:
        options.image_size = 64 if built_in else 224
    if options.epochs is None:
        options.epochs = 12 if built_in else 30
    # With --freeze it depends on what the backbone has behind that layer.
    if options.lr is None and options.freeze is None:
        options.lr = 3e-3 if options.weights == "none" else 1e-4
    if options.output is None:
        if options.resume:
            parser.error("--resume: needs --output, the folder to go on in")
        options.output = new_folder()
    return options


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        "train_birds.py",
        "Train a classifier on look-alike birds by one or several methods and "
        "compare them.",
    )
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_methods(parser.add_argument_group("the methods' own settings"))
    return parser


def _add_data(group: Any) -> None:
    add_values(
        group,
        (
            *("--dataset", str, "synthetic_birds", "NAME|FOLDER"),
            "a TFDS data set with a label, or a folder with one folder a class",
        ),
        ("--data-dir", str, None, "DIR", "where TFDS keeps its data"),
        (
            *("--classes", str, None, "PATTERN"),
            "take only the classes whose name contains this, e.g. sparrow",
        ),
        (
            *("--image-size", integer(8, MOST_PIXELS), None, "PIXELS"),
            f"side of the input; 64 for {BUILT_IN}, else 224",
        ),
    )
    group.add_argument(
        "--crop-to-bbox",
        action="store_true",
        help="cut every image to its bounding box",
    )
    group.add_argument(
        "--splits",
        nargs="+",
        metavar="NAME",
        help="what to train on and what to test on, where their names do not "
        "tell; one alone is divided",
    )
    add_choice(
        *(group, "--augment", ("flip_crop", "flip", "none")),
        "how training images vary",
    )


def _add_model(group: Any) -> None:
    add_values(
        group,
        (
            *("--backbone", str, BUILT_IN, "NAME"),
            f"{BUILT_IN} (a built-in conv net), a name in keras.applications, "
            "a KerasHub preset or a .keras file",
        ),
        (
            *("--weights", str, None, "imagenet|none|FILE"),
            f"first weights of the backbone; none for {BUILT_IN}, else "
            "imagenet",
        ),
        (
            *("--freeze", str, None, "LAYER"),
            "do not train the backbone up to this layer, and compute its "
            "output over the data set once",
        ),
        (
            *("--views", integer(1), 8, "N"),
            "random views of each training image that a frozen part sees",
        ),
        (
            *("--embedding-size", integer(1), None, "N"),
            "put a linear layer of this size after the pooling",
        ),
    )
    _add_key_values(
        group,
        "--backbone-args",
        "further arguments of the backbone",
        "alpha=0.75",
    )
    add_choice(group, "--pooling", ("average", "max"), "over the feature map")


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
    add_values(
        group,
        ("--epochs", integer(1), None, "N", f"12 for {BUILT_IN}, else 30"),
        (
            *("--batch-size", integer(2), 32, "N"),
            "images in a batch, over all devices",
        ),
        (
            *("--lr", positive, None, "RATE"),
            "first learning rate of AdamW, which falls to 0 as a cosine; "
            "0.003 from scratch, 0.01 where --freeze leaves the head alone, "
            "else 0.0001",
        ),
        (
            *("--head-lr-multiplier", positive, 1.0, "FACTOR"),
            "the head and its centers learn this much faster",
        ),
        ("--weight-decay", not_negative, 1e-4, "DECAY", "of AdamW"),
    )
    add_choice(
        *(group, "--distribute", ("none", "mirrored", "auto")),
        "train on all local devices; auto where there are several",
    )
    add_choice(
        *(group, "--mixed-precision", ("none", "float16", "bfloat16")),
        "compute in half precision",
    )
    for name, text in (
        ("--xla", "compile the step with XLA"),
        (
            "--report",
            "a page on each method's first model: metrics, confusions, photos",
        ),
        (
            "--resume",
            "go on with a stopped run in --output; finished seeds are kept",
        ),
    ):
        group.add_argument(name, action="store_true", help=text)
    add_run(group)


def _add_methods(group: Any) -> None:
    _add_key_values(
        group,
        "--loss-args",
        "arguments of the compiled loss",
        "scale=16 margin=0.3",
    )
    add_values(
        group,
        (
            *("--images-per-class", integer(2), 4, "M"),
            "images of each class in a batch of the methods on pairs",
        ),
        (
            *("--sub-centers", integer(1), 3, "K"),
            "centers of each class of subcenter_arcface",
        ),
        ("--center-weight", not_negative, 1e-3, "λ", "of the center loss"),
        ("--center-alpha", share, 0.5, "α", "step of its centers"),
        ("--mc-weight", not_negative, 0.005, "μ", "of the mutual-channel loss"),
        ("--mc-diversity-weight", not_negative, 10.0, "λ", "of its diversity"),
        ("--soft-triple-centers", integer(1), 10, "K", "centers of each class"),
        (
            *("--soft-triple-gamma", positive, 0.1, "γ"),
            "softness of the choice of a center",
        ),
        ("--soft-triple-tau", not_negative, 0.2, "τ", "of the regularizer"),
        (
            *("--soft-triple-scale", positive, 20.0, "λ"),
            "scale of the similarities",
        ),
        ("--soft-triple-margin", not_negative, 0.01, "δ", "margin"),
    )


def _add_key_values(group: Any, name: str, what: str, example: str) -> None:
    group.add_argument(
        name,
        nargs="+",
        type=_key_value,
        default=[],
        metavar="KEY=VALUE",
        help=f"{what}, e.g. {example}",
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

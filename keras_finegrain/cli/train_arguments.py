"""The options of `keras-finegrain train`."""

import argparse
from typing import Any

from keras_finegrain.cli.output import CommandError
from keras_finegrain.cli.parsing import (
    add_choice,
    add_division,
    add_run,
    add_selection,
    add_values,
    expanded,
    integer,
    new_folder,
    not_negative,
    positive,
    share,
)

DRAWN = "synthetic_birds"
# Species of several looks each, where SoftTriple gains.
_DEFAULT_DATA = f"{DRAWN}/three_plumages"
BUILT_IN = "small"
DRAWN_WEIGHTS = "drawn_birds"
# Behind it lies the last block of the built-in backbone.
_LAST_BLOCK = "pool_4"
# Small, quick without a GPU, and in keras.applications.
PRETRAINED = "MobileNetV2"
# With the drawn birds. Photos do without mc: with the backbone frozen, as it
# is by default, it has nothing to teach.
DEFAULT_METHODS = ("softmax", "center", "mc", "soft_triple")
PHOTO_METHODS = ("softmax", "center", "soft_triple")
# Those of `keras_finegrain.training.methods`, whose import takes seconds.
METHODS = (
    *DEFAULT_METHODS,
    *("pmg", "hard_triple", "cosine", "gaussian_mixture"),
    *("normface", "cosface", "arcface", "subcenter_arcface", "sphereface"),
    *("combined_margin", "center_contrastive"),
    *("proxy_nca", "proxy_nca_plus_plus", "proxy_anchor", "coco"),
    *("triplet", "triplet_hard", "triplet_soft", "triplet_all"),
    *("contrastive", "multi_similarity", "n_pairs", "sup_con", "circle"),
    *("logit_adjusted", "ldam"),
)
# Keeps the cached features of a frozen backbone from becoming one vector.
_EMBEDDING_SIZE = 256
# Of the mutual-channel paper.
_CHANNELS_A_CLASS = 3
# A batch of larger images needs more memory than a machine has.
_MOST_PIXELS = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_methods(parser.add_argument_group("the methods' own settings"))


def complete(options: argparse.Namespace) -> None:
    """Fills in the defaults that depend on other options.

    Raises:
        CommandError: If `--resume` does not say where.
    """
    drawn = options.data.split("/")[0] == DRAWN
    if options.backbone is None:
        options.backbone = BUILT_IN if drawn else PRETRAINED
    built_in = options.backbone == BUILT_IN
    methods = options.method or (DEFAULT_METHODS if drawn else PHOTO_METHODS)
    options.method = list(dict.fromkeys(methods))
    if options.weights is None:
        own = DRAWN_WEIGHTS if drawn else "none"
        options.weights = own if built_in else "imagenet"
    pretrained = options.weights != "none"
    is_drawn = options.weights == DRAWN_WEIGHTS
    if options.freeze is None and pretrained:
        options.freeze = _LAST_BLOCK if is_drawn else "all"
    if options.freeze == "none":
        options.freeze = None
    if options.embedding_size is None and pretrained:
        options.embedding_size = _EMBEDDING_SIZE
    options.embedding_size = options.embedding_size or None
    if options.mc_branch is None:
        options.mc_branch = _CHANNELS_A_CLASS if pretrained else 0
    if options.image_size is None:
        options.image_size = 64 if built_in else 224
    if options.pooling is None:
        # Progressive training has a pooling of its own.
        is_own = built_in and (is_drawn or not pretrained)
        gem = is_own and "pmg" not in options.method
        options.pooling = "gem" if gem else "average"
    if options.epochs is None:
        options.epochs = 12 if built_in and not pretrained else 30
    if options.output is None:
        if options.resume:
            raise CommandError(
                "--resume: needs --output, the folder to go on in"
            )
        options.output = new_folder()


def _add_data(group: Any) -> None:
    group.add_argument(
        "data",
        nargs="?",
        type=expanded,
        default=_DEFAULT_DATA,
        metavar="DATA",
        help="a folder with one folder of photos for each class, or the name "
        f"of a TFDS data set; {DRAWN} are drawn",
    )
    add_values(
        group,
        ("--data-dir", expanded, None, "DIR", "where TFDS keeps its data"),
        (
            *("--image-size", integer(8, _MOST_PIXELS), None, "PIXELS"),
            f"side of the input; 64 for {BUILT_IN}, else 224",
        ),
    )
    group.add_argument(
        "--crop-to-bbox",
        action="store_true",
        help="cut every image to its bounding box",
    )
    add_selection(group)
    add_division(group)
    add_choice(
        *(group, "--augment", ("flip_crop", "flip", "none")),
        "how training images vary",
    )


def _add_model(group: Any) -> None:
    add_values(
        group,
        (
            *("--backbone", expanded, None, "NAME|FILE"),
            f"a name in keras.applications, a KerasHub preset, a .keras file "
            f"from images in [0, 255] to a feature map, or {BUILT_IN} (a "
            f"built-in conv net); {PRETRAINED}, and {BUILT_IN} for {DRAWN}",
        ),
        (
            *("--weights", expanded, None, "imagenet|drawn_birds|none|FILE"),
            "first weights of the backbone; imagenet, and for "
            f"{BUILT_IN} {DRAWN_WEIGHTS} with {DRAWN}, else none",
        ),
        (
            *("--freeze", str, None, "all|none|LAYER"),
            "what of the backbone is not trained: all of it, whose output is "
            "computed once, so that each method takes seconds; none, which "
            "is slow and needs many photos; or all up to a layer. all with "
            f"pretrained weights ({_LAST_BLOCK} with {DRAWN_WEIGHTS}), else "
            "none",
        ),
        (
            *("--views", integer(1), 8, "N"),
            "random views of each training image that a frozen part sees",
        ),
        (
            *("--embedding-size", integer(0), None, "N"),
            "put a linear layer of this size after the pooling, 0 for none; "
            f"{_EMBEDDING_SIZE} with pretrained weights, else 0",
        ),
    )
    group.add_argument(
        "--embedding-neck",
        action="store_true",
        help="no bias in that layer, and batch normalization behind it",
    )
    _add_key_values(
        group,
        "--backbone-args",
        "further arguments of the backbone",
        "alpha=0.75",
    )
    group.add_argument(
        "--pooling",
        choices=("average", "max", "gem", "average_max"),
        help="over the feature map; gem lies between average and max, and "
        f"learns where. gem for {BUILT_IN} from scratch or with "
        f"{DRAWN_WEIGHTS}, else average",
    )


def _add_training(group: Any) -> None:
    group.add_argument(
        "--method",
        nargs="+",
        choices=METHODS,
        metavar="METHOD",
        help=f"one or several of {', '.join(METHODS)}; by default "
        f"{', '.join(PHOTO_METHODS)}, and mc with {DRAWN}",
    )
    add_values(
        group,
        (
            *("--epochs", integer(1), None, "N"),
            f"12 for {BUILT_IN} from scratch, else 30",
        ),
        (
            *("--batch-size", integer(2), 32, "N"),
            "images in a batch, over all devices",
        ),
        (
            *("--lr", positive, None, "RATE"),
            "first learning rate of AdamW, which falls to 0 as a cosine; "
            f"0.003 from scratch or with {DRAWN_WEIGHTS}, 0.0003 for a "
            "pretrained backbone, 0.001 "
            "where --freeze leaves a part of it, and 0.003 where it leaves "
            "none (0.01 without --embedding-size)",
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
            "--no-cache",
            "compute the features of a frozen backbone anew, and keep none",
        ),
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
            *("--memory-size", integer(0), 0, "N"),
            "embeddings of earlier batches that methods on pairs compare with",
        ),
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
        ("--mc-weight", not_negative, 0.3, "μ", "of the mutual-channel loss"),
        (
            *("--mc-diversity-weight", not_negative, None, "λ"),
            "of its diversity; 1 / ξ, with ξ channels a class",
        ),
        (
            *("--mc-branch", integer(0), None, "N"),
            "channels a class in a branch of their own, 0 for the map itself; "
            f"{_CHANNELS_A_CLASS} with pretrained weights, else 0",
        ),
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

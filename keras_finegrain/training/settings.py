"""What a run is made with."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from keras_finegrain._base import checks
from keras_finegrain.datasets.batching import Augmentation
from keras_finegrain.training.errors import TrainingError

Pooling = Literal["average", "max", "gem", "average_max"]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["none", "float16", "bfloat16"]
_CHOICES = {
    "augment": get_args(Augmentation),
    "pooling": get_args(Pooling),
    "optimizer": get_args(Optimizer),
    "mixed_precision": get_args(Precision),
}
_INTEGERS = (
    *("image_size", "views", "epochs", "batch_size", "steps_per_execution"),
    *("images_per_class", "sub_centers", "soft_triple_centers"),
)
# The ranges of the other numbers, as `checks.number` takes them.
_RANGES: dict[str, dict[str, Any]] = {
    "color": {"at_least": 0, "below": 1},
    "mixup": {"at_least": 0},
    "label_smoothing": {"at_least": 0, "below": 1},
    "ema_momentum": {"at_least": 0, "below": 1},
    "lr": {"above": 0},
    "head_lr_multiplier": {"above": 0},
    "weight_decay": {"at_least": 0},
    # A pair of one class needs two.
    "images_per_class": {"at_least": 2},
    "center_weight": {"at_least": 0},
    "center_alpha": {"at_least": 0, "at_most": 1},
    "mc_weight": {"at_least": 0},
    "mc_branch": {"at_least": 0},
    "soft_triple_gamma": {"above": 0},
    "soft_triple_tau": {"at_least": 0},
    "soft_triple_scale": {"above": 0},
    "soft_triple_margin": {"at_least": 0},
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a run is made with, except its data and its seed.

    Attributes:
        method: A name of `methods.METHODS`.
        backbone: `"small"`, a name in `keras.applications`, a KerasHub preset
            or the path of a `.keras` file from images in [0, 255] to a
            feature map.
        backbone_args: Further arguments of the backbone.
        weights: First weights of the backbone: `"imagenet"` (those that it is
            published or stored with), `"drawn_birds"` (those of `"small"`, from
            drawn birds of other species), `"none"` or a weights file.
        image_size: Side of the input, in pixels.
        freeze: The last layer of the backbone that is not trained, "all" for
            all of it, or None. Needs `weights`.
        views: Number of random views of each photo that the frozen part sees.
        augment: How training images vary, as in `datasets.batches`.
        color: How far brightness, contrast and saturation of a training image
            may vary, in [0, 1). For photos in memory.
        mixup: α of mixup (Zhang et al., ICLR 2018): two images are mixed by a
            share that is drawn from Beta(α, α). At least 0; 0 mixes none. For
            photos in memory, no `freeze`, and a method that is not on pairs.
        label_smoothing: Share of a label that goes to all classes alike
            (Szegedy et al., CVPR 2016, section 7), in [0, 1). For photos in
            memory, no `freeze`, and a method that is not on pairs.
        pooling: Over the feature map: `"average"`, `"max"`, `"gem"`, which
            lies between them, or `"average_max"`, the mean of both.
        embedding_size: Size of a linear layer after the pooling, or None.
        embedding_neck: Whether that layer has no bias and is followed by batch
            normalization, as `models.embedding_block` builds it. Needs
            `embedding_size`.
        epochs: Passes over the training images.
        batch_size: Images in a batch, over all devices.
        optimizer: `"adamw"`, or `"sgd"` with a momentum of 0.9.
        lr: First learning rate, above 0; it falls to 0 as a cosine.
        head_lr_multiplier: Factor of the learning rate of the head and its
            centers, above 0.
        weight_decay: Of the optimizer, decoupled from the gradient (Loshchilov
            and Hutter, ICLR 2019); at least 0.
        ema_momentum: The model gets the moving average of its weights at the
            end, with this momentum, in [0, 1); 0 averages none.
        mixed_precision: `"none"`, `"float16"` or `"bfloat16"`.
        xla: Whether TensorFlow compiles the step. JAX always does.
        steps_per_execution: Steps in one call of the compiled function.
            PyTorch always takes 1.
        loss_args: Arguments of the compiled loss.
        memory_size: Embeddings of earlier batches that a method on pairs also
            compares with (`layers.CrossBatchMemory`), 0 for none.
        images_per_class: Images of each class in a batch of pairs, at least 2.
        sub_centers: Centers of each class of `"subcenter_arcface"`.
        center_weight: λ of the center loss, at least 0.
        center_alpha: α, the step of its centers, in [0, 1].
        mc_weight: μ of the mutual-channel loss, at least 0.
        mc_diversity_weight: λ of its diversity, at least 0, or None for 1/ξ.
        mc_branch: ξ, channels a class in a branch of their own (a 1 × 1
            convolution) that the mutual-channel loss stands on; 0 for the
            backbone's feature map itself.
        mc_layer: The layer of the backbone whose output the loss, or its
            branch, reads, such as the last convolution in front of its batch
            normalization; None for the last layer. It must be trained.
        soft_triple_centers: K, centers of each class.
        soft_triple_gamma: γ, the softness of the choice of a center, above 0.
        soft_triple_tau: τ, the weight of the regularizer, at least 0.
        soft_triple_scale: λ, the scale of the similarities, above 0.
        soft_triple_margin: δ, at least 0.

    Raises:
        TrainingError: If a setting is not in its range (an integer without one
            is at least 1), or two of them exclude each other.
    """

    method: str = "softmax"
    backbone: str = "small"
    backbone_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = "imagenet"
    image_size: int = 224
    freeze: str | None = None
    views: int = 8
    augment: Augmentation = "flip_crop"
    color: float = 0.0
    mixup: float = 0.0
    label_smoothing: float = 0.0
    pooling: Pooling = "average"
    embedding_size: int | None = None
    embedding_neck: bool = False
    epochs: int = 30
    batch_size: int = 32
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    head_lr_multiplier: float = 1.0
    weight_decay: float = 1e-4
    ema_momentum: float = 0.0
    mixed_precision: Precision = "none"
    xla: bool = False
    steps_per_execution: int = 1
    loss_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    memory_size: int = 0
    images_per_class: int = 4
    sub_centers: int = 3
    center_weight: float = 1e-3
    center_alpha: float = 0.5
    mc_weight: float = 0.3
    mc_diversity_weight: float | None = None
    mc_branch: int = 0
    mc_layer: str | None = None
    soft_triple_centers: int = 10
    soft_triple_gamma: float = 0.1
    soft_triple_tau: float = 0.2
    soft_triple_scale: float = 20.0
    soft_triple_margin: float = 0.01

    def __post_init__(self) -> None:
        try:
            for name, choices in _CHOICES.items():
                checks.one_of(*self._named(name), choices)
            for name in _INTEGERS:
                checks.positive_integer(*self._named(name))
            checks.not_negative_integer(*self._named("memory_size"))
            checks.boolean(*self._named("embedding_neck"))
            for name, limits in _RANGES.items():
                checks.number(*self._named(name), **limits)
            if self.embedding_size is not None:
                checks.positive_integer(*self._named("embedding_size"))
            if self.mc_diversity_weight is not None:
                checks.number(*self._named("mc_diversity_weight"), at_least=0)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        if self.soft_labels and self.freeze is not None:
            raise TrainingError(
                f"--{self.soft_labels}: mixes images or labels, and with "
                "--freeze the batches hold features and single labels. Leave "
                "one of them out"
            )
        if self.embedding_neck and self.embedding_size is None:
            raise TrainingError(
                "--embedding-neck: normalizes the embedding layer, and there "
                "is none. Pass --embedding-size 256 as well"
            )
        if self.freeze is not None and self.weights == "none":
            # Each seed has other weights; the features are shared by all.
            raise TrainingError(
                f"--freeze {self.freeze}: a backbone with --weights none has "
                "learned nothing to keep; pass weights or leave --freeze out"
            )

    @property
    def soft_labels(self) -> str:
        """The option that gives an image shares of classes, or nothing."""
        for name in ("mixup", "label_smoothing"):
            if value := getattr(self, name):
                return f"{name.replace('_', '-')} {value:g}"
        return ""

    def _named(self, name: str) -> tuple[str, str, Any]:
        """The option of the command lines, the setting and its value."""
        return f"--{name.replace('_', '-')}", name, getattr(self, name)

"""What a run is made with."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from keras_finegrain.datasets.batching import Augmentation
from keras_finegrain.training.errors import TrainingError

Pooling = Literal["average", "max"]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["none", "float16", "bfloat16"]
_CHOICES = {
    "augment": get_args(Augmentation),
    "pooling": get_args(Pooling),
    "optimizer": get_args(Optimizer),
    "mixed_precision": get_args(Precision),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is made with, but for its data and its seed.

    Attributes:
        method: A name of `methods.METHODS`.
        backbone: `"small"`, a name in `keras.applications`, a KerasHub preset
            or the path of a `.keras` file from images in [0, 255] to a
            feature map.
        backbone_args: Further arguments of the backbone.
        weights: First weights of the backbone: `"imagenet"` (those that it is
            published or stored with), `"none"` or a weights file.
        image_size: Side of the input, in pixels.
        freeze: The last layer of the backbone that is kept as it is, or None.
        views: How many random views of each photo the frozen part sees.
        augment: How training images vary, as in `datasets.batches`.
        color: How far brightness, contrast and saturation of a training image
            may vary, in [0, 1). For photos in memory.
        mixup: α of mixup (Zhang et al., ICLR 2018): two images are mixed by a
            share that is Beta(α, α). 0 mixes none. For photos in memory and
            `method="softmax"`.
        pooling: `"average"` or `"max"` over the feature map.
        embedding_size: Size of a linear layer after the pooling, or None.
        epochs: Passes over the training images.
        batch_size: Images in a batch, over all devices.
        optimizer: `"adamw"`, or `"sgd"` with a momentum of 0.9.
        lr: First learning rate; it falls to 0 as a cosine.
        head_lr_multiplier: The head and its centers learn this much faster.
        weight_decay: Of the optimizer, apart from the gradient (Loshchilov and
            Hutter, ICLR 2019).
        mixed_precision: `"none"`, `"float16"` or `"bfloat16"`.
        xla: Whether TensorFlow compiles the step. JAX always does.
        steps_per_execution: Steps in one call of the compiled function; 1 on
            PyTorch, whatever is given.
        loss_args: Arguments of the compiled loss.
        images_per_class: Images of each class in a batch of pairs.
        sub_centers: Centers of each class of `"subcenter_arcface"`.
        center_weight: λ of the center loss.
        center_alpha: α, the step of its centers.
        mc_weight: μ of the mutual-channel loss.
        mc_diversity_weight: λ of its diversity.
        soft_triple_centers: K, centers of each class.
        soft_triple_gamma: γ, the softness of the choice of a center.
        soft_triple_tau: τ, the weight of the regularizer.
        soft_triple_scale: λ, the scale of the similarities.
        soft_triple_margin: δ.

    Raises:
        TrainingError: If a setting that has names for values is none of them.
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
    pooling: Pooling = "average"
    embedding_size: int | None = None
    epochs: int = 30
    batch_size: int = 32
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    head_lr_multiplier: float = 1.0
    weight_decay: float = 1e-4
    mixed_precision: Precision = "none"
    xla: bool = False
    steps_per_execution: int = 1
    loss_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images_per_class: int = 4
    sub_centers: int = 3
    center_weight: float = 1e-3
    center_alpha: float = 0.5
    mc_weight: float = 0.005
    mc_diversity_weight: float = 10.0
    soft_triple_centers: int = 10
    soft_triple_gamma: float = 0.1
    soft_triple_tau: float = 0.2
    soft_triple_scale: float = 20.0
    soft_triple_margin: float = 0.01

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                option = name.replace("_", "-")
                raise TrainingError(
                    f"--{option}: must be one of {', '.join(choices)}, "
                    f"received {getattr(self, name)!r}"
                )

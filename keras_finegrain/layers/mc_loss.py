"""Mutual-channel loss: each class owns channels that tell it from the rest."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.checks import (
    boolean,
    number,
    one_of,
    positive_integer,
    seed_or_none,
    shown,
)
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.channel_groups import (
    join_groups,
    split_groups,
    strongest_channels,
)
from keras_finegrain._ops.numerics import mean
from keras_finegrain._ops.written_gradients import with_gradient
from keras_finegrain.layers.labelled_loss_layer import LabelledLossLayer


def group_sizes(
    num_channels: int,
    num_classes: int,
    channels_per_class: int | Sequence[int] | None = None,
) -> tuple[int, ...]:
    """The number ξ_c of channels of each class.

    Args:
        num_channels: N, the channels of the feature map.
        num_classes: C.
        channels_per_class: One size for all, a size for each, or `None` to
            share out all channels as evenly as possible: with q, r = divmod(N,
            C) the first C − r classes get q channels, the others q + 1.

    Returns:
        C sizes that add up to N.

    Raises:
        ValueError: If the sizes do not fit the channels.

    Example:

    >>> keras_finegrain.layers.mc_loss.group_sizes(13, 5)
    (2, 2, 3, 3, 3)
    """
    if channels_per_class is None:
        smaller, larger_groups = divmod(num_channels, num_classes)
        if smaller == 0:
            raise ValueError(
                f"the feature map has {num_channels} channels for {num_classes}"
                " classes, and every class needs one of its own. Widen it in "
                "front of the loss, for instance with "
                f"keras.layers.Conv2D({3 * num_classes}, 1, activation='relu')."
            )
        return (smaller,) * (num_classes - larger_groups) + (
            smaller + 1,
        ) * larger_groups
    if isinstance(channels_per_class, int):
        sizes = (channels_per_class,) * num_classes
    else:
        sizes = tuple(channels_per_class)
    if len(sizes) != num_classes or sum(sizes) != num_channels:
        raise ValueError(
            f"channels_per_class gives {len(sizes)} classes {sum(sizes)} "
            f"channels in all, but there are {num_classes} classes and the "
            f"feature map has {num_channels} channels. Leave it None to share "
            "them out evenly, or bring the map to that many channels with "
            f"keras.layers.Conv2D({sum(sizes)}, 1, activation='relu')."
        )
    return sizes


def class_scores(
    feature_map: Tensor, sizes: Sequence[int], kept: Tensor | None = None
) -> Tensor:
    """The strongest kept channel of each class, averaged over the positions.

    Args:
        feature_map: F `(batch, positions, channels)`.
        sizes: The number of channels of each class.
        kept: 1 for the kept channels and 0 for the dropped ones `(channels,)`,
            or `None` to keep all.

    Returns:
        Tensor `(batch, num_classes)`.
    """

    def scores(feature_map: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        seen = feature_map if kept is None else feature_map * kept
        maxima, strongest = strongest_channels(seen, sizes)
        positions = ops.cast(ops.shape(seen)[1], seen.dtype)

        def gradient(upstream: Tensor) -> tuple[Tensor]:
            owners = np.repeat(np.arange(len(sizes)), sizes)
            share = ops.take(upstream / positions, owners, axis=-1)
            if kept is not None:
                share = share * kept
            return (ops.where(strongest, share[:, None], 0.0),)

        return mean(maxima, axis=1), gradient

    # With a derived gradient a step of the layer takes 1.4 to 2.2 times as long
    # on TensorFlow and JAX (map 7 × 7 × 1,280, 200 classes, batch 32).
    return with_gradient(scores)(feature_map)


def discriminality(
    feature_map: Tensor,
    labels: Tensor,
    sizes: Sequence[int],
    kept: Tensor | None = None,
) -> Tensor:
    """L_dis of each sample (Chang et al. 2020, equations 3 to 5).

    The class's score is its strongest kept channel at each position, averaged
    over the positions; L_dis is the cross-entropy of the softmax of the
    scores. A dropped channel stands as 0, as in the paper's equation.

    Args:
        feature_map: F `(batch, positions, channels)`.
        labels: Integers `(batch,)` in `[0, num_classes)`.
        sizes: The number of channels of each class.
        kept: 1 for the kept channels and 0 for the dropped ones `(channels,)`,
            or `None` to keep all.

    Returns:
        Tensor `(batch,)`.
    """
    scores = class_scores(feature_map, sizes, kept)
    target = ops.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return ops.logsumexp(scores, axis=1) - target


def diversity(feature_map: Tensor, sizes: Sequence[int]) -> Tensor:
    """L_div of each sample (Chang et al. 2020, equations 6 and 7).

    Each channel becomes a distribution s over the positions by a softmax; the
    class's strongest channel at each position, summed over the positions and
    averaged over the classes. It is 1 where the channels of a class lie on
    each other and ξ where each lies on a place of its own.

    Args:
        feature_map: F `(batch, positions, channels)`.
        sizes: The number of channels of each class.

    Returns:
        Tensor `(batch,)`, in [1, max(sizes)].
    """

    def spread(feature_map: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        highest = ops.max(feature_map, axis=1, keepdims=True)
        shares = ops.exp(feature_map - highest)
        shares = shares / ops.sum(shares, axis=1, keepdims=True)
        _, strongest = strongest_channels(shares, sizes)
        added = ops.sum(ops.where(strongest, shares, 0.0), axis=1)

        def gradient(upstream: Tensor) -> tuple[Tensor]:
            # C · ∂L_div/∂F_pn = s_pn · ([n is the strongest at p] − t_n), where
            # t_n is what the channel adds. (With a product in place of `where`
            # a step on JAX takes 1.1 to 1.6 times as long.)
            upstream = (upstream / len(sizes))[:, None]
            slope = ops.where(
                strongest,
                (upstream * (1.0 - added))[:, None],
                (-upstream * added)[:, None],
            )
            return (shares * slope,)

        return ops.sum(added, axis=1) / len(sizes), gradient

    # With a derived gradient a step takes 1.2 to 1.8 times as long, likewise.
    return with_gradient(spread)(feature_map)


def random_channels(
    sizes: Sequence[int], seed: Any, dtype: str = "float32"
) -> Tensor:
    """Draws the channels that L_dis sees in this step: M of equation 4.

    Args:
        sizes: The number of channels of each class.
        seed: A `keras.random.SeedGenerator` or an int.
        dtype: Dtype of the result.

    Returns:
        Tensor `(channels,)` of zeros and ones: of each class's ξ channels,
        ⌊ξ/2⌋ are zero.
    """
    draws = keras.random.uniform((sum(sizes),), seed=seed)
    kept = []
    for block in split_groups(draws, sizes):
        rank = ops.argsort(ops.argsort(block, axis=-1), axis=-1)
        kept.append(rank >= block.shape[-1] // 2)
    return ops.cast(join_groups(kept, sizes), dtype)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class MCLoss(LabelledLossLayer):
    """Mutual-channel loss: channels of a feature map belong to classes.

    The layer stands behind the backbone, returns the feature map unchanged and
    adds

        L = loss_weight · (L_dis − diversity_weight · L_div)

    to the model's loss. L_dis makes the channels of a class sufficient to
    recognise it, whichever half of them is looked at; L_div makes them look at
    different places. It needs no weights and costs nothing after training.

    - L_dis: half of each class's channels are dropped at random (one draw a
      step, the same for all samples and replicas), then the maximum over the
      class's channels, the mean over the positions, and cross-entropy.
    - L_div: softmax over the positions in each channel, the maximum over the
      class's channels, summed over the positions, averaged over the classes.
      It lies in [1, ξ] with ξ channels a class.

    Labels come from `y` of `fit()` in a `keras_finegrain.Model` or
    `keras_finegrain.Sequential`, or explicitly as the argument `labels`. With
    labels the loss is also computed in `evaluate()`, with all channels.
    Without labels (`predict()`, an exported model) the layer does nothing.

    Both parts stand in the logs: `discriminality` (L_dis) and `diversity`
    (L_div, before its weight).

    Published settings:

    | setting | loss_weight μ | diversity_weight λ | channels_per_class ξ |
    |---|---|---|---|
    | fine-tuning a pre-trained backbone | 0.005 | 10 | `None` |
    | training from scratch | 1.5 | 10 | 3 |
    | official code, α 1.5, β 20 | α | β / (α·ξ) | ξ 3 |

    The official code computes α·L_dis + β·(1 − L_div/ξ), which is this loss
    and the constant β. The ablations are `diversity_weight=0` (no L_div) and
    `drop=False` (no channel dropping).

    Args:
        num_classes: The number of classes C, at least 1.
        loss_weight: μ, at least 0. Default 0.005, the paper's for fine-tuning.
        diversity_weight: λ, at least 0. Default 10, the paper's.
        channels_per_class: ξ: one number for all classes, a sequence of one
            for each, or `None` (default) to share out the N channels evenly:
            with q, r = divmod(N, C), the first C − r classes get q, the others
            q + 1. Class c owns the channels right behind those of c − 1.
        drop: Whether half of each class's channels are dropped in training.
        data_format: "channels_last" or "channels_first". Default: that of the
            Keras configuration.
        seed: Seed of the dropping: an int, or `None` for a random one. On
            TensorFlow the draws differ with and without `jit_compile`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        feature_map: `(batch, *positions, channels)`, or
            `(batch, channels, *positions)`; best behind a ReLU, as in the
            paper: a dropped channel counts as 0.
        labels: Integers `(batch,)` or `(batch, 1)`, or one-hot
            `(batch, num_classes)`; soft labels count as their largest class.
            `None` to take them from the label scope.
        sample_weight: Weights `(batch,)` of the samples in both parts.
        training: Whether channels are dropped.

    Input shape:
        `(batch, height, width, channels)`, or any number of axes of positions.

    Output shape:
        The input's.

    Raises:
        ValueError: For an argument out of its range; for fewer channels than
            classes or sizes that do not add up; for a vector where a feature
            map belongs; for training without labels; for labels of another
            shape, of float dtype and not one-hot, or outside
            `[0, num_classes)` (inside a compiled step, where values cannot be
            read, such a label turns the loss into NaN).

    Example:

    >>> model = keras_finegrain.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(6, 3, activation="relu"),
    ...     keras_finegrain.MCLoss(num_classes=2, seed=0),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> x, y = np.ones((4, 8, 8, 3)), np.array([0, 1, 0, 1])
    >>> history = model.fit(x, y, verbose=0)
    >>> sorted(history.history)
    ['discriminality', 'diversity', 'loss']

    Reference:
        - [Chang et al., "The Devil is in the Channels: Mutual-Channel Loss for
          Fine-Grained Image Classification", IEEE TIP
          2020](https://arxiv.org/abs/2002.04264)
    """

    def __init__(
        self,
        num_classes: int,
        loss_weight: float = 0.005,
        diversity_weight: float = 10.0,
        channels_per_class: int | Sequence[int] | None = None,
        drop: bool = True,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ("discriminality", "diversity"), **kwargs)
        who = self.who
        self.loss_weight = number(who, "loss_weight", loss_weight, at_least=0)
        self.diversity_weight = number(
            who, "diversity_weight", diversity_weight, at_least=0
        )
        self.channels_per_class: int | tuple[int, ...] | None = None
        if channels_per_class is None:
            pass
        elif isinstance(channels_per_class, (int, np.integer)):
            self.channels_per_class = positive_integer(
                who, "channels_per_class", channels_per_class
            )
        else:
            if isinstance(channels_per_class, np.ndarray):
                channels_per_class = channels_per_class.tolist()
            is_sequence = isinstance(channels_per_class, (list, tuple))
            if not is_sequence or len(channels_per_class) != self.num_classes:
                raise ValueError(
                    f"{who}: channels_per_class must be an integer of at least "
                    f"1, a list of {self.num_classes} of them, one for each "
                    f"class, or None, received {shown(channels_per_class)}."
                )
            self.channels_per_class = tuple(
                positive_integer(who, "each of channels_per_class", size)
                for size in channels_per_class
            )
        self.drop = boolean(who, "drop", drop)
        self.data_format = one_of(
            who,
            "data_format",
            keras.config.image_data_format()
            if data_format is None
            else data_format,
            ("channels_last", "channels_first"),
        )
        self.seed = seed_or_none(who, "seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, feature_map_shape: tuple[int | None, ...]) -> None:
        """Shares out the channels.

        Args:
            feature_map_shape: `(batch, *positions, channels)`.
        """
        if len(feature_map_shape) < 3:
            raise ValueError(
                f"{self.who} needs a feature map (batch, height, width, "
                "channels), received the shape "
                f"{tuple(feature_map_shape)}. Put the layer before the pooling."
            )
        axis = -1 if self.data_format == "channels_last" else 1
        channels = feature_map_shape[axis]
        if channels is None:
            raise ValueError(
                f"{self.who} needs a known number of channels, received the "
                f"shape {tuple(feature_map_shape)} with data_format="
                f"{self.data_format!r}."
            )
        try:
            self.group_sizes = group_sizes(
                channels, self.num_classes, self.channels_per_class
            )
        except ValueError as error:
            raise ValueError(f"{self.who}: {error}") from None

    def call(
        self,
        feature_map: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """Returns `feature_map` and adds the loss."""
        batch = self.labelled_batch(
            labels, sample_weight, (feature_map.shape[0],), training
        )
        if batch is None:
            return feature_map

        flat = self._flat_positions(ops.cast(feature_map, self.loss_dtype))
        kept = None
        if training and self.drop:
            kept = random_channels(
                self.group_sizes, self.seed_generator, self.loss_dtype
            )
        parts = ops.stack(
            [
                discriminality(flat, batch.labels, self.group_sizes, kept),
                # Without a weight it is only logged: no pass for a gradient.
                diversity(
                    flat if self.diversity_weight else ops.stop_gradient(flat),
                    self.group_sizes,
                ),
            ],
            axis=1,
        )
        means, count = self.global_mean(parts, batch)
        self.add_loss(
            self.loss_weight * (means[0] - self.diversity_weight * means[1])
        )
        self.measure("discriminality", means[0], weight=count)
        self.measure("diversity", means[1], weight=count)
        return feature_map

    def _flat_positions(self, feature_map: Tensor) -> Tensor:
        """`(batch, positions, channels)`."""
        if self.data_format == "channels_first":
            feature_map = ops.moveaxis(feature_map, 1, -1)
        batch, *positions, channels = ops.shape(feature_map)
        return ops.reshape(feature_map, (batch, math.prod(positions), channels))

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Saves where the random draws stand: a resumed run goes on there."""
        store["seed"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Restores where the random draws stand."""
        if "seed" in store:
            self.seed_generator.state.assign(store["seed"][()])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "loss_weight": self.loss_weight,
            "diversity_weight": self.diversity_weight,
            "channels_per_class": self.channels_per_class,
            "drop": self.drop,
            "data_format": self.data_format,
            "seed": self.seed,
        }

"""Mutual-channel loss: each class owns channels that tell it from the rest."""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.checks import (
    boolean,
    checked_data_format,
    number,
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
from keras_finegrain.labels.target import Target
from keras_finegrain.layers.labelled_loss_layer import LabelledLossLayer

# Far below every feature, and finite in float32.
MASKED = -1e30
# Above this part of ln C, L_dis is that of channels that tell no classes apart.
_AT_CHANCE = 0.97
# A classifier of the paper's sizes leaves chance earlier than that.
_STEPS_TO_TELL, _EPOCHS_TO_TELL = 200, 5


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


def checked_sizes(
    who: str, channels_per_class: Any, num_classes: int
) -> int | tuple[int, ...] | None:
    """The argument `channels_per_class` of a layer, checked.

    Args:
        who: The layer, for error messages.
        channels_per_class: What it was given.
        num_classes: C.

    Returns:
        One size, a size for each class, or `None`.

    Raises:
        ValueError: If it is none of these.
    """
    if channels_per_class is None:
        return None
    if isinstance(channels_per_class, (int, np.integer)):
        return positive_integer(who, "channels_per_class", channels_per_class)
    if isinstance(channels_per_class, np.ndarray):
        channels_per_class = channels_per_class.tolist()
    is_sequence = isinstance(channels_per_class, (list, tuple))
    if not is_sequence or len(channels_per_class) != num_classes:
        raise ValueError(
            f"{who}: channels_per_class must be an integer of at least "
            f"1, a list of {num_classes} of them, one for each "
            f"class, or None, received {shown(channels_per_class)}."
        )
    return tuple(
        positive_integer(who, "each of channels_per_class", size)
        for size in channels_per_class
    )


def num_channels(
    who: str, shape: tuple[int | None, ...], data_format: str
) -> int:
    """The channels of a feature map, which has to be one.

    Args:
        who: The layer, for error messages.
        shape: `(batch, *positions, channels)`, or the channels first.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: If it is no feature map, or has an unknown number of them.
    """
    if len(shape) < 3:
        raise ValueError(
            f"{who} needs a feature map (batch, height, width, "
            "channels), received the shape "
            f"{tuple(shape)}. Put the layer before the pooling."
        )
    channels = shape[-1 if data_format == "channels_last" else 1]
    if channels is None:
        raise ValueError(
            f"{who} needs a known number of channels, received the "
            f"shape {tuple(shape)} with data_format={data_format!r}."
        )
    return channels


def positions_in_a_row(feature_map: Tensor, data_format: str) -> Tensor:
    """A feature map of any number of axes as `(batch, positions, channels)`."""
    if data_format == "channels_first":
        feature_map = ops.moveaxis(feature_map, 1, -1)
    batch, *positions, channels = ops.shape(feature_map)
    return ops.reshape(feature_map, (batch, math.prod(positions), channels))


def without_masked(feature_map: Tensor, seen: Tensor) -> Tensor:
    """A map whose mean over all positions is that over those that are seen.

    Args:
        feature_map: F `(batch, positions, channels)`.
        seen: Booleans `(batch, positions)`.

    Returns:
        Tensor like F: 0 at positions that are not seen.
    """
    count = ops.sum(ops.cast(seen, feature_map.dtype), axis=1)
    # (`ops.maximum` computes a float64 in float32 on PyTorch.)
    count = ops.where(count < 1.0, 1.0, count)
    share = ops.cast(ops.shape(feature_map)[1], feature_map.dtype) / count
    return ops.where(seen[..., None], feature_map, 0.0) * share[:, None, None]


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
        labels: Integers `(batch,)` in `[0, num_classes)`, or the shares of the
            classes `(batch, num_classes)`, with whose mixture the
            cross-entropy is then taken.
        sizes: The number of channels of each class.
        kept: 1 for the kept channels and 0 for the dropped ones `(channels,)`,
            or `None` to keep all.

    Returns:
        Tensor `(batch,)`.
    """
    scores = class_scores(feature_map, sizes, kept)
    target = Target.of(labels, scores)
    log_sum = ops.logsumexp(scores, axis=1)
    return log_sum - target.average(scores)


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

    What the defaults do: with an average pooling behind the map, a weight of
    0.3 on L_dis and on L_div/ξ, which lies in [1/ξ, 1], gives both a say beside
    the cross-entropy, however many channels a class has. `discriminality`
    starts near ln C; if it is still there at the end, no channel has become a
    class's own, and `fit` of `keras_finegrain.Model` says so (after at least 5
    epochs and 200 steps).

    The published settings stand in `MCLoss.PUBLISHED`, to be passed on:
    `MCLoss(200, **MCLoss.PUBLISHED["fine-tuning"])`.

    | key | μ | λ | ξ | behind average pooling |
    |---|---|---|---|---|
    | "fine-tuning" | 0.005 | 10 | `None` | L_div acts; L_dis stays at ln C |
    | "from scratch" | 1.5 | 10 | 3 | too much: made for the official head |
    | "official code" | 1.5 | 40/9 | 3 | as above; β = 20, λ = β / (α·ξ) |

    The official code computes α·L_dis + β·(1 − L_div/ξ), which is this loss
    and the constant β. Its weights belong to its head (maximum pooling, batch
    normalisation, two dense layers), whose cross-entropy has a several times
    larger gradient on the map than one behind average pooling: there about
    0.2 to 0.3 does what 1.5 does here. λ = 10 belongs to 200 classes: the
    share of L_div in the gradient goes with √(ξ/C), so that fewer classes want
    a smaller λ. The ablations are `diversity_weight=0` (no L_div) and
    `drop=False` (no channel dropping).

    A branch: with `channels` the loss stands on another feature map, and
    `feature_map` is returned unchanged. So the backbone's own map stays free,
    every class gets the same number of channels, and the branch is part of a
    functional model though it leads to no output:

        channels = keras.layers.Conv2D(3 * C, 1, activation="relu")(feature_map)
        feature_map = MCLoss(C)(feature_map, channels=channels)

    `layers.ClassChannelPooling` makes class scores of the channels.

    Args:
        num_classes: The number of classes C, at least 1.
        loss_weight: μ, at least 0. Default 0.3, for a head with average
            pooling. (Ours; the paper's stand above.)
        diversity_weight: λ, at least 0, or `None` (default) for 1/ξ, with ξ the
            mean number of channels of a class. (Ours; the official code divides
            L_div by ξ as well.)
        channels_per_class: ξ: one number for all classes, a sequence of one
            for each, or `None` (default) to share out the N channels evenly:
            with q, r = divmod(N, C), the first C − r classes get q, the others
            q + 1. Class c owns the channels right behind those of c − 1.
        drop: Whether half of each class's channels are dropped in training.
            Default True.
        data_format: "channels_last" or "channels_first". Default: that of the
            Keras configuration.
        seed: Seed of the dropping: an int, or `None` for a random one. On
            TensorFlow the draws differ with and without `jit_compile`.
        output_name: In a model with several outputs, the one whose labels and
            weights the layer reads: a key of `y` or the name of an output, or
            its position. Default `None`: `y` is one tensor.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        feature_map: `(batch, *positions, channels)`, or
            `(batch, channels, *positions)`; best behind a ReLU, as in the
            paper: a dropped channel counts as 0. With `channels` any tensor
            `(batch, ...)`.
        labels: Integers `(batch,)` or `(batch, 1)`, or one-hot
            `(batch, num_classes)`. Of soft labels, as mixup and cutmix make
            them, L_dis is the cross-entropy with the mixture. `None` to take
            them from the label scope.
        sample_weight: Weights `(batch,)` of the samples in both parts, each
            finite and at least 0.
        training: Whether channels are dropped.
        mask: Booleans `(batch, *positions)`, false at positions that count
            for nothing; `(batch,)` to leave out whole samples. `None` for the
            mask that `Masking` or `Embedding(mask_zero=True)` attached, if
            any. With `channels` it is that of their positions.
        channels: The feature map that the loss stands on, `(batch,
            *positions, channels)` with positions and channels of its own.
            `None` (default) for `feature_map` itself. By keyword alone.

    Input shape:
        `(batch, height, width, channels)`, or any number of axes of positions.

    Output shape:
        The input's.

    Raises:
        ValueError: For an argument out of its range; for fewer channels than
            classes or sizes that do not add up; for a vector where a feature
            map belongs; for another number of channels than the layer was
            built for; for training without labels; for labels of another
            shape, of float dtype and not one-hot, or outside
            `[0, num_classes)`; for weights of another shape, below 0 or not
            finite. Inside a compiled step, where values cannot be read, such
            a label or weight turns the loss into NaN.

    Attributes:
        PUBLISHED: Read-only mapping, from the name of a published setting to
            constructor arguments.

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

    PUBLISHED: Mapping[str, Mapping[str, Any]] = types.MappingProxyType(
        {
            name: types.MappingProxyType(arguments)
            for name, arguments in {
                "fine-tuning": {"loss_weight": 0.005, "diversity_weight": 10.0},
                "from scratch": {
                    "loss_weight": 1.5,
                    "diversity_weight": 10.0,
                    "channels_per_class": 3,
                },
                "official code": {
                    "loss_weight": 1.5,
                    "diversity_weight": 20 / (1.5 * 3),
                    "channels_per_class": 3,
                },
            }.items()
        }
    )

    mixes_classes = True

    def __init__(
        self,
        num_classes: int,
        loss_weight: float = 0.3,
        diversity_weight: float | None = None,
        channels_per_class: int | Sequence[int] | None = None,
        drop: bool = True,
        data_format: str | None = None,
        seed: int | None = None,
        output_name: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes,
            ("discriminality", "diversity"),
            output_name=output_name,
            **kwargs,
        )
        who = self.who
        self.loss_weight = number(who, "loss_weight", loss_weight, at_least=0)
        self.diversity_weight = diversity_weight
        if diversity_weight is not None:
            self.diversity_weight = number(
                who, "diversity_weight", diversity_weight, at_least=0
            )
        self.channels_per_class = checked_sizes(
            who, channels_per_class, self.num_classes
        )
        self.drop = boolean(who, "drop", drop)
        self.data_format = checked_data_format(who, data_format)
        self.seed = seed_or_none(who, "seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Calls the layer, on channels that are a tensor of floats."""
        if kwargs.get("channels") is not None:
            self.refuse_no_tensor("channels", kwargs["channels"])
        return super().__call__(*args, **kwargs)

    def build(
        self,
        feature_map_shape: tuple[int | None, ...],
        channels_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Shares out the channels.

        Args:
            feature_map_shape: `(batch, *positions, channels)`.
            channels_shape: That of the map that the loss stands on, where it
                is another one.
        """
        shape = feature_map_shape if channels_shape is None else channels_shape
        channels = num_channels(self.who, shape, self.data_format)
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
        mask: Tensor | None = None,
        *,
        channels: Tensor | None = None,
    ) -> Tensor:
        """Returns `feature_map` and adds the loss."""
        stood_on = self._stood_on(feature_map, channels)
        seen = self._positions_seen(stood_on, mask)
        batch = self.labelled_batch(
            labels,
            sample_weight,
            (stood_on.shape[0],),
            training,
            None if seen is None else ops.any(seen, axis=1),
        )
        if batch is None:
            return feature_map

        weight = self.diversity_weight
        if weight is None:
            weight = self.num_classes / sum(self.group_sizes)
        flat = positions_in_a_row(
            ops.cast(stood_on, self.loss_dtype), self.data_format
        )
        kept = None
        if training and self.drop:
            kept = random_channels(
                self.group_sizes, self.seed_generator, self.loss_dtype
            )
        scored, spread = flat, flat
        if seen is not None:
            scored = without_masked(flat, seen)
            # The softmax over the positions gives these a share of 0.
            spread = ops.where(seen[..., None], flat, MASKED)
        parts = ops.stack(
            [
                discriminality(
                    scored,
                    batch.labels if batch.shares is None else batch.shares,
                    self.group_sizes,
                    kept,
                ),
                # Without a weight it is only logged: no pass for a gradient.
                diversity(
                    spread if weight else ops.stop_gradient(spread),
                    self.group_sizes,
                ),
            ],
            axis=1,
        )
        means, count = self.global_mean(parts, batch)
        self.add_loss(self.loss_weight * (means[0] - weight * means[1]))
        self.measure("discriminality", means[0], weight=count)
        self.measure("diversity", means[1], weight=count)
        return feature_map

    def compute_output_spec(
        self,
        feature_map: keras.KerasTensor,
        labels: Any = None,
        sample_weight: Any = None,
        training: bool | None = None,
        mask: Any = None,
        *,
        channels: Any = None,
    ) -> keras.KerasTensor:
        """The feature map's own shape and dtype."""
        self._stood_on(feature_map, channels)
        return super().compute_output_spec(
            feature_map, labels, sample_weight, training, mask
        )

    def concern(
        self, figures: Mapping[str, float], steps: int, epochs: int
    ) -> str | None:
        """Says where L_dis has stayed at chance."""
        value = figures.get("discriminality", math.nan)
        chance = math.log(self.num_classes)
        long_enough = steps >= _STEPS_TO_TELL and epochs >= _EPOCHS_TO_TELL
        # (Not where the value is NaN.)
        at_chance = value > _AT_CHANCE * chance
        if not (self.loss_weight and long_enough and at_chance):
            return None
        channels = 3 * self.num_classes
        return (
            f"{self.who}: discriminality is {value:.3g} after {steps} steps, "
            f"where chance is ln {self.num_classes} = {chance:.3g}: the "
            "channels have not learned to tell the classes apart. Raise "
            f"loss_weight ({self.loss_weight:g}), train the layers in front of "
            "the feature map, or give the loss channels of its own: "
            "layer(feature_map, channels=keras.layers.Conv2D("
            f"{channels}, 1, activation='relu')(feature_map))."
        )

    def _stood_on(self, feature_map: Tensor, channels: Tensor | None) -> Tensor:
        """The map that the loss stands on, with as many channels as before."""
        stood_on = feature_map if channels is None else channels
        expected = sum(self.group_sizes)
        shape = tuple(stood_on.shape)
        if num_channels(self.who, shape, self.data_format) != expected:
            raise ValueError(
                f"{self.who}: the layer was built for {expected} channels, "
                f"received the shape {shape}. Make another layer for another "
                "feature map."
            )
        first, second = feature_map.shape[0], shape[0]
        if None not in (first, second) and first != second:
            raise ValueError(
                f"{self.who}: channels must have the samples of feature_map, "
                f"received {second} samples for {first}. Take both from the "
                "same batch."
            )
        return stood_on

    def _positions_seen(
        self, feature_map: Tensor, mask: Tensor | None
    ) -> Tensor | None:
        """The mask of the positions, bool `(batch, positions)`, or `None`."""
        axes = list(range(len(feature_map.shape)))
        del axes[-1 if self.data_format == "channels_last" else 1]
        mask = self.mask_of(feature_map, mask, axes)
        if mask is None:
            return None
        return ops.reshape(mask, (ops.shape(mask)[0], -1))

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

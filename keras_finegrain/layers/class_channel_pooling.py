"""Class scores of a feature map whose channels belong to classes."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import checked_data_format, positive_integer
from keras_finegrain._base.private_keras import get_keras_mask
from keras_finegrain._base.typing import Tensor
from keras_finegrain._ops.numerics import at_least_float32
from keras_finegrain.layers.mc_loss import (
    checked_sizes,
    class_scores,
    group_sizes,
    num_channels,
    positions_in_a_row,
    without_masked,
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class ClassChannelPooling(keras.layers.Layer):
    """Pools a feature map whose channels belong to classes into class scores.

    The channels of a class are pooled by their maximum at each position, and
    these maxima by their mean over the positions:

        s_c = mean_p max_{n of class c} F_pn

    These are the scores whose cross-entropy `MCLoss` takes as L_dis, here
    with all channels. Behind a map that `MCLoss` trains they classify by
    themselves, with no weights of their own, or beside a dense head: add the
    two. The layer needs no labels.

    Args:
        num_classes: The number of classes C, at least 1.
        channels_per_class: As in `MCLoss`: one number for all classes, a
            sequence of one for each, or `None` (default) to share out the
            channels evenly. Give both layers the same.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for that
            of the Keras configuration, the default.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`. The
            mean is computed in float32 or wider under every policy;
            `dtype="float32"` keeps the scores so under mixed precision.

    Call arguments:
        inputs: The feature map.
        mask: Booleans `(batch, *positions)`, false at positions that count
            for nothing, or `None`. Scores of a sample with none are 0.

    Input shape:
        `(batch, *positions, channels)`, or `(batch, channels, *positions)`
        with `"channels_first"`.

    Output shape:
        `(batch, num_classes)`: logits.

    Raises:
        ValueError: For an argument out of its range; for an input that is no
            feature map; for fewer channels than classes or sizes that do not
            add up.

    Example:

    >>> pooling = keras_finegrain.layers.ClassChannelPooling(num_classes=2)
    >>> feature_map = np.array([[[4.0, 0.0, 1.0, 1.0], [0.0, 2.0, 0.0, 1.0]]])
    >>> ops.convert_to_numpy(pooling(feature_map)).tolist()
    [[3.0, 1.0]]

    Reference:
        - [Chang et al., "The Devil is in the Channels: Mutual-Channel Loss for
          Fine-Grained Image Classification", IEEE TIP 2020, equations 4 and
          5](https://arxiv.org/abs/2002.04264)
    """

    def __init__(
        self,
        num_classes: int,
        channels_per_class: int | Sequence[int] | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        who = type(self).__name__
        self.num_classes = positive_integer(who, "num_classes", num_classes)
        self.channels_per_class = checked_sizes(
            who, channels_per_class, self.num_classes
        )
        self.data_format = checked_data_format(who, data_format)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Shares out the channels.

        Args:
            input_shape: `(batch, *positions, channels)`.
        """
        who = type(self).__name__
        channels = num_channels(who, input_shape, self.data_format)
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(
            min_ndim=3, axes={axis: channels}
        )
        try:
            self.group_sizes = group_sizes(
                channels, self.num_classes, self.channels_per_class
            )
        except ValueError as error:
            raise ValueError(f"{who}: {error}") from None

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The scores `(batch, num_classes)`."""
        dtype = at_least_float32(self.compute_dtype)
        flat = positions_in_a_row(ops.cast(inputs, dtype), self.data_format)
        mask = get_keras_mask(inputs) if mask is None else mask
        if mask is not None:
            batch, positions, _ = ops.shape(flat)
            seen = ops.reshape(ops.cast(mask, "bool"), (batch, positions))
            flat = without_masked(flat, seen)
        return ops.cast(
            class_scores(flat, self.group_sizes), self.compute_dtype
        )

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """No mask: the scores have no positions."""
        del inputs, previous_mask

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """The shape of the output."""
        return input_shape[0], self.num_classes

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "channels_per_class": self.channels_per_class,
            "data_format": self.data_format,
        }

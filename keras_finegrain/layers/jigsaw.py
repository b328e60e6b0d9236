"""Jigsaw puzzles: images whose parts stand in other places."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import (
    checked_data_format,
    positive_integer,
    seed_or_none,
)
from keras_finegrain._base.typing import Tensor


def random_cycle(length: int, seed: Any) -> Tensor:
    """Draws a permutation that leaves nothing in its place.

    Args:
        length: How many things are permuted.
        seed: A `keras.random.SeedGenerator` or an int.

    Returns:
        Integers `(length,)`: where each place gets its thing from. All lie on
        one cycle, and each of the `(length − 1)!` cycles is as likely.
    """
    order = ops.argsort(keras.random.uniform((length,), seed=seed))
    # The place `order[i]` gets what stands at `order[i + 1]`.
    return ops.take(ops.roll(order, -1), ops.argsort(order))


@keras.saving.register_keras_serializable(package="keras_finegrain")
class Jigsaw(keras.layers.Layer):
    """Divides images into n × n parts and shuffles them, in training alone.

    A network that sees such images has to tell classes apart by what is
    smaller than a part: larger structures are destroyed. It is the puzzle
    generator of progressive multi-granularity training
    (`keras_finegrain.models.progressive_multi_granularity`), and an
    augmentation by itself. Outside of training it is the identity.

    One permutation is drawn a step, the same for all images of the batch and
    for all replicas. As in the official code every part leaves its place: the
    parts move along one random cycle, so that no step sees the whole image.

    Args:
        pieces: n, the parts along each side, at least 1 (nothing is shuffled).
        data_format: `"channels_last"`, `"channels_first"`, or `None` for that
            of the Keras configuration, the default.
        seed: Seed of the permutations: an int, or `None` for a random one. On
            TensorFlow the draws differ with and without `jit_compile`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`. The
            values are moved and never cast, under every policy.

    Call arguments:
        images: The images, or feature maps.
        training: Whether they are shuffled.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height,
        width)` with `"channels_first"`. Height and width must be known, and
        multiples of `pieces`.

    Output shape:
        The input's.

    Raises:
        ValueError: For an argument out of its range, for an input that is no
            image, and for one whose sides are unknown or no multiples of
            `pieces`.

    Example:

    >>> jigsaw = keras_finegrain.layers.Jigsaw(pieces=2, seed=0)
    >>> image = np.arange(16).reshape(1, 4, 4, 1)
    >>> shuffled = ops.convert_to_numpy(jigsaw(image, training=True))
    >>> sorted(np.ravel(shuffled)) == list(range(16))
    True
    >>> bool(np.any(shuffled[:, :2, :2] == image[:, :2, :2]))
    False

    Reference:
        - [Du et al., "Fine-Grained Visual Classification via Progressive
          Multi-Granularity Training of Jigsaw Patches", ECCV 2020, section
          3.3](https://arxiv.org/abs/2003.03836)
    """

    def __init__(
        self,
        pieces: int,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        who = type(self).__name__
        self.pieces = positive_integer(who, "pieces", pieces)
        self.data_format = checked_data_format(who, data_format)
        self.seed = seed_or_none(who, "seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        """Checks that the parts fit.

        Args:
            input_shape: `(batch, height, width, channels)`.
        """
        self._side_lengths(input_shape)

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        """The images, shuffled in training."""
        height, width = self._side_lengths(images.shape)
        if not training or self.pieces == 1:
            return images
        first = self.data_format == "channels_first"
        n, batch = self.pieces, ops.shape(images)[0]
        channels = images.shape[1 if first else 3]
        before = (channels,) if first else ()
        after = () if first else (channels,)
        # With `channels_last`: (batch, n, height / n, n, width / n, channels),
        # and then (batch, n, n, height / n, width / n, channels).
        axis = 2 if first else 1
        grid = (*before, n, height // n, n, width // n, *after)
        exchanged = list(range(6))
        exchanged[axis + 1], exchanged[axis + 2] = axis + 2, axis + 1
        parts = ops.transpose(ops.reshape(images, (batch, *grid)), exchanged)
        listed = (*before, n * n, height // n, width // n, *after)
        parts = ops.take(
            ops.reshape(parts, (batch, *listed)),
            random_cycle(n * n, self.seed_generator),
            axis=axis,
        )
        square = (*before, n, n, height // n, width // n, *after)
        parts = ops.transpose(ops.reshape(parts, (batch, *square)), exchanged)
        return ops.reshape(parts, (batch, *images.shape[1:]))

    def compute_output_spec(
        self, images: Any, training: bool | None = None
    ) -> keras.KerasTensor:
        """Shape and dtype of the output: those of the input."""
        del training
        return keras.KerasTensor(images.shape, dtype=images.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output."""
        return input_shape

    def _side_lengths(self, shape: Any) -> tuple[int, int]:
        """Height and width, or raises where the parts do not fit them."""
        axes = (2, 3) if self.data_format == "channels_first" else (1, 2)
        sides = tuple(shape[axis] for axis in axes)
        if None in sides:
            raise ValueError(
                f"{type(self).__name__}: the height and width of the images "
                f"must be known, received the shape {tuple(shape)} with "
                f"data_format={self.data_format!r}. Give keras.Input the size, "
                "and resize the images to it."
            )
        if any(side % self.pieces for side in sides):
            fitting = " x ".join(
                str(max(1, round(side / self.pieces)) * self.pieces)
                for side in sides
            )
            raise ValueError(
                f"{type(self).__name__}: the height and width of the images "
                f"must be multiples of pieces={self.pieces}, received the "
                f"shape {tuple(shape)} with data_format={self.data_format!r}. "
                f"Resize the images to {fitting}, or take other pieces."
            )
        return sides

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
            "pieces": self.pieces,
            "data_format": self.data_format,
            "seed": self.seed,
        }

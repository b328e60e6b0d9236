"""The head of the Gaussian mixture: distances of embeddings to class means."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import initializer, positive_integer
from keras_finegrain._base.typing import InitializerLike, Tensor
from keras_finegrain._ops.numerics import at_least_float32


@keras.saving.register_keras_serializable(package="keras_finegrain")
class GaussianMixture(keras.layers.Layer):
    """The head of the large-margin Gaussian mixture (L-GM) loss.

    Each class is a Gaussian around its mean μ_c, of the identity as its
    covariance and equally likely. With the embedding x the score of class c is
    the logarithm of its density, but for a constant:

        z_c = −½ ‖x − μ_c‖²

    The softmax of the scores is the probability of the classes, and the
    largest score belongs to the nearest mean. In contrast to a cosine head
    the length of the embedding counts.

    It is the last layer of a model that is compiled with
    `losses.LargeMarginGaussianMixtureLoss`, which adds the margin and the
    likelihood; a cross-entropy of Keras with `from_logits=True` trains it
    without both.

    Args:
        num_classes: The number of classes C, at least 1.
        means_initializer: Initializer of the means. Default
            `"glorot_uniform"`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`. The
            scores are computed in float32 or wider under every policy.

    Call arguments:
        embeddings: `(batch, dim)`.

    Input shape:
        `(batch, dim)`.

    Output shape:
        `(batch, num_classes)`: scores of at most 0, float32 (or float64).

    Raises:
        ValueError: For an argument out of its range, or for a feature map.

    Attributes:
        means: Variable `(num_classes, dim)`.

    Example:

    >>> head = keras_finegrain.layers.GaussianMixture(
    ...     num_classes=2, means_initializer="zeros"
    ... )
    >>> print(float(head(np.array([[3.0, 4.0]]))[0, 1]))  # −(9 + 16) / 2
    -12.5

    Reference:
        - [Wan et al., "Rethinking Feature Distribution for Loss Functions in
          Image Classification", CVPR 2018](https://arxiv.org/abs/1803.02988)
    """

    # The loss that belongs to the layer, for error messages.
    usual_loss = "LargeMarginGaussianMixtureLoss"

    def __init__(
        self,
        num_classes: int,
        means_initializer: InitializerLike = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        # Autocast would round what is then squared.
        super().__init__(autocast=False, **kwargs)
        who = type(self).__name__
        self.num_classes = positive_integer(who, "num_classes", num_classes)
        self.means_initializer = initializer(
            who, "means_initializer", means_initializer
        )
        self.input_spec = keras.InputSpec(ndim=2)

    def build(self, embeddings_shape: tuple[int | None, ...]) -> None:
        """Creates the means."""
        dim = embeddings_shape[-1]
        if dim is None:
            raise ValueError(
                f"{type(self).__name__}: embeddings must have a known dim, "
                f"received the shape {tuple(embeddings_shape)}."
            )
        self.input_spec = keras.InputSpec(ndim=2, axes={-1: dim})
        self.means = self.add_weight(
            name="means",
            shape=(self.num_classes, dim),
            dtype=at_least_float32(self.compute_dtype),
            initializer=self.means_initializer,
            autocast=False,
        )

    def call(self, embeddings: Tensor) -> Tensor:
        """The scores `(batch, num_classes)`."""
        dtype = at_least_float32(self.compute_dtype)
        embeddings = ops.cast(embeddings, dtype)
        means = ops.convert_to_tensor(self.means)
        # ‖x − μ‖² = ‖x‖² + ‖μ‖² − 2 x·μ, which rounding can put below 0.
        # (`ops.matmul` would compute float64 in float32 on PyTorch.)
        products = ops.einsum("bd,cd->bc", embeddings, means)
        squares = ops.sum(ops.square(embeddings), axis=1)[:, None] + ops.sum(
            ops.square(means), axis=1
        )
        scores = products - 0.5 * squares
        return ops.where(scores > 0.0, 0.0, scores)

    def compute_output_shape(
        self, embeddings_shape: tuple[int | None, ...]
    ) -> tuple[int | None, int]:
        """`(batch, num_classes)`."""
        return (embeddings_shape[0], self.num_classes)

    def compute_output_spec(self, embeddings: Any) -> keras.KerasTensor:
        """`(batch, num_classes)`, float32 or wider."""
        return keras.KerasTensor(
            self.compute_output_shape(embeddings.shape),
            dtype=at_least_float32(self.compute_dtype),
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "means_initializer": keras.initializers.serialize(
                self.means_initializer
            ),
        }

"""SoftTriple: a classification layer with several centers for each class."""

from typing import Any

import keras

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import InitializerLike, Tensor
from keras_finegrain._ops.center_cosines import (
    lengths_on_diagonal,
    products_within_classes,
)
from keras_finegrain.labels.scope import current_scope
from keras_finegrain.layers.cosine_similarity import CosineSimilarity
from keras_finegrain.regularizers import CenterMerging, spread_of_products


@keras.saving.register_keras_serializable(package="keras_finegrain")
class SoftTriple(CosineSimilarity):
    """Classifies embeddings by the nearest of several centers for each class.

    With the embedding x and the class's K centers w_ck, all scaled to unit
    length, the similarity to class c is

        S_c = Σ_k softmax_k(x·w_ck / gamma) · x·w_ck

    A class with several looks (male and female, sitting and flying) keeps a
    center for each. The regularizer
    `keras_finegrain.regularizers.CenterMerging` merges those that are not
    needed. `distinct_centers` counts the centers that are left.

    It is the last layer of a model and returns the similarities. Margin and
    scale belong to the loss, `keras_finegrain.losses.SoftTripleLoss`. With
    `pooling="max"` the layer is the paper's HardTriple, with
    `centers_per_class=1` the normalised softmax.

    The logs show the regularizer's value without `tau` as `center_spread`: half
    the mean distance between the centers of a class, 0 if all have merged.

    Args:
        num_classes: The number of classes C, at least 1.
        centers_per_class: K, at least 1. Default 10, the paper's for data sets
            with many images for each class; it uses 2 for Stanford Online
            Products.
        gamma: γ, at least 1e-30, the softness of the maximum over a class's
            centers. Default 0.1, the paper's.
        tau: τ, at least 0, the weight of the regularizer. Default 0.2, the
            paper's. Each call of the layer adds it to the model's loss.
        pooling: "soft", the default, or "max" to take the nearest center alone.
        centers_initializer: Initializer of the centers. Default `None`:
            uniform in ±1/√(C·K), as in the official code.
        sampled_share: The share of the classes that a training step scores, as
            in `keras_finegrain.CosineSimilarity`, in (0, 1]. Default 1. The
            regularizer and `center_spread` are those of the scored classes.
        seed: Seed of those draws: an int, or `None` for a random one.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        embeddings: `(batch, dim)`. They are scaled to unit length here.
        training: Whether to measure the spread for the logs, and to score a
            share of the classes if `sampled_share` is below 1.

    Input shape:
        `(batch, dim)`.

    Output shape:
        `(batch, num_classes)`: similarities in [-1, 1], float32 (or float64)
        under every policy. In training `(batch, scored classes)`.

    Raises:
        ValueError: For an argument out of its range, or for a feature map;
            with `sampled_share` below 1, for training without labels, and for
            a batch that may hold more classes than a step scores.

    Attributes:
        centers: Variable `(num_classes, centers_per_class, dim)`.

    Example:

    >>> model = keras_finegrain.Sequential([
    ...     keras.Input((8,)),
    ...     keras.layers.Dense(4),
    ...     keras_finegrain.SoftTriple(num_classes=3, centers_per_class=2),
    ... ])
    >>> model.compile("adam", keras_finegrain.losses.SoftTripleLoss())
    >>> x, y = np.ones((6, 8)), np.array([0, 1, 2, 0, 1, 2])
    >>> history = model.fit(x, y, verbose=0)
    >>> model.predict(x, verbose=0).shape
    (6, 3)

    Reference:
        - [Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet
          Sampling", ICCV 2019](https://arxiv.org/abs/1909.05235)
    """

    _measured_names = ("center_spread",)
    usual_loss = "SoftTripleLoss"

    def __init__(
        self,
        num_classes: int,
        centers_per_class: int = 10,
        gamma: float = 0.1,
        tau: float = 0.2,
        pooling: str = "soft",
        centers_initializer: InitializerLike | None = None,
        sampled_share: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if "centers_regularizer" in kwargs:
            raise ValueError(
                f"{type(self).__name__}: centers_regularizer must not be "
                "given, as it is CenterMerging(tau) here, received "
                f"{kwargs['centers_regularizer']!r}. Set tau, or take "
                "CosineSimilarity(pooling='soft', centers_regularizer=...)."
            )
        if centers_initializer is None:
            # On a (C, K, dim) weight this is uniform in ±1/√(C·K).
            centers_initializer = keras.initializers.VarianceScaling(
                scale=1 / 3, mode="fan_in", distribution="uniform"
            )
        super().__init__(
            num_classes,
            centers_per_class,
            pooling=pooling,
            gamma=gamma,
            centers_initializer=centers_initializer,
            sampled_share=sampled_share,
            seed=seed,
            **kwargs,
        )
        self.tau = number(self.who, "tau", tau, at_least=0)
        if self.tau:
            self.centers_regularizer = CenterMerging(self.tau)

    def call(self, embeddings: Tensor, training: bool | None = None) -> Tensor:
        """Returns the similarities `(batch, num_classes)`."""
        centers = self.scored_centers(embeddings, training)
        # The regularizer and the lengths share one pass over the centers.
        products = products_within_classes(centers)
        spread = spread_of_products(products)
        if training or current_scope() is not None:
            self.measure("center_spread", spread, weight=1.0)
        if self.centers_regularizer is not None:
            self.add_loss(self.tau * spread)
        return self.similarity(
            embeddings, centers, lengths_on_diagonal(products)
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        del config["centers_regularizer"]
        return {**config, "tau": self.tau}

"""The cosine head: similarities of embeddings to one or more class centers."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_finegrain._base.checks import (
    initializer,
    number,
    one_of,
    positive_integer,
    regularizer_or_none,
    seed_or_none,
)
from keras_finegrain._base.typing import (
    InitializerLike,
    RegularizerLike,
    Tensor,
)
from keras_finegrain._ops.center_cosines import (
    cosines_with_centers,
    read_centers,
    squared_lengths,
)
from keras_finegrain._ops.coinciding_centers import first_coinciding
from keras_finegrain._ops.numerics import maximum, unit_length
from keras_finegrain._ops.soft_maximum import soft_maximum
from keras_finegrain.distribution import gather
from keras_finegrain.labels.forms import class_numbers, label_tensor
from keras_finegrain.labels.outputs import entry_of
from keras_finegrain.labels.sampling import (
    announce_drawn,
    drawn_classes,
    sample_classes,
)
from keras_finegrain.labels.scope import current_scope, is_unlabelled
from keras_finegrain.layers.measured import MeasuredLayer


def count_distinct(centers: np.ndarray, tolerance: float) -> np.ndarray:
    """The number of different centers of each class.

    Args:
        centers: Array `(num_classes, centers_per_class, dim)`.
        tolerance: Two centers of unit length at this distance or less count as
            one, and so do chains of them. At least 0.

    Returns:
        int array `(num_classes,)`, each in [1, centers_per_class].
    """
    first = first_coinciding(centers, tolerance)
    return np.sum(first == np.arange(centers.shape[1]), axis=-1)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CosineSimilarity(MeasuredLayer):
    """The head of every loss on cosines: class centers on the unit sphere.

    With the embedding x and a class's center w_c, both scaled to unit length,
    the similarity to class c is

        S_c = x·w_c = cos θ_c

    A class may have K centers. The similarity is then that of the nearest
    one, `pooling="max"` (sub-center ArcFace), or the softer

        S_c = Σ_k softmax_k(x·w_ck / gamma) · x·w_ck

    of SoftTriple, `pooling="soft"`. `keras_finegrain.SoftTriple` is this layer
    with that pooling and the paper's regularizer.

    It is the last layer of a model. Margin and scale belong to the loss, so
    that one word in `compile()` swaps the method: `losses.NormFaceLoss`,
    `CosFaceLoss`, `ArcFaceLoss`, `SphereFaceLoss`, `CombinedMarginLoss`,
    `SoftTripleLoss`, `ProxyNCALoss`, `ProxyNCAPlusPlusLoss`,
    `ProxyAnchorLoss`, `CenterContrastiveLoss`, `COCOLoss`.

    There is no `enable_lora` as in `keras.layers.Dense`: a new head is trained
    whole, as LoRA adapts what was trained before. Enable it on the backbone.

    Args:
        num_classes: The number of classes C, at least 1.
        centers_per_class: K, at least 1. Default 1. Sub-center ArcFace uses 3.
        pooling: "max" or "soft", how K similarities become one. Default "max".
        gamma: γ, at least 1e-30, the softness of `pooling="soft"`. Default
            0.1, that of the SoftTriple paper.
        centers_initializer: Initializer of the centers. Default `None`: normal
            with a variance of 1/dim. Directions are then uniform and the
            length is near 1, for any number of classes; a gradient turns a
            center by its inverse length, so that a learning rate means the
            same for 20 classes as for a million.
        sampled_share: The share of the classes that a training step scores,
            in (0, 1]. Default 1. Below 1, a step scores the classes of the
            global batch and randomly drawn others, ⌈sampled_share · C⌉ in all.
            The loss weighs each drawn class by the number of classes that it
            represents, so that Σ e^logit is an unbiased estimate of the sum
            over all classes. Training metrics are among the scored classes.
            Evaluation and prediction score all classes. Needs
            `keras_finegrain.Model` or `Sequential`, and a cross-entropy of
            this package (`losses.MarginSoftmaxLoss` is their base), and
            integer or one-hot labels: soft ones are an error. From
            Partial FC (An et al., CVPR 2022).
        seed: Seed of those draws: an int, or `None` for a random one.
        centers_regularizer: Regularizer of the centers `(num_classes,
            centers_per_class, dim)` that a call scores, such as
            `regularizers.CenterMerging()`. Each call of the layer adds its
            value to the model's loss. Default `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        embeddings: `(batch, dim)`. They are scaled to unit length here.
        training: Whether a share of the classes is scored if `sampled_share`
            is below 1.

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
    ...     keras_finegrain.CosineSimilarity(num_classes=3),
    ... ])
    >>> model.compile("adam", keras_finegrain.losses.ArcFaceLoss())
    >>> x, y = np.ones((6, 8)), np.array([0, 1, 2, 0, 1, 2])
    >>> history = model.fit(x, y, verbose=0)
    >>> model.predict(x, verbose=0).shape
    (6, 3)

    Reference:
        - [Wang et al., "NormFace", ACM MM 2017](
          https://arxiv.org/abs/1704.06369)
        - [Deng et al., "Sub-center ArcFace", ECCV 2020](
          https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf)
        - [Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet
          Sampling", ICCV 2019](https://arxiv.org/abs/1909.05235)
    """

    # What the layer measures for the logs.
    _measured_names: tuple[str, ...] = ()
    # The loss that belongs to the layer, for error messages.
    usual_loss = "ArcFaceLoss"

    def __init__(
        self,
        num_classes: int,
        centers_per_class: int = 1,
        pooling: str = "max",
        gamma: float = 0.1,
        centers_initializer: InitializerLike | None = None,
        sampled_share: float = 1.0,
        seed: int | None = None,
        centers_regularizer: RegularizerLike | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(self._measured_names, **kwargs)
        who = self.who
        self.num_classes = positive_integer(who, "num_classes", num_classes)
        self.centers_per_class = positive_integer(
            who, "centers_per_class", centers_per_class
        )
        self.pooling = one_of(who, "pooling", pooling, ("soft", "max"))
        self.gamma = number(who, "gamma", gamma, at_least=1e-30)
        self.centers_initializer = (
            None
            if centers_initializer is None
            else initializer(who, "centers_initializer", centers_initializer)
        )
        self.centers_regularizer = regularizer_or_none(
            who, "centers_regularizer", centers_regularizer
        )
        self.sampled_share = number(
            who, "sampled_share", sampled_share, above=0, at_most=1
        )
        self.seed = seed_or_none(who, "seed", seed)
        # A mask of samples goes on to the loss.
        self.supports_masking = True
        if self.samples:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    @property
    def samples(self) -> bool:
        """Whether a training step scores a part of the classes."""
        return self.sampled_share < 1.0

    def build(self, embeddings_shape: tuple[int | None, ...]) -> None:
        """Creates the centers.

        Args:
            embeddings_shape: `(batch, dim)`.
        """
        if len(embeddings_shape) != 2 or embeddings_shape[-1] is None:
            raise ValueError(
                f"{self.who} needs embeddings of the shape (batch, dim) with a "
                "known dim, received the shape "
                f"{tuple(embeddings_shape)}. Pool a feature map first, for "
                "instance with keras.layers.GlobalAveragePooling2D()."
            )
        dim = embeddings_shape[-1]
        self.input_spec = keras.layers.InputSpec(
            name="embeddings", ndim=2, axes={-1: dim}
        )
        self.centers = self.add_weight(
            name="centers",
            shape=(self.num_classes, self.centers_per_class, dim),
            dtype=self.loss_dtype,
            initializer=self.centers_initializer
            or keras.initializers.RandomNormal(stddev=dim**-0.5),
            autocast=False,
        )

    def call(self, embeddings: Tensor, training: bool | None = None) -> Tensor:
        """Returns the similarities `(batch, num_classes)`."""
        centers = self.scored_centers(embeddings, training)
        if self.centers_regularizer is not None:
            self.add_loss(self.centers_regularizer(centers))
        return self.similarity(embeddings, centers, squared_lengths(centers))

    def similarity(
        self, embeddings: Tensor, centers: Tensor, squared: Tensor
    ) -> Tensor:
        """The pooled cosines of embeddings and centers.

        Args:
            embeddings: `(batch, dim)`, of any length.
            centers: w `(classes, centers_per_class, dim)`, of any length.
            squared: ‖w‖² `(classes, centers_per_class)`.

        Returns:
            Tensor `(batch, classes)` in [-1, 1].
        """
        embeddings = unit_length(ops.cast(embeddings, self.loss_dtype))
        if self.centers_per_class > 1 and self.pooling == "soft":
            # γ divides what is small: neither cosines nor centers.
            embeddings = embeddings / self.gamma
        cosine = cosines_with_centers(embeddings, centers, squared)
        if self.centers_per_class == 1:
            return ops.transpose(ops.squeeze(cosine, axis=1))
        if self.pooling == "max":
            return ops.transpose(maximum(cosine, axis=1))
        soft = soft_maximum(cosine, largest=1.0 / self.gamma)
        return self.gamma * ops.transpose(soft)

    def scored_centers(
        self, embeddings: Tensor, training: bool | None
    ) -> Tensor:
        """The centers of the classes that this call scores.

        Args:
            embeddings: The batch `(batch, dim)`.
            training: Whether this is a training step.

        Returns:
            Tensor `(classes, centers_per_class, dim)`: all classes, or in
            training on labels those that were drawn.
        """
        if self.samples and training and not is_unlabelled():
            classes = self._sampled_classes(embeddings)
            return ops.take(self.centers, classes, axis=0)
        return read_centers(self.centers)

    def _sampled_classes(self, embeddings: Tensor) -> Tensor:
        """Draws the classes of this step, and announces them to the loss."""
        scope = current_scope()
        labels = None
        if scope is not None:
            labels = entry_of(self.who, scope.labels, None, scope.output_names)
        if labels is None:
            raise ValueError(
                f"{self.who}: sampled_share={self.sampled_share:g} needs the "
                "labels of the batch in training, as the one `y` of `fit()`: "
                "build the model with `keras_finegrain.Model` or "
                "`keras_finegrain.Sequential`, or call it inside "
                "`keras_finegrain.label_scope(None)` to score all classes."
            )
        if drawn_classes() is not None:
            raise ValueError(
                f"{self.who}: only one head of a model may have a "
                f"sampled_share below 1, received {self.sampled_share:g} for "
                "a second one."
            )
        labels = label_tensor(self.who, labels)
        batch = embeddings.shape[0]
        labels = gather(
            class_numbers(self.who, labels, (batch,), self.num_classes)
        )
        sampled = math.ceil(self.sampled_share * self.num_classes)
        batch = labels.shape[0] or batch
        if batch is not None and min(batch, self.num_classes) > sampled:
            raise ValueError(
                f"{self.who}: sampled_share={self.sampled_share:g} scores "
                f"{sampled} of {self.num_classes} classes in a step, and a "
                f"batch of {batch} may hold more. Raise sampled_share to "
                f"{min(batch / self.num_classes, 1):.2g} or more."
            )
        drawn = sample_classes(
            labels, self.num_classes, sampled, self.seed_generator
        )
        announce_drawn(drawn)
        return drawn.classes

    def distinct_centers(self, tolerance: float = 0.1) -> np.ndarray:
        """The number of different centers that each class has.

        SoftTriple's regularizer merges centers of a class that the data does
        not hold apart. This method counts what is left: the adaptive number of
        centers of its paper.

        Args:
            tolerance: Two centers at this distance or less (on the unit sphere,
                in [0, 2]) count as one, and so do chains of them. At least 0.
                Default 0.1, an angle of 5.7 degrees.

        Returns:
            int array `(num_classes,)`, each in [1, centers_per_class].

        Raises:
            ValueError: If the layer has no centers yet, a center is not
                finite, or `tolerance` is negative.

        Example:

        >>> layer = keras_finegrain.CosineSimilarity(
        ...     num_classes=2, centers_per_class=3, centers_initializer="ones"
        ... )
        >>> layer.build((None, 4))
        >>> layer.distinct_centers().tolist()
        [1, 1]
        """
        if not self.built:
            raise ValueError(
                f"{self.who} has no centers yet: call or build it first."
            )
        tolerance = number(self.who, "tolerance", tolerance, at_least=0)
        centers = ops.convert_to_numpy(self.centers)
        if not np.isfinite(centers).all():
            raise ValueError(
                f"{self.who}: centers must be finite to be told apart, "
                f"received NaN or infinity in {self.centers.path}. Load "
                "weights from before training diverged."
            )
        return count_distinct(centers, tolerance)

    def compute_output_shape(
        self, embeddings_shape: tuple[int | None, ...]
    ) -> tuple[int | None, int]:
        """`(batch, num_classes)`."""
        return (embeddings_shape[0], self.num_classes)

    def compute_output_spec(
        self, embeddings: keras.KerasTensor, training: bool | None = None
    ) -> keras.KerasTensor:
        """`(batch, num_classes)`, float32 or wider."""
        del training
        return keras.KerasTensor(
            self.compute_output_shape(embeddings.shape), dtype=self.loss_dtype
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "centers_per_class": self.centers_per_class,
            "pooling": self.pooling,
            "gamma": self.gamma,
            "centers_initializer": self.centers_initializer
            and keras.initializers.serialize(self.centers_initializer),
            "centers_regularizer": keras.regularizers.serialize(
                self.centers_regularizer
            )
            if self.centers_regularizer
            else None,
            "sampled_share": self.sampled_share,
            "seed": self.seed,
        }

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Saves the centers and the state of the random draws."""
        super().save_own_variables(store)
        if self.samples:
            store["seed"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Restores the centers and the state of the random draws."""
        own = {key: store[key] for key in store.keys() if key != "seed"}  # noqa: SIM118
        super().load_own_variables(own)
        if self.samples and "seed" in store:
            self.seed_generator.state.assign(store["seed"][()])

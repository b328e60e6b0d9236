"""Center loss: every embedding is pulled to the center of its class."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import boolean, initializer, number, one_of
from keras_finegrain._base.typing import InitializerLike, Tensor
from keras_finegrain._ops.numerics import unit_length
from keras_finegrain._ops.row_update import read_rows, sum_rows, write_rows
from keras_finegrain.distribution import gather, global_sum
from keras_finegrain.layers.labelled_loss_layer import (
    LabelledBatch,
    LabelledLossLayer,
)


def half_squared_distance(features: Tensor, centers: Tensor) -> Tensor:
    """½‖xᵢ − c_yᵢ‖² (Wen et al. 2016, equation 2, before the sum).

    Args:
        features: Embeddings x `(batch, dim)`.
        centers: The center of each embedding's class `(batch, dim)`.

    Returns:
        Tensor `(batch,)`.
    """
    return 0.5 * ops.sum(ops.square(features - centers), axis=-1)


def mixed_half_squared_distance(
    features: Tensor, centers: Tensor, shares: Tensor
) -> Tensor:
    """Σ_c y_ic ½‖xᵢ − c_c‖²: that of a sample that is a mixture of classes.

    Args:
        features: Embeddings x `(batch, dim)`.
        centers: The centers of all classes `(num_classes, dim)`.
        shares: y `(batch, num_classes)`, at least 0.

    Returns:
        Tensor `(batch,)`.
    """
    # With t = Σ_c y_c and μ the mean of the centers it is
    # ½ t ‖x − μ‖² + ½ (Σ_c y_c ‖c_c‖² − t ‖μ‖²), of which the part with x loses
    # no digits near the centers, and needs no (batch, num_classes, dim).
    total = ops.sum(shares, axis=-1)
    means = ops.einsum("bc,cd->bd", shares, centers)
    means = means / ops.where(total > 0.0, total, 1.0)[:, None]
    squares = ops.sum(ops.square(centers), axis=-1)
    spread = ops.sum(shares * squares, axis=-1)
    spread = spread - total * ops.sum(ops.square(means), axis=-1)
    return total * half_squared_distance(features, means) + 0.5 * spread


def class_counts(
    labels: Tensor, batch_labels: Tensor, counted: Tensor
) -> Tensor:
    """The number of samples of a batch in the class of each label.

    Args:
        labels: Integers `(n,)`.
        batch_labels: Integers `(batch,)`: the labels of the batch.
        counted: Boolean `(batch,)`: which samples of the batch count.

    Returns:
        int32 tensor `(n,)`.
    """
    same = ops.equal(labels[:, None], batch_labels[None, :])
    return _counts(same, counted)


def moved_centers(
    features: Tensor,
    centers: Tensor,
    labels: Tensor,
    counted: Tensor,
    alpha: float,
) -> Tensor:
    """The centers after a batch (Wen et al. 2016, equations 3 and 4).

    With n the number of counted samples of class j,

        c_j ← c_j − α · Σᵢ[yᵢ = j] (c_j − xᵢ) / (1 + n)

    Args:
        features: Embeddings x `(batch, dim)`.
        centers: The center of each embedding's class `(batch, dim)`.
        labels: Integers `(batch,)`.
        counted: Boolean `(batch,)`. The other samples move no center.
        alpha: The rate α.

    Returns:
        Tensor `(batch, dim)`: the new center of each sample's class. Samples
        of one class get the same row, bit for bit, so that they can be written
        in any order.
    """
    # The first sample of a class collects its sum. The number of sums is then
    # the batch size, for any number of classes.
    same = ops.equal(labels[:, None], labels[None, :])
    first = ops.cast(ops.argmax(ops.cast(same, "int32"), axis=1), "int32")
    shares = 1.0 / (1.0 + ops.cast(_counts(same, counted), features.dtype))
    # Halves, of which each is divided before the sum, and both are added one
    # after the other: no sum is above the largest number where no feature is.
    steps = shares[:, None] * (0.5 * features - 0.5 * centers)
    steps = ops.where(counted[:, None], steps, 0.0)
    half = alpha * ops.take(sum_rows(steps, first), first, axis=0)
    return centers + half + half


def moved_by_shares(
    features: Tensor, centers: Tensor, shares: Tensor, alpha: float
) -> Tensor:
    """`moved_centers` where a sample of the share y_ij counts as y_ij of one.

        c_j ← c_j − α · Σᵢ y_ij (c_j − xᵢ) / (1 + Σᵢ y_ij)

    Args:
        features: Embeddings x `(batch, dim)`, finite.
        centers: The centers of all classes `(num_classes, dim)`.
        shares: y `(batch, num_classes)`; 0 for samples that move no center.
        alpha: The rate α.

    Returns:
        Tensor `(num_classes, dim)`.
    """
    counts = ops.sum(shares, axis=0)
    # Divided and halved before the sum, as in `moved_centers`.
    towards = ops.einsum("bc,bd->cd", shares / (1.0 + counts), 0.5 * features)
    half = towards - (counts / (1.0 + counts))[:, None] * (0.5 * centers)
    return centers + alpha * half + alpha * half


def _counts(same: Tensor, counted: Tensor) -> Tensor:
    """How many counted samples of the batch are of each row's class."""
    same = ops.logical_and(same, counted[None, :])
    return ops.sum(ops.cast(same, "int32"), axis=1)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CenterLoss(LabelledLossLayer):
    """Pulls each embedding towards the center of its class.

    Place the layer between the embedding and the head. It returns the embedding
    unchanged and adds

        L = loss_weight · mean_i ½‖xᵢ − c_yᵢ‖²

    to the model's loss. The centers c get no gradient. After each training
    batch the center of each class j in it moves by the paper's moving average,

        c_j ← c_j − alpha · Σᵢ[yᵢ = j] (c_j − xᵢ) / (1 + Σᵢ[yᵢ = j])

    `loss_weight` does not scale this step. Classes that do not occur keep their
    center. Soft labels (of mixup, CutMix, label smoothing) are a mixture: the
    loss of a sample is Σ_c y_c ½‖x − c_c‖², and it counts as y_c of a sample in
    the step of center c. Under a distribution strategy every replica applies
    the update of the global batch. A frozen layer (`trainable = False`) moves
    no center.

    Labels come from `y` of `fit()` in a `keras_finegrain.Model` or
    `keras_finegrain.Sequential`, or from the argument `labels`. `evaluate()`
    also computes the loss, but moves no center. Without labels (`predict()`, an
    exported model) the layer does nothing. The logs show the mean value without
    `loss_weight` as `center_loss`.

    Args:
        num_classes: The number of classes, at least 1. Labels lie in
            `[0, num_classes)`.
        loss_weight: λ, at least 0. Default 1e-3: the value of the fine-grained
            experiments (ResNet-50 on 21 sparrows of CUB-200-2011); the paper
            uses 3e-3 on faces.
        alpha: α, the rate of the moving average, in [0, 1]. Default 0.5, the
            paper's.
        update: "moving_average", the default, or "gradient" to train the
            centers with the model's optimizer. That is pytorch-center-loss,
            up to its factor 2: its loss is twice this one.
        normalize: Whether embeddings are scaled to unit length for the loss
            and the centers. Default False. The returned embedding is not
            scaled.
        reduction: "mean" over the global batch, the default; "sum" over it; or
            "class_mean": each squared distance is divided by the count of its
            class in the batch, then all are summed. With `normalize=True` that
            is the variant that was published for MNIST.
        centers_initializer: Initializer of the centers `(num_classes, dim)`.
            Default "zeros".
        ignore_class: A label (such as -1 or 255) whose samples count neither
            in the loss nor for the centers, or `None`. Of a mixture the other
            classes count.
        output_name: In a model with several outputs, the one whose labels and
            weights the layer reads: a key of `y` or the name of an output, or
            its position. Default `None`: `y` is one tensor.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        features: Embeddings `(batch, dim)`. A tensor of a higher rank
            `(batch, ..., dim)` needs explicit labels `(batch, ...)`.
        labels: Integers `(batch,)` or `(batch, 1)`, or one-hot or
            soft rows `(batch, num_classes)`. Integers cost less: rows take
            time for every class. `None` to take them from the label scope.
        sample_weight: Weights `(batch,)` of the samples in the loss, each
            finite and at least 0; the centers' step does not know them, as in
            the paper.
        training: Whether centers move.
        mask: Booleans of the labels' shape, false where an embedding counts
            neither in the loss nor for the centers. `None` for the mask that
            `Masking` or `Embedding(mask_zero=True)` attached, if any.

    Input shape:
        `(batch, dim)`.

    Output shape:
        The input's.

    Raises:
        ValueError: For an argument out of its range; for training without
            labels; for labels of another shape, of float dtype and not
            one-hot, or outside `[0, num_classes)`; for weights of another
            shape, below 0 or not finite; for a feature map. Inside a compiled
            step, where values cannot be read, such a label or weight turns
            the loss into NaN, and such a label moves no center.

    Rows whose embedding holds NaN or infinity move no center; the loss of such
    a batch is not finite either.

    Attributes:
        centers: Variable `(num_classes, dim)`, float32 under every policy, or
            float64 under a float64 one.

    Example:

    >>> embedding = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(2)]
    ... )
    >>> model = keras_finegrain.Sequential([
    ...     embedding,
    ...     keras_finegrain.CenterLoss(num_classes=3, loss_weight=0.01),
    ...     keras.layers.Dense(3),
    ... ])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> x, y = np.ones((6, 8)), np.array([0, 1, 2, 0, 1, 2])
    >>> history = model.fit(x, y, batch_size=6, verbose=0)
    >>> sorted(history.history)
    ['center_loss', 'loss']

    Reference:
        - [Wen et al., "A Discriminative Feature Learning Approach for Deep
          Face Recognition", ECCV 2016](https://ydwen.github.io/papers/WenECCV16.pdf)
    """

    mixes_classes = True

    def __init__(
        self,
        num_classes: int,
        loss_weight: float = 1e-3,
        alpha: float = 0.5,
        update: str = "moving_average",
        normalize: bool = False,
        reduction: str = "mean",
        centers_initializer: InitializerLike = "zeros",
        ignore_class: int | None = None,
        output_name: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes, ("center_loss",), ignore_class, output_name, **kwargs
        )
        who = self.who
        self.loss_weight = number(who, "loss_weight", loss_weight, at_least=0)
        self.alpha = number(who, "alpha", alpha, at_least=0, at_most=1)
        self.update = one_of(
            who, "update", update, ("moving_average", "gradient")
        )
        self.normalize = boolean(who, "normalize", normalize)
        self.reduction = one_of(
            who, "reduction", reduction, ("mean", "sum", "class_mean")
        )
        self.centers_initializer = initializer(
            who, "centers_initializer", centers_initializer
        )

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        """Creates the centers.

        Args:
            features_shape: `(batch, ..., dim)`.
        """
        if len(features_shape) < 2 or features_shape[-1] is None:
            raise ValueError(
                f"{self.who} needs embeddings of the shape (batch, dim) with a "
                f"known dim, received the shape {tuple(features_shape)}."
            )
        self.input_spec = keras.layers.InputSpec(
            name="features", min_ndim=2, axes={-1: features_shape[-1]}
        )
        self.centers = self.add_weight(
            name="centers",
            shape=(self.num_classes, features_shape[-1]),
            dtype=self.loss_dtype,
            initializer=self.centers_initializer,
            trainable=self.update == "gradient",
            autocast=False,
            # Every replica applies the same update: nothing to aggregate.
            aggregation=None if self.update == "gradient" else "none",
        )

    def call(
        self,
        features: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns `features`, adds the loss and moves the centers."""
        batch_shape = tuple(features.shape)[:-1]
        if training and labels is None and len(batch_shape) > 1:
            raise ValueError(self._not_pooled(features))
        batch = self.labelled_batch(
            labels,
            sample_weight,
            batch_shape,
            training,
            self.mask_of(features, mask, range(len(batch_shape))),
        )
        if batch is None:
            return features

        embeddings = ops.reshape(
            ops.cast(features, self.loss_dtype), (-1, features.shape[-1])
        )
        if self.normalize:
            embeddings = unit_length(embeddings)
        loss, measured, count = self._reduce(
            self._distances(embeddings, batch), batch
        )
        self.add_loss(self.loss_weight * loss)
        self.measure("center_loss", measured, weight=count)
        if training and self.trainable and self.update == "moving_average":
            self._move_centers(embeddings, batch)
        return features

    def _distances(self, embeddings: Tensor, batch: LabelledBatch) -> Tensor:
        """What each sample adds to the loss, before the mean or the sum."""
        shares = batch.shares
        if shares is not None:
            centers = self.centers
            if self.update == "moving_average":
                centers = read_rows(centers, self._all_classes())
            if self.reduction == "class_mean":
                # (Those of the global batch; where none is, no share is.)
                counts = global_sum(ops.sum(shares, axis=0))
                shares = shares / ops.where(counts > 0.0, counts, 1.0)
            return mixed_half_squared_distance(embeddings, centers, shares)
        if self.update == "gradient":
            centers = ops.take(self.centers, batch.labels, axis=0)
        else:
            centers = read_rows(self.centers, batch.labels)
        distances = half_squared_distance(embeddings, centers)
        if self.reduction == "class_mean":
            counts = class_counts(
                batch.labels, gather(batch.labels), gather(batch.counted)
            )
            distances = distances / ops.cast(
                ops.maximum(counts, 1), distances.dtype
            )
        return distances

    def _reduce(
        self, distances: Tensor, batch: LabelledBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, its value for the logs, and the number of samples."""
        mean, count = self.global_mean(distances, batch)
        if self.reduction == "mean":
            return mean, mean, count
        # (Without a sample it was divided by 1.)
        loss = mean * ops.where(count > 0.0, count, 1.0)
        return loss, loss, count

    def _move_centers(self, embeddings: Tensor, batch: LabelledBatch) -> None:
        counted = ops.logical_and(batch.valid, batch.counted)
        counted = ops.logical_and(
            counted, ops.all(ops.isfinite(embeddings), axis=-1)
        )
        # Every replica moves the centers by the global batch.
        if batch.shares is not None:
            classes = self._all_classes()
            rows = moved_by_shares(
                gather(ops.where(counted[:, None], embeddings, 0.0)),
                read_rows(self.centers, classes),
                gather(ops.where(counted[:, None], batch.shares, 0.0)),
                self.alpha,
            )
            write_rows(self.centers, classes, rows)
            return
        embeddings = gather(embeddings)
        labels = gather(batch.labels)
        counted = gather(counted)
        rows = moved_centers(
            embeddings,
            read_rows(self.centers, labels),
            labels,
            counted,
            self.alpha,
        )
        write_rows(self.centers, labels, rows)

    def _all_classes(self) -> Tensor:
        return ops.arange(self.num_classes, dtype="int32")

    def _not_pooled(self, features: Tensor) -> str:
        return (
            f"{self.who} needs one embedding (batch, dim) for each label, "
            f"received the shape {tuple(features.shape)}. Pool a feature map "
            "first, for instance with keras.layers.GlobalAveragePooling2D(). "
            "Labels for each position have to be given explicitly: "
            "`layer(features, labels)` with labels of the shape (batch, ...)."
        )

    def compute_output_spec(
        self,
        features: keras.KerasTensor,
        labels: Any = None,
        sample_weight: Any = None,
        training: bool | None = None,
        mask: Any = None,
    ) -> keras.KerasTensor:
        """The features' own shape and dtype."""
        if labels is None and len(features.shape) > 2:
            raise ValueError(self._not_pooled(features))
        return super().compute_output_spec(
            features, labels, sample_weight, training, mask
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "loss_weight": self.loss_weight,
            "alpha": self.alpha,
            "update": self.update,
            "normalize": self.normalize,
            "reduction": self.reduction,
            "centers_initializer": keras.initializers.serialize(
                self.centers_initializer
            ),
            "ignore_class": self.ignore_class,
        }

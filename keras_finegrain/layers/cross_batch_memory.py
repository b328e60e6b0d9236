"""Cross-batch memory: a batch is compared with the batches before it."""

from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import (
    not_negative_integer,
    number,
    positive_integer,
    shown,
)
from keras_finegrain._base.private_keras import in_symbolic_scope
from keras_finegrain._base.typing import Tensor
from keras_finegrain.distribution import gather, gather_with_gradient
from keras_finegrain.layers.labelled_loss_layer import (
    LabelledBatch,
    LabelledLossLayer,
)
from keras_finegrain.losses.embedding_pairs import EmbeddingLoss, Reference

# The label of an empty slot.
_EMPTY = -1
# The losses that the layer takes, for its error message.
_LOSSES = (
    "ContrastiveLoss, MultiSimilarityLoss, SupConLoss, CircleLoss, "
    "TripletAllLoss, TripletHardLoss or TripletSemiHardLoss"
)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class CrossBatchMemory(LabelledLossLayer):
    """Adds a loss on pairs of the batch and the last batches (XBM).

    A small batch holds few hard pairs. The memory keeps the embeddings and the
    labels of the last `memory_size` samples of training, those of the batch
    included, and each sample x_i of the batch is compared with all of them but
    itself:

        loss = loss_weight · L({x_i}, memory)

    with L a loss on pairs whose anchors are the batch and whose positives and
    negatives are the memory. Embeddings of earlier steps are a little old and
    get no gradient. Time is O(batch · memory_size · dim).

    The layer stands on the embedding and returns it as it is. In a
    `keras_finegrain` model it finds the labels by itself; in a plain one call
    it as `layer(embeddings, labels)`. The paper adds this loss to that of the
    batch: pass the same loss to `compile()`. Without it, or with a
    classifier's loss there, this is the `CrossBatchMemory` of PyTorch Metric
    Learning. Without labels (`predict()`, an exported model) the layer does
    nothing. The logs show the mean value without `loss_weight` as
    `memory_loss`.

    `evaluate()` computes what a training step would, on the memory that
    training left with the batch added, and changes nothing: number its classes
    as in training. The memory is saved with the weights, so that training goes
    on from a file as if it had never stopped. Before training on other classes
    call `reset_memory()`.

    Args:
        loss: One of the losses of `keras_finegrain.losses` on pairs:
            contrastive, multi-similarity, SupCon, Circle or a triplet loss.
            `NPairsLoss` takes one pair of each class of the batch, for which
            a memory has no meaning.
        memory_size: The number of samples in the memory, at least 1. Default
            1024, that of PyTorch Metric Learning. Where it is smaller than a
            batch, the batch's last samples are kept.
        loss_weight: At least 0. Default 1, the official code's.
        warmup_steps: The number of training steps, at least 0, before the
            memory begins to fill: until then it holds the batch alone, as
            embeddings move fast in the beginning. Default 0; the official
            code takes 1000.
        ignore_class: A label (such as -1 or 255) whose samples neither are
            compared nor remembered, or `None`.
        output_name: In a model with several outputs, the one whose labels and
            weights the layer reads, as in `CenterLoss`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        embeddings: `(batch, dim)`.
        labels: Integers `(batch,)` or `(batch, 1)`, each at least 0, or
            one-hot `(batch, num_classes)`; soft labels count as their largest
            class. `None` to take them from the label scope.
        sample_weight: Weights `(batch,)`, each finite and at least 0: what the
            pairs of each sample of the batch are multiplied by. The memory
            does not know them.
        training: Whether the batch is remembered.
        mask: Booleans `(batch,)`, false where a sample is neither compared nor
            remembered. `None` for the mask that is attached, if any.

    Input shape:
        `(batch, dim)`.

    Output shape:
        The input's.

    Raises:
        ValueError: For an argument out of its range; for training without
            labels; for labels, weights or embeddings of another shape; for a
            negative label that is not `ignore_class`. Inside a compiled step,
            where values cannot be read, such a label or weight turns the loss
            into NaN.

    An embedding that holds NaN or infinity is not remembered; the loss of such
    a batch is NaN.

    Attributes:
        memory: Variable `(memory_size, dim)`, the embeddings from the oldest
            to the newest, float32 under every policy, or float64 under a
            float64 one.
        memory_labels: Integer variable `(memory_size,)`, -1 where a slot is
            empty.
        step: Integer variable: the number of batches in training.

    Example:

    >>> loss = keras_finegrain.losses.ContrastiveLoss()
    >>> model = keras_finegrain.Sequential([
    ...     keras.Input((8,)),
    ...     keras.layers.Dense(2),
    ...     keras_finegrain.layers.CrossBatchMemory(loss, memory_size=64),
    ... ])
    >>> model.compile("sgd", loss)
    >>> x, y = np.random.rand(24, 8), np.arange(24) % 3
    >>> history = model.fit(x, y, batch_size=6, verbose=0)
    >>> sorted(history.history)
    ['loss', 'memory_loss']
    >>> int(ops.sum(model.layers[-1].memory_labels >= 0))
    24

    Reference:
        - [Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR
          2020](https://arxiv.org/abs/1912.06798)
    """

    takes_any_classes = True

    def __init__(
        self,
        loss: EmbeddingLoss,
        memory_size: int = 1024,
        loss_weight: float = 1.0,
        warmup_steps: int = 0,
        ignore_class: int | None = None,
        output_name: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            None, ("memory_loss",), ignore_class, output_name, **kwargs
        )
        who = self.who
        if not isinstance(loss, EmbeddingLoss) or not loss.takes_reference:
            raise ValueError(
                f"{who}: loss must be a loss of keras_finegrain that compares "
                f"each sample with all others, received {shown(loss)}. Take "
                f"keras_finegrain.losses.{_LOSSES}. The others compare samples "
                "with centers, which remember for themselves, or one pair of "
                "each class."
            )
        self.loss = loss
        self.memory_size = positive_integer(who, "memory_size", memory_size)
        self.loss_weight = number(who, "loss_weight", loss_weight, at_least=0)
        self.warmup_steps = not_negative_integer(
            who, "warmup_steps", warmup_steps
        )

    def build(self, embeddings_shape: tuple[int | None, ...]) -> None:
        """Creates the memory.

        Args:
            embeddings_shape: `(batch, dim)`.
        """
        if len(embeddings_shape) != 2 or embeddings_shape[-1] is None:
            raise ValueError(
                f"{self.who} needs embeddings of the shape (batch, dim) with a "
                f"known dim, received the shape {tuple(embeddings_shape)}. "
                "Pool a feature map first, for instance with "
                "keras.layers.GlobalAveragePooling2D()."
            )
        self.input_spec = keras.layers.InputSpec(
            name="embeddings", ndim=2, axes={-1: embeddings_shape[-1]}
        )

        def variable(name: str, shape: tuple[int, ...], start: Any) -> Any:
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=self.loss_dtype if name == "memory" else "int",
                initializer=start,
                trainable=False,
                autocast=False,
                # Every replica remembers the global batch.
                aggregation="none",
            )

        self.memory = variable(
            "memory", (self.memory_size, embeddings_shape[-1]), "zeros"
        )
        self.memory_labels = variable(
            "memory_labels",
            (self.memory_size,),
            keras.initializers.Constant(_EMPTY),
        )
        self.step = variable("step", (), "zeros")

    def call(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns `embeddings`, adds the loss and remembers the batch."""
        batch = self.labelled_batch(
            labels,
            sample_weight,
            tuple(embeddings.shape)[:1],
            training,
            self.mask_of(embeddings, mask, [0]),
        )
        if batch is None:
            return embeddings
        # (What does not count may be NaN.)
        anchors = ops.where(
            batch.counted[:, None], ops.cast(embeddings, self.loss_dtype), 0.0
        )
        # Every replica compares and remembers the global batch.
        anchors = gather_with_gradient(anchors)
        batch = LabelledBatch(
            gather(batch.labels),
            gather(batch.valid),
            gather(batch.counted),
            gather(batch.weights),
        )
        finite = ops.all(ops.isfinite(anchors), axis=-1)
        usable = ops.logical_and(batch.valid, finite)
        kept = ops.logical_and(batch.counted, usable)
        memory, memory_labels = self._with_batch(anchors, batch.labels, kept)
        size = ops.shape(anchors)[0]
        loss = self.loss.loss_of_pairs(
            ops.cast(batch.labels, memory_labels.dtype),
            anchors,
            Reference(
                embeddings=memory,
                labels=memory_labels,
                own=self.memory_size - size + ops.arange(size, dtype="int32"),
                counted=batch.counted,
                weights=batch.weights,
            ),
        )
        usable = ops.logical_or(usable, ops.logical_not(batch.counted))
        loss = ops.where(ops.all(usable), loss, float("nan"))
        self.add_loss(self.loss_weight * loss)
        count = ops.sum(ops.cast(batch.counted, loss.dtype))
        self.measure("memory_loss", loss, weight=count)
        if training and self.trainable and not in_symbolic_scope():
            self.memory.assign(memory)
            self.memory_labels.assign(memory_labels)
            self.step.assign(self.step + 1)
        return embeddings

    def _with_batch(
        self, embeddings: Tensor, labels: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The embeddings and labels of the memory once it holds a batch."""
        embeddings = ops.where(
            kept[:, None], ops.stop_gradient(embeddings), 0.0
        )
        labels = ops.cast(labels, self.memory_labels.dtype)
        is_warm = self.step > self.warmup_steps
        known = ops.where(is_warm, self.memory_labels.value, _EMPTY)
        memory = ops.concatenate([self.memory.value, embeddings], axis=0)
        memory_labels = ops.concatenate(
            [known, ops.where(kept, labels, _EMPTY)], axis=0
        )
        # (Reshaped for graphs that do not know the length of the batch.)
        return (
            ops.reshape(memory[-self.memory_size :], self.memory.shape),
            ops.reshape(
                memory_labels[-self.memory_size :], self.memory_labels.shape
            ),
        )

    def reset_memory(self) -> None:
        """Empties the memory and starts the warm-up again."""
        self.memory.assign(ops.zeros_like(self.memory.value))
        self.memory_labels.assign(
            ops.full_like(self.memory_labels.value, _EMPTY)
        )
        self.step.assign(0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        # (Any number of classes may be remembered.)
        del config["num_classes"]
        return {
            **config,
            "loss": keras.saving.serialize_keras_object(self.loss),
            "memory_size": self.memory_size,
            "loss_weight": self.loss_weight,
            "warmup_steps": self.warmup_steps,
            "ignore_class": self.ignore_class,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CrossBatchMemory":
        """The layer that a config describes.

        Args:
            config: What `get_config` returned.
        """
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})

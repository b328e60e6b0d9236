"""One method, one seed: from the first weights to outputs on the test set."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from keras_finegrain._base.arrays import true_class_ranks
from keras_finegrain.layers import CosineSimilarity
from keras_finegrain.metrics import intra_inter_distance_ratio, recall_at_k
from keras_finegrain.models import Model
from keras_finegrain.optimizers import LayerwiseLearningRate
from keras_finegrain.training.errors import TrainingError
from keras_finegrain.training.frozen import FeatureCache
from keras_finegrain.training.methods import (
    HEAD_WEIGHTS,
    ON_CLASS_COUNTS,
    ON_PAIRS,
    Head,
    begins_with_pooling,
    build_head,
    check_method,
)
from keras_finegrain.training.settings import Settings
from keras_finegrain.training.sources import Source

# 0.1 is 6 degrees between two centers of unit length.
_DISTINCT = 0.1
Floats = npt.NDArray[np.float32]


class Run(NamedTuple):
    """The result of one run.

    Attributes:
        history: Name to one number an epoch.
        model: From images in [0, 255] to scores.
        embeddings: Of the test images, `(images, dim)`.
        scores: Of the test images, `(images, num_classes)`.
        labels: Of the test images, `(images,)`.
        known: Embeddings of the training images, cut as for testing, and
            their labels; None if they were not asked for.
        measured: Name to number: the seconds of `fit` and, for a head with
            several centers a class, how many of them are distinct.
    """

    history: dict[str, list[float]]
    model: keras.Model
    embeddings: Floats
    scores: Floats
    labels: npt.NDArray[np.int32]
    known: tuple[Floats, npt.NDArray[np.int32]] | None
    measured: dict[str, float]


def train(
    settings: Settings,
    seed: int,
    source: Source,
    *,
    cache: FeatureCache | None = None,
    scope: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    validate: bool = False,
    embed_known: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Trains one method with one seed.

    For one seed all methods have the same first weights of the backbone and
    the same augmentation and, except those on pairs, the same order of images.

    Args:
        settings: What the run is made with.
        seed: Of the first weights, the order and the augmentation.
        source: The images.
        cache: Keeps the output of a frozen part for other runs. The models of
            all its runs share a backbone that is frozen as a whole.
        scope: Returns the context in which models are built.
        validate: Whether to test after every epoch, for the history.
        embed_known: Whether to embed the training images, for `Run.known`.
        callbacks: Further callbacks of `fit`.

    Returns:
        The `Run`, with the weights after the last epoch.

    Raises:
        TrainingError: If the settings cannot be trained with, or the training
            diverges.
    """
    on_pairs = settings.method in ON_PAIRS
    cache = cache or FeatureCache()
    with _policy(settings), scope():
        counts = None
        if settings.method in ON_CLASS_COUNTS:
            counts = source.class_counts()
        model, cut, head = build(
            settings, seed, source.num_classes, counts, cache
        )
        batches: Any = source
        start, front = model.input, None
        if cut is None:
            front = source.front(settings)
        else:
            start, frozen = cut, keras.Model(model.input, cut)
            batches = source.frozen(settings, frozen, cache)
        trained = _behind(front, head.model_class(start, head.trained))
        # Pooled features may be the embeddings, and Keras makes no model that
        # gives back where it was cut.
        embedding = keras.ops.cast(head.embedding, "float32")
        tested = _behind(front, Model(start, [embedding, head.scores]))
        train_batches = batches.train(settings, seed)
        test_batches = batches.test(settings)
        _compile(settings, trained, head.loss, len(train_batches))
    started = time.perf_counter()
    history = trained.fit(
        train_batches,
        # Test batches hold few pairs of one class: a loss on them is noise.
        validation_data=test_batches if validate and not on_pairs else None,
        epochs=settings.epochs,
        shuffle=False,  # The batches are shuffled already.
        verbose=0,
        callbacks=[*callbacks, _EndOfDivergedRun()],
    ).history
    measured = {"seconds": time.perf_counter() - started}
    if not np.isfinite(history["loss"]).all():
        raise TrainingError(
            f"{settings.method}, seed {seed}: the loss became NaN or infinite "
            f"in epoch {len(history['loss'])}; {_remedy(settings)}"
        )
    last = model.get_layer("head")
    known = None
    if on_pairs or embed_known:
        train_batches = batches.train_as_tested(settings)
        embeddings, _, labels = _outputs(tested, train_batches)
        known = embeddings, labels
        if on_pairs:
            _set_class_means(last, embeddings, labels)
    outputs = _outputs(tested, test_batches)
    # The last step may have been the one too far: no loss came after it.
    if not all(np.isfinite(values).all() for values in outputs):
        raise TrainingError(
            f"{settings.method}, seed {seed}: the outputs for the test images "
            f"became NaN or infinite in the last epoch; {_remedy(settings)}"
        )
    if not np.ptp(outputs[0], axis=0).any():
        raise TrainingError(
            f"{settings.method}, seed {seed}: the embeddings of all test "
            f"images have become equal; {_remedy(settings)}"
        )
    if getattr(last, "centers_per_class", 1) > 1:
        distinct = last.distinct_centers(tolerance=_DISTINCT)
        measured["distinct_centers"] = float(np.mean(distinct))
    return Run(history, model, *outputs, known, measured)


def _remedy(settings: Settings) -> str:
    """What to change after a training that diverged."""
    if settings.mixed_precision == "none":
        return "lower --lr"
    return (
        "lower --lr, or leave out --mixed-precision "
        f"{settings.mixed_precision}: its gradients may be what fails"
    )


class _EndOfDivergedRun(keras.callbacks.Callback):
    """Ends the training after an epoch whose loss is not finite.

    (`TerminateOnNaN` reads the loss of each step, for which JAX would wait.)
    """

    def on_epoch_end(
        self, epoch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Looks at the loss."""
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True


def build(
    settings: Settings,
    seed: int,
    num_classes: int,
    class_counts: Sequence[int] | None = None,
    cache: FeatureCache | None = None,
) -> tuple[keras.Model, Any, Head]:
    """Builds the model of one run.

    Returns:
        The model from images to scores, the symbolic output of its frozen
        part or None, and its head. Behind a backbone that is frozen as a whole
        the frozen part includes the pooling, if nothing trained precedes it:
        its output is one number a channel.
    """
    keras.utils.set_random_seed(seed)
    backbone, cut = (cache or FeatureCache()).backbone(settings)
    check_method(settings, backbone.output.shape[-1], num_classes)
    # The head's first weights do not depend on how many numbers the backbone
    # drew.
    keras.utils.set_random_seed(seed)
    head = build_head(settings, backbone, num_classes, class_counts)
    model = head.model_class(backbone.input, head.scores)
    if cut is backbone.output and begins_with_pooling(settings):
        cut = model.get_layer("pooling").output
    return model, cut, head


@contextlib.contextmanager
def _policy(settings: Settings) -> Iterator[None]:
    """Models that are built within compute in the settings' precision."""
    before = keras.config.dtype_policy()
    if settings.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{settings.mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _behind(front: keras.Model | None, model: Model) -> Model:
    """The model on the images that the front makes."""
    return model if front is None else Model(front.inputs, model(front.output))


def _compile(
    settings: Settings,
    model: keras.Model,
    loss: keras.losses.Loss,
    steps: int,
) -> None:
    """Compiles the model for epochs of so many steps."""
    rate = keras.optimizers.schedules.CosineDecay(
        settings.lr, steps * settings.epochs
    )
    shared: dict[str, Any] = {"weight_decay": settings.weight_decay}
    if settings.ema_momentum:
        shared |= {"use_ema": True, "ema_momentum": settings.ema_momentum}
    if settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, **shared)
    else:
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, **shared)
    if settings.head_lr_multiplier != 1.0:
        optimizer = LayerwiseLearningRate(
            optimizer, {HEAD_WEIGHTS: settings.head_lr_multiplier}
        )
    # A TensorFlow function in which variables were made is traced once more:
    # let none be made there.
    optimizer.build(model.trainable_variables)
    metrics = []
    # A loss on pairs gets embeddings, which have no accuracy.
    if settings.method not in ON_PAIRS:
        accuracy = keras.metrics.SparseCategoricalAccuracy
        if settings.mixup or settings.label_smoothing:
            accuracy = keras.metrics.CategoricalAccuracy
        metrics = [accuracy("accuracy")]
    backend = keras.backend.backend()
    model.compile(
        optimizer,
        loss,
        metrics=metrics,
        # On JAX the alternative to compiling is a step without any jit.
        jit_compile=settings.xla or backend == "jax",
        # On PyTorch Keras compiles no function that could take several.
        steps_per_execution=(
            1 if backend == "torch" else settings.steps_per_execution
        ),
    )


def _outputs(
    model: keras.Model, batches: Any
) -> tuple[Floats, Floats, npt.NDArray[np.int32]]:
    """Embeddings, scores and labels of all images of the batches."""
    embeddings, scores = model.predict(batches, verbose=0)
    labels = np.concatenate([np.asarray(y) for _, y in batches])
    return embeddings, scores, labels


def _set_class_means(
    head: CosineSimilarity, embeddings: Floats, labels: npt.NDArray[Any]
) -> None:
    """Makes the head classify by the nearest mean of these embeddings."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / np.maximum(length, 1e-12)
    means = [
        directions[labels == label].mean(axis=0, keepdims=True)
        for label in range(head.num_classes)
    ]
    head.centers.assign(np.stack(means))


def test_metrics(
    embeddings: Floats,
    scores: Floats,
    labels: npt.NDArray[np.integer],
) -> dict[str, float]:
    """The metrics of a test set whose classes were trained on.

    Args:
        embeddings: `(images, dim)`.
        scores: `(images, num_classes)`; the highest one wins.
        labels: `(images,)`.

    Returns:
        top_1, top_5 and recall_at_1 in [0, 1], and the distance ratio.
        Without the last two where no class has two images, and without the
        ratio where there is one class.
    """
    rank = true_class_ranks(scores, labels)
    metrics = {
        "top_1": float(np.mean(rank <= 1)),
        "top_5": float(np.mean(rank <= 5)),
    }
    counts = np.bincount(labels)
    if counts.max() < 2:
        return metrics
    metrics["recall_at_1"] = recall_at_k(embeddings, labels, k=1)
    if np.count_nonzero(counts) > 1:
        metrics["intra_inter_distance_ratio"] = intra_inter_distance_ratio(
            embeddings, labels
        )
    return metrics

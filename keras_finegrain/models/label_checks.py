"""Checks of a model's labels before and around its compiled steps.

A compiled step cannot read its labels. What is wrong with them is found where
the data is made: on arrays as a whole, on a `tf.data.Dataset` in its input
pipeline, on each batch of a `PyDataset`, a generator or a torch `DataLoader`.
"""

import contextlib
import copy
import types
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras

from keras_finegrain._base.arrays import concrete, dtype_name
from keras_finegrain._base.private_keras import inner_layers
from keras_finegrain._base.typing import Tensor
from keras_finegrain.labels.forms import (
    are_rows,
    check_form,
    check_labels,
    numbers_of_rows,
    refuse_dtype,
)
from keras_finegrain.labels.outputs import entry_of, is_structure
from keras_finegrain.labels.sampling import check_unmixed, drawn_classes
from keras_finegrain.labels.scope import current_scope
from keras_finegrain.labels.weights import (
    check_weight_shape,
    check_weights,
    weight_values,
)
from keras_finegrain.layers.labelled_loss_layer import (
    LabelledLossLayer,
    in_own_model,
)


def scope_layers(model: keras.Model) -> list[LabelledLossLayer]:
    """The layers of a model that read their labels from the label scope."""
    return [
        layer
        for layer in inner_layers(model)
        if isinstance(layer, LabelledLossLayer)
        and layer.reads_scope is not False
    ]


class LabelRule(NamedTuple):
    """What a layer or a loss asks of the labels of a batch.

    Plain values, so that a worker process can be given a copy.

    Attributes:
        who: The layer or the loss, for error messages.
        num_classes: The number of classes, or `None` for any.
        ignore_class: A label that may lie outside of them, or `None`.
        rank: The number of axes that count samples, or `None` if unknown.
        output: The output that the labels belong to, or `None` for the only
            one.
        mixes: Whether soft labels are accepted.
    """

    who: str
    num_classes: int | None
    ignore_class: int | None
    rank: int | None
    output: str | int | None
    mixes: bool = True

    def check(
        self,
        labels: Any,
        sample_weight: Any,
        names: Sequence[str],
        samples: int | None,
    ) -> None:
        """Raises for labels or weights of a batch or of a whole data set."""
        labels = self.entry(labels, names, "y")
        if labels is not None:
            self._check_labels(labels, samples)
        weights = self.entry(sample_weight, names, "sample_weight")
        if weights is None:
            return
        weights = weight_values(self.who, weights)
        if self.rank == 1 and hasattr(labels, "shape"):
            check_weight_shape(self.who, weights.shape, (len(labels),))
        check_weights(self.who, weights)

    def entry(self, values: Any, names: Sequence[str], name: str) -> Any:
        """The values of this rule's output, or `None`.

        Several of which none is named are left to the layer, which raises if
        it reads them: a `train_step` of the user's own may choose.
        """
        if is_structure(values) and len(values) != 1 and self.output is None:
            return None
        return entry_of(self.who, values, self.output, names, name)

    def _check_labels(self, labels: Any, samples: int | None) -> None:
        if not hasattr(labels, "dtype"):
            return
        refuse_dtype(self.who, dtype_name(labels))
        values = concrete(labels)
        if values is None or self.rank is None:
            return
        check_form(
            self.who,
            values.shape,
            str(values.dtype),
            (samples, *(None,) * (self.rank - 1)),
            self.num_classes,
        )
        check_labels(
            self.who,
            values,
            self.num_classes,
            self.ignore_class,
            rank=self.rank,
        )
        if not self.mixes:
            check_unmixed(self.who, values)


def label_rules(model: keras.Model) -> list[LabelRule]:
    """What the layers and the losses of a model ask of its labels."""
    layers = [
        LabelRule(
            layer.who,
            layer.num_classes,
            layer.ignore_class,
            None if layer.reads_scope is None else 1,
            layer.output_name,
        )
        for layer in scope_layers(model)
    ]
    return layers + _rules_of_losses(model)


def _rules_of_losses(model: keras.Model) -> list[LabelRule]:
    loss = getattr(model, "loss", None)
    losses: Iterable[tuple[Any, Any]] = [(None, loss)]
    if isinstance(loss, (list, tuple)) and len(loss) > 1:
        losses = enumerate(loss)
    elif isinstance(loss, dict) and len(loss) > 1:
        losses = loss.items()
    else:
        losses = [(None, single_loss(loss))]
    samples = any(
        getattr(layer, "samples", False) for layer in inner_layers(model)
    )
    rules = []
    for output, each in losses:
        if not hasattr(each, "scores_classes"):
            continue
        shape = _output_shape(model, output)
        scores = each.scores_classes
        rules.append(
            LabelRule(
                each.who,
                shape[-1] if scores and shape else None,
                None,
                len(shape) - 1 if shape else None,
                output,
                mixes=not (samples and each.weighs_sampled_classes),
            )
        )
    return rules


def _output_shape(
    model: keras.Model, output: str | int | None
) -> tuple[int | None, ...] | None:
    """The shape of an output, where the model knows it before it is called."""
    outputs = getattr(model, "outputs", None) or []
    if isinstance(output, str):
        names = getattr(model, "output_names", None) or []
        if output not in names:
            return None
        output = names.index(output)
    if output is None and len(outputs) != 1:
        return None
    if (output or 0) >= len(outputs):
        return None
    return tuple(outputs[output or 0].shape)


class LabelChecks:
    """Checks of the labels and weights that a model is given.

    Args:
        model: The model.

    Attributes:
        error: The error of the first bad batch, which a backend's pipeline may
            wrap in one of its own.
    """

    def __init__(self, model: keras.Model) -> None:
        self.rules = label_rules(model)
        self.output_names = output_names(model)
        self.error: ValueError | None = None

    def watch(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Checks labels that can be read now, and watches those that come.

        Args:
            x: The first argument of `fit`.
            y: The labels, where `x` has none.
            sample_weight: The weights, where `x` has none.

        Returns:
            `x`; a data set comes back with a check of each batch on its way.

        Raises:
            ValueError: If labels or weights are not what a layer or a loss
                accepts.
        """
        if not self.rules:
            return x
        if isinstance(x, keras.utils.PyDataset):
            return _WatchedPyDataset(x, self)
        if isinstance(x, types.GeneratorType):
            return self._watched(x)
        if _is_tf_dataset(x):
            return _with_checked_labels(x, self)
        if _is_torch_loader(x):
            watched = copy.copy(x)
            watched.collate_fn = _WatchedCollation(x.collate_fn, self)
            # Workers that persist hold the function of before.
            watched._iterator = None
            return watched
        self.check(x, y, sample_weight)
        return x

    def check(self, x: Any, labels: Any, sample_weight: Any = None) -> None:
        """Raises for labels or weights that a rule forbids."""
        samples = _num_samples(x)
        for rule in self.rules:
            rule.check(labels, sample_weight, self.output_names, samples)

    def check_batch(self, batch: Any) -> Any:
        """The batch of a data set, or the error, which is kept as well."""
        x, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        try:
            self.check(x, labels, weights)
        except ValueError as error:
            self.error = self.error or error
            raise
        return batch

    def _watched(
        self, batches: Generator[Any, None, None]
    ) -> Generator[Any, None, None]:
        for batch in batches:
            yield self.check_batch(batch)


@contextlib.contextmanager
def label_checks(model: keras.Model) -> Iterator[LabelChecks]:
    """The checks of a call of `fit` or its kin, which raises their error.

    Args:
        model: The model.
    """
    checks = LabelChecks(model)
    outer = in_own_model.set(True)
    try:
        yield checks
    except Exception:
        if checks.error is not None:
            raise checks.error from None
        raise
    finally:
        in_own_model.reset(outer)


def output_names(model: keras.Model) -> tuple[str, ...]:
    """The names of a model's outputs, where it has them."""
    return tuple(getattr(model, "output_names", None) or ())


def _num_samples(x: Any) -> int | None:
    """The length of the inputs, where they are arrays or tensors."""
    for leaf in keras.tree.flatten(x):
        shape: Sequence[Any] = getattr(leaf, "shape", ())
        if len(shape) > 0 and isinstance(shape[0], int):
            return shape[0]
    return None


class _WatchedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches are checked where they are made."""

    def __init__(
        self, dataset: keras.utils.PyDataset, checks: LabelChecks
    ) -> None:
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset
        self.checks = checks

    def __getitem__(self, index: int) -> Any:
        return self.checks.check_batch(self.dataset[index])

    @property
    def num_batches(self) -> int | None:
        return self.dataset.num_batches

    def on_epoch_begin(self) -> None:
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.dataset.on_epoch_end()


class _WatchedCollation:
    """A function of a torch `DataLoader` that checks the batch it makes."""

    def __init__(self, collate: Any, checks: LabelChecks) -> None:
        self.collate = collate
        self.checks = checks

    def __call__(self, samples: Any) -> Any:
        return self.checks.check_batch(self.collate(samples))


def _is_torch_loader(data: Any) -> bool:
    """Whether `data` is a `DataLoader`, without importing PyTorch."""
    return any(
        base.__name__ == "DataLoader"
        and base.__module__.startswith("torch.utils.data")
        for base in type(data).__mro__
    )


def check_head(model: keras.Model, y_pred: Tensor) -> None:
    """Raises if a layer and the model's head disagree about the classes.

    Args:
        model: A compiled model, inside of a step.
        y_pred: Its output.

    Raises:
        ValueError: If the output of a classifier has another number of
            classes than a layer that shares its labels, or scored a share of
            the classes for a loss that does not weigh them.
    """
    loss = single_loss(model.loss)
    if drawn_classes() is not None:
        # Another loss would take each of the drawn classes for one alone.
        if not getattr(loss, "weighs_sampled_classes", False):
            raise ValueError(
                "A head with sampled_share below 1 needs a cross-entropy of "
                "`keras_finegrain.losses` in compile(), such as "
                "NormFaceLoss, ArcFaceLoss or SoftTripleLoss, which weighs "
                f"the classes that were drawn, received {model.loss!r}."
            )
        return
    if current_scope() is None or not _scores_classes(loss):
        return
    if len(getattr(y_pred, "shape", ())) != 2:
        return
    for layer in scope_layers(model):
        if layer.num_classes not in (None, y_pred.shape[-1]):
            raise ValueError(
                f"{layer.who} has num_classes={layer.num_classes}, but the "
                f"model's head gives {y_pred.shape[-1]} classes for the same "
                "labels. Make them agree."
            )


def single_loss(loss: Any) -> Any:
    """The loss of a model with one output, out of a list or dict of one."""
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        return loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        return next(iter(loss.values()))
    return loss


def _scores_classes(loss: Any) -> bool:
    """Whether a loss takes a score for each class."""
    if hasattr(loss, "scores_classes"):
        return bool(loss.scores_classes)
    # Keras's own have no such word: `sparse_categorical_crossentropy`,
    # `categorical_focal_crossentropy`, `categorical_hinge`, …
    name = loss if isinstance(loss, str) else getattr(loss, "name", "")
    return "categorical_" in str(name)


def _is_tf_dataset(data: Any) -> bool:
    """Whether `data` is a `tf.data.Dataset`, without importing TensorFlow."""
    if not type(data).__module__.startswith("tensorflow.python.data"):
        return False
    import tensorflow as tf

    return isinstance(data, tf.data.Dataset)


def _with_checked_labels(dataset: Any, checks: LabelChecks) -> Any:
    """The same data set; a batch with bad labels or weights ends it.

    The check runs on the CPU, beside the step, and reads no images.
    """
    import tensorflow as tf

    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2:
        return dataset
    names = checks.output_names
    for rule in checks.rules:
        labels = rule.entry(spec[1], names, "y")
        if labels is not None:
            _check_spec(rule, labels)

    def check(*batch: Tensor) -> tuple[Tensor, ...]:
        assertions = []
        for rule in checks.rules:
            labels = rule.entry(batch[1], names, "y")
            if isinstance(labels, tf.Tensor) and rule.rank == 1:
                assertions.append(_assert_labels(rule, labels))
            weights = rule.entry(
                batch[2] if len(batch) > 2 else None, names, "sample_weight"
            )
            if isinstance(weights, tf.Tensor):
                assertions.append(_assert_weights(rule, weights))
        with tf.control_dependencies(
            [each for each in assertions if each is not None]
        ):
            labels = tf.nest.map_structure(tf.identity, batch[1])
        return (batch[0], labels, *batch[2:])

    return dataset.map(check)


def _check_spec(rule: LabelRule, spec: Any) -> None:
    """Raises for labels of a data set whose type says that they are none."""
    import tensorflow as tf

    if not isinstance(spec, tf.TensorSpec):
        raise ValueError(
            f"{rule.who}: labels must be a dense tensor, received {spec}. Give "
            "one label for each sample."
        )
    refuse_dtype(rule.who, spec.dtype.name)
    if spec.shape.rank is not None and rule.rank is not None:
        check_form(
            rule.who,
            tuple(spec.shape),
            spec.dtype.name,
            (None,) * rule.rank,
            rule.num_classes,
        )


def _assert_weights(rule: LabelRule, weights: Tensor) -> Any:
    """An assertion of `tf.data` that a batch's weights can be weights."""
    import tensorflow as tf

    weights = tf.cast(weights, "float64")
    return tf.debugging.Assert(
        tf.reduce_all(tf.logical_and(weights >= 0, tf.math.is_finite(weights))),
        [
            f"{rule.who}: sample_weight must be finite and at least 0, "
            "received a minimum of",
            tf.reduce_min(weights),
            "in a batch of the data set. A weight of 0 leaves a sample out.",
        ],
    )


def _assert_labels(rule: LabelRule, labels: Tensor) -> Any | None:
    """An assertion of `tf.data` that a batch's labels fit a rule."""
    import tensorflow as tf
    import tensorflow.experimental.numpy as tnp

    shape = (None,) if labels.shape.rank is None else tuple(labels.shape)
    num_classes = rule.num_classes
    received = "received a minimum and a maximum of"
    if are_rows(shape, labels.dtype.name, 1, num_classes):
        num_classes = shape[-1]
        labels = numbers_of_rows(
            tf.cast(labels, "float32"), tnp, rule.ignore_class
        )
        received = (
            "received one-hot rows that name no class (-1) or several "
            f"({num_classes}): the lowest and the highest are"
        )
    if num_classes is None or labels.dtype.is_floating:
        return None
    labels = tf.cast(labels, "int64")
    if rule.ignore_class is not None:
        labels = tf.boolean_mask(
            labels, tf.not_equal(labels, rule.ignore_class)
        )
    # The extremes of an empty batch lie inside of the range.
    labels = tf.concat([tf.reshape(labels, [-1]), [0]], axis=0)
    low, high = tf.reduce_min(labels), tf.reduce_max(labels)
    return tf.debugging.Assert(
        tf.logical_and(low >= 0, high < num_classes),
        [
            f"{rule.who}: labels must lie in [0, {num_classes}), {received}",
            low,
            high,
            "in a batch of the data set. Check num_classes and the labels.",
        ],
    )

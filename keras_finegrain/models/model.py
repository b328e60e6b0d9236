"""Keras's own models, which show the labels of each step to their layers."""

import contextlib
import inspect
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.private_keras import (
    BuiltFromOneShare,
    Functional,
    NamedInHDF5,
    forget_losses,
    inner_layers,
    is_evaluation_of_fit,
    trains_on_ranks,
)
from keras_finegrain._base.typing import Tensor
from keras_finegrain.distribution import (
    num_replicas,
    runs_on_several_workers,
)
from keras_finegrain.labels.forms import label_tensor
from keras_finegrain.labels.outputs import entry_of, is_structure
from keras_finegrain.labels.sampling import drawn_classes
from keras_finegrain.labels.scope import LabelScope, current_scope, opened
from keras_finegrain.layers.measured import MeasuredLayer
from keras_finegrain.models.head_checks import check_losses, check_pairs
from keras_finegrain.models.label_checks import (
    LabelChecks,
    check_head,
    label_checks,
    output_names,
    scope_layers,
)
from keras_finegrain.models.layer_concerns import WarnOfLayers
from keras_finegrain.models.nonfinite import WarnOfNonFiniteLoss
from keras_finegrain.models.whole_files import WholeFiles


class _LabelScopeSteps(WholeFiles, BuiltFromOneShare, NamedInHDF5):
    """Opens a label scope in each training and test step.

    Mixed into a Keras model. Everything else is the model's own.
    """

    # The `id` of the loss that was last compared with the outputs.
    _checked_loss: int | None = None

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`; checks the labels where the data is made.

        Warns at the end of the first epoch whose loss is not finite, and at the
        end of the training of a layer that did not learn what it is there for.
        """
        call = inspect.signature(super().fit).bind(x, y, *args, **kwargs)  # type: ignore[misc]
        with label_checks(self) as checks:
            _watch(checks, call.arguments)
            check_pairs(self, y, call.arguments.get("batch_size"))
            call.arguments["validation_data"] = _watched_validation(
                checks, call.arguments.get("validation_data")
            )
            call.arguments["callbacks"] = _with_warning(
                call.arguments.get("callbacks")
            )
            return super().fit(*call.args, **call.kwargs)  # type: ignore[misc]

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.evaluate`; checks the labels as `fit` does."""
        # `fit` has checked what it evaluates on, once and not every epoch.
        if is_evaluation_of_fit(kwargs):
            return super().evaluate(x, y, *args, **kwargs)  # type: ignore[misc]
        call = inspect.signature(super().evaluate).bind(x, y, *args, **kwargs)  # type: ignore[misc]
        with label_checks(self) as checks:
            _watch(checks, call.arguments)
            return super().evaluate(*call.args, **call.kwargs)  # type: ignore[misc]

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.train_on_batch`; checks the labels."""
        with label_checks(self) as checks:
            checks.check(x, y, sample_weight)
            return super().train_on_batch(  # type: ignore[misc]
                x, y, sample_weight, *args, **kwargs
            )

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.test_on_batch`; checks the labels."""
        with label_checks(self) as checks:
            checks.check(x, y, sample_weight)
            return super().test_on_batch(  # type: ignore[misc]
                x, y, sample_weight, *args, **kwargs
            )

    def make_train_function(self, force: bool = False) -> Any:
        """As `keras.Model.make_train_function`.

        Raises:
            ValueError: On PyTorch, where `torch.distributed` has several
                processes and Keras leaves each to its own gradients.
        """
        if keras.backend.backend() == "torch" and not trains_on_ranks():
            ranks = num_replicas()
            if ranks > 1:
                raise ValueError(
                    f"{type(self).__name__}.fit: torch.distributed must have "
                    f"one process under Keras {keras.__version__}, received "
                    f"{ranks}. This Keras does not average their gradients, "
                    "and their weights would part. Use Keras 3.16, or wrap "
                    "the model in torch.nn.parallel.DistributedDataParallel "
                    "and train it in a loop of your own, inside "
                    "keras_finegrain.label_scope(labels)."
                )
        return super().make_train_function(force)  # type: ignore[misc]

    def train_step(self, *args: Any) -> Any:
        """As `keras.Model.train_step`, inside of a label scope."""
        with self._label_scope(*args):
            return self._reducible(super().train_step(*args))  # type: ignore[misc]

    def test_step(self, *args: Any) -> Any:
        """As `keras.Model.test_step`, inside of a label scope."""
        with self._label_scope(*args):
            return self._reducible(super().test_step(*args))  # type: ignore[misc]

    def _label_scope(
        self, *args: Any
    ) -> contextlib.AbstractContextManager[LabelScope]:
        """The scope of a step that was called with these arguments."""
        if keras.backend.backend() == "jax":
            forget_losses(self)
        # The data is the last argument on every backend.
        _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(args[-1])
        return opened(
            LabelScope(y, sample_weight, output_names=output_names(self))
        )

    def _reducible(self, logs: Any) -> Any:
        """Logs with an axis where Keras reduces them over workers.

        It averages them over axis 0, which a scalar does not have
        (https://github.com/keras-team/keras/issues/20585).
        """
        if runs_on_several_workers(getattr(self, "distribute_strategy", None)):
            return {name: ops.reshape(v, (1,)) for name, v in logs.items()}
        return logs

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """As `keras.Model.compute_loss`; records what the layers measured."""
        check_head(self, y_pred)
        if self._checked_loss != id(self.loss):  # type: ignore[attr-defined]
            # Once, though PyTorch comes here in every step.
            check_losses(self, y_pred)
            self._checked_loss = id(self.loss)  # type: ignore[attr-defined]
        has_loss = getattr(self, "loss", None) is not None
        if y is None and has_loss and scope_layers(self):
            # Before the loss, whose error does not say so.
            label_tensor("fit", y, "y")
        loss = super().compute_loss(  # type: ignore[misc]
            x,
            _scored(self._as_outputs(y, y_pred)),
            y_pred,
            self._as_outputs(sample_weight, y_pred),
            training=training,
        )
        scope = current_scope()
        if scope is not None:
            # Here, and not in the layers: on JAX what a metric learns during
            # the forward pass is lost.
            for metric, value, weight in scope.measurements:
                metric.update_state(value, sample_weight=weight)
            scope.measurements.clear()
        return loss

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        """As `keras.Model.compute_metrics`, among the classes scored."""
        return super().compute_metrics(  # type: ignore[misc]
            x,
            _scored(self._as_outputs(y, y_pred)),
            y_pred,
            self._as_outputs(sample_weight, y_pred),
        )

    def _as_outputs(self, values: Any, y_pred: Any) -> Any:
        """Labels or weights in the structure of the outputs.

        Where Keras fails: a list or dict of one entry for a single output,
        and a dict for a list of outputs.
        """
        names = output_names(self)
        if not keras.tree.is_nested(y_pred):
            if is_structure(values) and len(values) == 1:
                return entry_of("fit", values, None)
        elif (
            isinstance(y_pred, (list, tuple))
            and isinstance(values, dict)
            and set(values) == set(names)
        ):
            return [values[name] for name in names]
        return values

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The model's metrics, and those of its layers."""
        metrics = list(super().metrics)  # type: ignore[misc]
        known = {id(metric) for metric in metrics}
        for layer in self._measured_layers():
            metrics.extend(m for m in layer.measures if id(m) not in known)
        return metrics

    def get_metrics_result(self) -> dict[str, Tensor]:
        """The logs; measures that share a name get their layer's name."""
        results = super().get_metrics_result()  # type: ignore[misc]
        for layer, log_names in self.log_names_of_measures():
            for measure, metric in layer.named_measures.items():
                if log_names[measure] != metric.name:
                    results.pop(metric.name, None)
                    results[log_names[measure]] = metric.result()
        return results

    def log_names_of_measures(
        self,
    ) -> list[tuple[MeasuredLayer, dict[str, str]]]:
        """The layers that measure, with the log's name of each measure."""
        layers = list(self._measured_layers())
        names = [metric.name for layer in layers for metric in layer.measures]
        return [
            (
                layer,
                {
                    measure: metric.name
                    if names.count(metric.name) == 1
                    else f"{layer.name}_{metric.name}"
                    for measure, metric in layer.named_measures.items()
                },
            )
            for layer in layers
        ]

    def _measured_layers(self) -> Iterable[MeasuredLayer]:
        for layer in inner_layers(self):
            if isinstance(layer, MeasuredLayer):
                yield layer


@keras.saving.register_keras_serializable(package="keras_finegrain")
class Model(_LabelScopeSteps, keras.Model):
    """`keras.Model` that shows `y` of `fit()` to the layers that need labels.

    `keras_finegrain.CenterLoss` and `keras_finegrain.MCLoss` read the labels
    of the batch inside of `fit()`, `evaluate()`, `train_on_batch()` and
    `test_on_batch()`. All else is as in `keras.Model`: functional and
    subclassed models, every backend, distribution, saving, export.

    Before training, labels are checked where the data is made: all of an
    array, each batch of a `tf.data.Dataset`, a `PyDataset`, a generator or a
    torch `DataLoader` on its way (on the CPU, in the input pipeline). So are
    sample weights: each has to be finite and at least 0.

    A batch whose loss is NaN makes the figures of its epoch NaN, as in Keras.
    `fit()` warns at the end of the first such epoch;
    `keras.callbacks.TerminateOnNaN()` stops the training. At the end `fit()`
    warns of an `MCLoss` whose `discriminality` is still at chance. It does
    neither where `callbacks` is a `keras.callbacks.CallbackList`.

    `save()` and `save_weights()` replace an older file when the new one is
    whole: a full disk or a killed process leaves the older one as it was.

    Args:
        *args: As in `keras.Model`, such as `inputs, outputs`.
        **kwargs: As in `keras.Model`.

    Raises:
        ValueError: In `fit()`, for labels that do not fit a layer's or a
            loss's classes, for weights below 0 or not finite, or a
            `num_classes` that disagrees with the head. (A bad batch of a
            `tf.data.Dataset` raises TensorFlow's `InvalidArgumentError` with
            the same words.)

    Example:

    >>> inputs = keras.Input((8,))
    >>> embedding = keras.layers.Dense(2)(inputs)
    >>> features = keras_finegrain.CenterLoss(num_classes=3)(embedding)
    >>> model = keras_finegrain.Model(inputs, keras.layers.Dense(3)(features))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> history = model.fit(np.ones((3, 8)), np.array([0, 1, 2]), verbose=0)
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> "Model":
        """Gives functional arguments to the functional class, as Keras does."""
        if cls is Model and _is_functional(args, kwargs):
            return FunctionalModel.__new__(FunctionalModel, *args, **kwargs)
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not isinstance(self, Functional) and _is_functional(args, kwargs):
            # A subclass that hands its graph to `super().__init__`. Keras
            # would put its functional class under this one, for all others.
            _make_functional(type(self))
        super().__init__(*args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class FunctionalModel(Model, Functional):
    """What `Model(inputs, outputs)` returns."""


@keras.saving.register_keras_serializable(package="keras_finegrain")
class Sequential(_LabelScopeSteps, keras.Sequential):
    """`keras.Sequential` that shows `y` of `fit()` to layers that need labels.

    See `keras_finegrain.Model`.

    Args:
        layers: As in `keras.Sequential`.
        trainable: As in `keras.Sequential`.
        name: As in `keras.Sequential`.

    Example:

    >>> model = keras_finegrain.Sequential()
    >>> model.add(keras.layers.Dense(4))
    >>> model.add(keras_finegrain.SoftTriple(num_classes=3))
    >>> model.compile("adam", keras_finegrain.losses.SoftTripleLoss())
    >>> history = model.fit(np.ones((3, 8)), np.array([0, 1, 2]), verbose=0)
    """


def _scored(y: Any) -> Any:
    """The labels in the order of the classes that the head scored."""
    drawn = drawn_classes()
    return y if drawn is None else drawn.relabel(y)


def _watch(checks: LabelChecks, arguments: dict[str, Any]) -> None:
    """Checks the data among the arguments of `fit` or `evaluate`."""
    arguments["x"] = checks.watch(
        arguments["x"], arguments["y"], arguments.get("sample_weight")
    )


def _watched_validation(checks: LabelChecks, validation: Any) -> Any:
    if validation is None:
        return None
    if not isinstance(validation, (tuple, list)):
        return checks.watch(validation)
    x, *labels = validation
    return (checks.watch(x, *labels), *labels)


def _with_warning(callbacks: Any) -> Any:
    """The callbacks of `fit`, and those that warn."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # It was made for this training by hand: it takes no further one.
        return callbacks
    return [
        *keras.tree.flatten(callbacks or []),
        WarnOfNonFiniteLoss(),
        WarnOfLayers(),
    ]


def _is_functional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the arguments are `inputs, outputs`: Keras's own rule."""
    return (
        len(args) == 2
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )


def _make_functional(cls: type) -> None:
    """Puts `FunctionalModel` in the place of `Model` among a class's bases."""
    if Model in cls.__bases__:
        cls.__bases__ = tuple(
            FunctionalModel if base is Model else base for base in cls.__bases__
        )
        return
    for base in cls.__bases__:
        if issubclass(base, Model):
            _make_functional(base)

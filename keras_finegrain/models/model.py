"""Keras's own models, which show the labels of each step to their layers."""

import contextlib
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.private_keras import (
    BuiltFromOneShare,
    Functional,
    forget_losses,
    inner_layers,
    is_evaluation_of_fit,
)
from keras_finegrain._base.typing import Tensor
from keras_finegrain.distribution import runs_on_several_workers
from keras_finegrain.labels.sampling import drawn_classes
from keras_finegrain.labels.scope import LabelScope, current_scope, label_scope
from keras_finegrain.layers.measured import MeasuredLayer
from keras_finegrain.models.head_checks import check_losses, check_pairs
from keras_finegrain.models.label_checks import check_head, checked_labels


class _LabelScopeSteps(BuiltFromOneShare):
    """Opens a label scope in each training and test step.

    Mixed into a Keras model. Everything else is the model's own.
    """

    # The `id` of the loss that was last compared with the outputs.
    _checked_loss: int | None = None

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`; checks the labels where the data is made."""
        x, y = checked_labels(self, x, y)
        check_pairs(self, y, kwargs.get("batch_size", (*args, None)[0]))
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple):
            kwargs["validation_data"] = (
                *checked_labels(self, *validation[:2]),
                *validation[2:],
            )
        elif validation is not None:
            kwargs["validation_data"], _ = checked_labels(self, validation)
        return super().fit(x, y, *args, **kwargs)  # type: ignore[misc]

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.evaluate`; checks the labels as `fit` does."""
        # `fit` has checked what it evaluates on, once and not every epoch.
        if not is_evaluation_of_fit(kwargs):
            x, y = checked_labels(self, x, y)
        return super().evaluate(x, y, *args, **kwargs)  # type: ignore[misc]

    def train_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.train_on_batch`; checks the labels."""
        x, y = checked_labels(self, x, y)
        return super().train_on_batch(x, y, *args, **kwargs)  # type: ignore[misc]

    def test_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.test_on_batch`; checks the labels."""
        x, y = checked_labels(self, x, y)
        return super().test_on_batch(x, y, *args, **kwargs)  # type: ignore[misc]

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
        return label_scope(y, sample_weight)

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
        loss = super().compute_loss(  # type: ignore[misc]
            x, _scored(y), y_pred, sample_weight, training=training
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
            x, _scored(y), y_pred, sample_weight
        )

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
        layers = list(self._measured_layers())
        names = [metric.name for layer in layers for metric in layer.measures]
        for layer in layers:
            for metric in layer.measures:
                if names.count(metric.name) > 1:
                    results.pop(metric.name, None)
                    results[f"{layer.name}_{metric.name}"] = metric.result()
        return results

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
    array, each batch of a `tf.data.Dataset` on its way (on the CPU, in the
    input pipeline), the first batch of a `PyDataset` or a generator.

    Args:
        *args: As in `keras.Model`, such as `inputs, outputs`.
        **kwargs: As in `keras.Model`.

    Raises:
        ValueError: In `fit()`, for labels that do not fit a layer's
            `num_classes`, or a `num_classes` that disagrees with the head.

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

"""All that is needed of Keras and has no public name: here and nowhere else.

Each was there from the lowest Keras that this package supports to the newest
that it was tested with.
"""

import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras.src.backend import get_stateless_scope as get_stateless_scope
from keras.src.backend import in_stateless_scope as in_stateless_scope
from keras.src.backend.common.masking import get_keras_mask as get_keras_mask
from keras.src.backend.common.symbolic_scope import (
    in_symbolic_scope as in_symbolic_scope,
)
from keras.src.models.functional import Functional as Functional

from keras_finegrain._base.typing import Tensor


class Call(NamedTuple):
    """One call of a layer in the graph of a model.

    Attributes:
        layer: The layer.
        inputs: The symbolic tensors that it was given.
        outputs: Those that it gave.
        named: The symbolic tensors given by keyword, by name.
    """

    layer: keras.layers.Layer
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    named: dict[str, Any]


def call_behind(tensor: keras.KerasTensor) -> Call:
    """The call that a symbolic tensor came out of.

    A layer that several models share has a call in each; `layer.input` is that
    of the first one.
    """
    layer, node_index, _ = tensor._keras_history
    node = layer._inbound_nodes[node_index]
    return Call(layer, node.input_tensors, node.outputs, node.arguments.kwargs)


def calls_of(model: keras.Model) -> Iterator[Call]:
    """The calls in the graph of a model, from its outputs to its inputs."""
    to_visit = list(model.outputs)
    visited: set[int] = set()
    while to_visit:
        call = call_behind(to_visit.pop())
        yield call
        unseen = [tensor for tensor in call.inputs if id(tensor) not in visited]
        visited.update(map(id, unseen))
        to_visit.extend(unseen)


def inner_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """All layers of a model, those of nested models and layers included."""
    yield from model._flatten_layers(include_self=False)


def forget_losses(layer: keras.layers.Layer) -> None:
    """Drops what a layer and those inside of it added in an earlier step.

    For Keras's own layers on JAX, in which the fault that `LossLayer` describes
    would drop a loss of the new step.
    """
    layer._clear_losses()


def is_evaluation_of_fit(arguments: dict[str, Any]) -> bool:
    """Whether `fit` called `evaluate` with these keyword arguments."""
    return bool(arguments.get("_use_cached_eval_dataset"))


def compiled_loss(
    model: keras.Model, y: Any, y_pred: Tensor, sample_weight: Any
) -> Tensor:
    """The loss that a model was compiled with, of one more output."""
    return model._compile_loss(y, y_pred, sample_weight)


class LossLayer(keras.layers.Layer):
    """A layer whose `add_loss` is right on replicas and under JAX.

    - Keras keeps the losses of a layer in one list for all replicas of
      `tf.distribute`. A collective operation in the forward pass switches to
      another replica's thread, which then reads or clears the losses of this
      one. Here each thread has a list of its own.
    - On JAX Keras finds the losses of a layer among those of a step by their
      `id`, and removes the earlier ones at each call. That loses the first
      loss of a layer that is called twice. The `id`s of the last step are
      still there, so that a loss in the place of a freed one is lost too. Here
      they are cleared once in each step.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._step: Callable[[], Any] = lambda: None

    @property
    def _losses(self) -> list[Tensor]:
        return self._losses_of_thread.items

    @_losses.setter
    def _losses(self, losses: list[Tensor]) -> None:
        self._losses_of_thread = _ThreadLocalList()
        self._losses_of_thread.items.extend(losses)

    def _clear_losses(self) -> None:
        if not in_stateless_scope():
            super()._clear_losses()
            return
        step = get_stateless_scope()
        if self._step() is not step:
            self._loss_ids.clear()
            self._step = weakref.ref(step)


class _ThreadLocalList(threading.local):
    def __init__(self) -> None:
        self.items: list[Tensor] = []


def data_parallel_group() -> Any:
    """The processes of `torch.distributed` that share a batch.

    `None` for all of them, as in the functions of `torch.distributed`.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    mesh = distribution.device_mesh.backend_mesh
    return mesh.get_group(distribution.batch_dim_name)


def trains_on_ranks() -> bool:
    """Whether this Keras averages gradients over `torch.distributed`."""
    return hasattr(keras.Model, "_initialize_ddp")


class BuiltFromOneShare:
    """Mixed into a model: builds it from one replica's share of a batch.

    On TensorFlow Keras averages the replicas' shares for that, which fails
    where they differ in length and, over several workers, always
    (https://github.com/keras-team/keras/issues/20585).
    """

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        strategy = getattr(self, "_distribute_strategy", None)
        if strategy is not None and iterator is not None:
            for _, _, batches in iterator:
                with strategy.scope():
                    data_batch = _first_share(next(batches))
                break
            iterator = None
        super()._maybe_symbolic_build(  # type: ignore[misc]
            iterator=iterator, data_batch=data_batch
        )


class NamedInHDF5:
    """Mixed into a model: an HDF5 file of it loads as its class.

    Keras writes the bare name of the class there: it finds no registered class
    by it, and takes every class that is called Sequential for its own.
    """

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save`."""
        super().save(filepath, *args, **kwargs)  # type: ignore[misc]
        if not str(filepath).endswith((".h5", ".hdf5")):
            return
        import h5py

        with h5py.File(filepath, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["class_name"] = keras.saving.get_registered_name(type(self))
            file.attrs["model_config"] = json.dumps(config).encode()


def _first_share(batch: Any) -> Any:
    """What the first replica of this process got of a distributed batch.

    Args:
        batch: What a `tf.distribute.DistributedIterator` gave: a structure of
            values, each one tensor or one for each replica.

    Returns:
        The same structure, of plain tensors.
    """
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    return keras.tree.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], batch
    )


class MultipliedRates(keras.optimizers.Optimizer):
    """Mixed into an optimizer: multiplies its rate for each variable.

    Attributes:
        optimizer_class: The optimizer's own class.
    """

    optimizer_class: type[keras.optimizers.Optimizer]

    def multiplier(self, path: str) -> float:
        """The multiplier of the weight with this path."""
        raise NotImplementedError

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        """Updates one variable at its multiple of the learning rate."""
        # TensorFlow gives a replica's variable, which has no path.
        index = self._get_variable_index(variable)
        multiplier = self.multiplier(self._trainable_variables[index].path)
        if multiplier:
            super().update_step(gradient, variable, learning_rate * multiplier)

    def _parallel_update_step(
        self,
        grads: Sequence[Tensor],
        variables: Sequence[keras.Variable],
        learning_rate: Tensor,
    ) -> None:
        """PyTorch's `update_step`, of many variables at one rate."""
        gradient_of = dict(zip(map(id, variables), grads, strict=True))
        for multiplier, group in self._by_multiplier(variables):
            super()._parallel_update_step(
                [gradient_of[id(variable)] for variable in group],
                group,
                learning_rate * multiplier,
            )

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Decays each variable at its multiple of the learning rate."""
        if keras.backend.backend() == "torch":
            # Keras decays a list of weights there that must not be empty.
            variables = [v for v in variables if self._use_weight_decay(v)]
        for multiplier, group in self._by_multiplier(variables):
            rate = self.learning_rate * multiplier
            self.as_passed(_learning_rate=rate)._apply_weight_decay(group)

    def _by_multiplier(
        self, variables: Sequence[keras.Variable]
    ) -> list[tuple[float, list[keras.Variable]]]:
        """Groups variables by multiplier, without those of multiplier 0."""
        groups: dict[float, list[keras.Variable]] = {}
        for variable in variables:
            multiplier = self.multiplier(variable.path)
            groups.setdefault(multiplier, []).append(variable)
        groups.pop(0.0, None)
        return list(groups.items())

    def as_passed(self, **changed: Any) -> keras.optimizers.Optimizer:
        """The optimizer as it was passed, with the attributes of this one."""
        optimizer = object.__new__(self.optimizer_class)
        vars(optimizer).update(vars(self), **changed)
        return optimizer


def base_of_multiplied_rates(
    optimizer_class: type[keras.optimizers.Optimizer],
) -> type[keras.optimizers.Optimizer]:
    """The class of an optimizer that can be asked for several rates a step."""
    # PyTorch's parallel Nadam advances a product over all steps at each call:
    # one call for each multiplier would advance it too often.
    is_nadam = issubclass(optimizer_class, keras.optimizers.Nadam)
    if is_nadam and hasattr(optimizer_class, "_parallel_update_step"):
        return keras.optimizers.Nadam
    return optimizer_class


def num_optimized_variables(optimizer: keras.optimizers.Optimizer) -> int:
    """How many weights a built optimizer has state for."""
    return len(optimizer._trainable_variables)

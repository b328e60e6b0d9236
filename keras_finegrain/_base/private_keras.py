"""What is needed of Keras and stands in no public name: here and nowhere else.

Each was there from the lowest Keras that this package supports to the newest
that it was tested with.
"""

from collections.abc import Iterator
from typing import NamedTuple

import keras
from keras.src.backend import get_stateless_scope as get_stateless_scope
from keras.src.backend import in_stateless_scope as in_stateless_scope
from keras.src.backend.common.symbolic_scope import (
    in_symbolic_scope as in_symbolic_scope,
)
from keras.src.models.functional import Functional as Functional


class Call(NamedTuple):
    """One call of a layer in the graph of a model.

    Attributes:
        layer: The layer.
        inputs: The symbolic tensors that it was given.
        outputs: Those that it gave.
    """

    layer: keras.layers.Layer
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]


def call_behind(tensor: keras.KerasTensor) -> Call:
    """The call that a symbolic tensor came out of.

    A layer that several models share has a call in each; `layer.input` is that
    of the first one.
    """
    layer, node_index, _ = tensor._keras_history
    node = layer._inbound_nodes[node_index]
    return Call(layer, node.input_tensors, node.outputs)


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


def forget_losses(layer: keras.layers.Layer) -> None:
    """Drops what a layer and those inside of it added in an earlier step.

    For Keras's own layers on JAX: they would take a loss of the new step that
    was made in the place of a freed one for their old one, and out of the step
    (`MeasuredLayer` says more).
    """
    layer._clear_losses()

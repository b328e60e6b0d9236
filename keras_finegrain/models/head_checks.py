"""Whether the losses of a model take what its outputs are.

Cosines in the place of probabilities, or logits in that of cosines, train
without an error and to nothing. What an output is, is read off the layers that
make it. Where they do not tell, nothing is said.
"""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from keras_finegrain._base.private_keras import call_behind
from keras_finegrain.labels.forms import integer_labels
from keras_finegrain.labels.outputs import entry_of, is_structure
from keras_finegrain.layers.cosine_similarity import CosineSimilarity
from keras_finegrain.layers.gaussian_mixture import GaussianMixture
from keras_finegrain.layers.labelled_loss_layer import LabelledLossLayer
from keras_finegrain.losses.embedding_pairs import missing_pairs
from keras_finegrain.models.label_checks import single_loss

COSINES = "cosines"
SCALED_COSINES = "scaled cosines"
LOGITS = "unbounded logits"
DENSITIES = "log-densities of a mixture"
PROBABILITIES = "probabilities of a softmax"
# Softmax of cosines as they are: of C classes none gets more than
# e² / (e² + C − 1), 13 % of 50.
FLAT_PROBABILITIES = "a softmax of cosines that are not scaled"

# Keras's losses of probabilities, which some take of logits instead.
_OF_PROBABILITIES = {
    name.replace("_", "")
    for name in (
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "kl_divergence",
        "sparse_categorical_crossentropy",
    )
}


class Output(NamedTuple):
    """What an output of a model is.

    Attributes:
        kind: One of the constants of this file, or `None` if unknown.
        layer: The layer that gives it.
    """

    kind: str | None
    layer: keras.layers.Layer


def check_losses(model: keras.Model, y_pred: Any) -> None:
    """Raises, or warns, where a loss does not take what its output is.

    Args:
        model: A compiled model, inside of a step.
        y_pred: Its outputs.

    Raises:
        ValueError: If an output cannot be what its loss takes.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return
    for tensor, loss in _losses_of(model.loss, outputs, y_pred, model):
        if loss is not None:
            _check(output_of(tensor), loss)


def check_pairs(model: keras.Model, y: Any, batch_size: Any) -> None:
    """Raises if no batch of `fit` can hold a pair for a loss on pairs.

    Args:
        model: A compiled model.
        y: The labels of `fit`, of which arrays are looked at.
        batch_size: That of `fit`, or `None`.

    Raises:
        ValueError: If the model's one loss compares embeddings and no two
            samples of a class can come together.
    """
    loss: Any = single_loss(getattr(model, "loss", None))
    if is_structure(y) and len(y) == 1:
        y = entry_of("fit", y, None)
    is_array = hasattr(y, "shape") and hasattr(y, "dtype")
    if not is_array or not getattr(loss, "compares_embeddings", False):
        return
    labels = integer_labels(loss.who, y, name="y")
    if len(labels) and batch_size == 1:
        missing: str | None = "two samples of one class, and batch_size=1"
    else:
        missing = missing_pairs(labels) if len(labels) else None
    if missing is not None:
        raise ValueError(
            f"{loss.who}: the batches of `fit` must hold {missing}, received "
            f"{len(labels)} labels without. Check the labels, and draw batches "
            "with keras_finegrain.datasets.balanced_batches."
        )


def output_of(tensor: keras.KerasTensor) -> Output:
    """What a symbolic tensor is, by the layers that make it."""
    call = call_behind(tensor)
    layer = call.layer
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        index = [id(output) for output in call.outputs].index(id(tensor))
        return output_of(layer.outputs[index])
    if isinstance(layer, CosineSimilarity):
        return Output(COSINES, layer)
    if isinstance(layer, GaussianMixture):
        return Output(DENSITIES, layer)
    activation = getattr(layer, "activation", None)
    passes_on = isinstance(
        layer, (keras.layers.Dropout, keras.layers.Identity, LabelledLossLayer)
    )
    if isinstance(layer, keras.layers.Activation):
        passes_on = activation is keras.activations.linear
    if passes_on:
        return output_of(call.inputs[0])
    is_softmax = activation is keras.activations.softmax
    if is_softmax or isinstance(layer, keras.layers.Softmax):
        is_dense = isinstance(layer, keras.layers.Dense)
        source = None if is_dense else output_of(call.inputs[0])
        if source is not None and source.kind == COSINES:
            return Output(FLAT_PROBABILITIES, source.layer)
        return Output(PROBABILITIES, layer)
    if isinstance(layer, keras.layers.Rescaling):
        source = output_of(call.inputs[0])
        if source.kind == COSINES:
            return Output(_rescaled(layer), source.layer)
    # (A constraint may keep its kernel at unit length: a cosine head by hand.)
    if (
        type(layer) is keras.layers.Dense
        and activation is keras.activations.linear
        and layer.kernel_constraint is None
    ):
        return Output(LOGITS, layer)
    return Output(None, layer)


def _rescaled(layer: keras.layers.Rescaling) -> str | None:
    try:
        return SCALED_COSINES if abs(layer.scale) > 1.0 else None
    except (TypeError, ValueError):  # a scale for each class
        return None


def _losses_of(
    loss: Any, outputs: list[Any], y_pred: Any, model: keras.Model
) -> Iterator[tuple[Any, Any]]:
    """The outputs, each with its loss, as `compile()` assigns them."""
    if isinstance(loss, dict):
        is_named = isinstance(y_pred, dict)
        names = sorted(y_pred) if is_named else model.output_names
        for name, output in zip(names, outputs, strict=False):
            yield output, loss.get(name)
    elif isinstance(loss, (list, tuple)):
        yield from zip(outputs, keras.tree.flatten(loss), strict=False)
    else:
        for output in outputs:
            yield output, loss


def _check(output: Output, loss: Any) -> None:
    kind, layer = output
    if kind is None:
        return
    who = _name(loss)
    received = f"received {kind}, of the layer '{layer.name}'"
    if getattr(loss, "compares_embeddings", False):
        if kind != LOGITS:
            raise ValueError(
                f"{who} compares embeddings and needs them as the model's "
                f"output, {received}. Leave the head out, or give the model "
                "the embedding as a second output with this loss."
            )
    elif getattr(loss, "takes_cosines", False):
        if kind == SCALED_COSINES:
            raise ValueError(
                f"{who} scales cosines in [-1, 1] itself, {received}. Leave "
                "the Rescaling out and set the scale of the loss."
            )
        if kind != COSINES:
            raise ValueError(
                f"{who} takes cosines in [-1, 1], {received}. End the model "
                "with keras_finegrain.CosineSimilarity, or compile with a "
                "cross-entropy of Keras."
            )
    elif getattr(loss, "takes_densities", False):
        if kind != DENSITIES:
            raise ValueError(
                f"{who} takes log-densities, {received}. End the model with "
                "keras_finegrain.layers.GaussianMixture, or compile with a "
                "cross-entropy of Keras."
            )
    elif getattr(loss, "takes_logits", False):
        if kind in (COSINES, PROBABILITIES, FLAT_PROBABILITIES):
            raise ValueError(
                f"{who} takes logits, {received}. End the model with a plain "
                "keras.layers.Dense, without an activation, or scale cosines "
                "with keras.layers.Rescaling."
            )
    elif kind not in (LOGITS, PROBABILITIES) and _is_of_probabilities(loss):
        _check_probabilities(kind, layer, loss, received)


def _check_probabilities(
    kind: str, layer: Any, loss: Any, received: str
) -> None:
    who = _name(loss)
    remedy = f"keras_finegrain.losses.{layer.usual_loss}"
    if not _from_logits(loss):
        if kind != FLAT_PROBABILITIES:
            raise ValueError(
                f"{who} takes probabilities, {received}. Compile with "
                f"{remedy}, which takes their softmax itself."
            )
    elif kind in (SCALED_COSINES, DENSITIES):
        return
    warnings.warn(
        f"{who}: {received}. A softmax of values in [-1, 1] is never sure of "
        f"a class, so that training ends early. Compile with {remedy} on the "
        "cosines, which scales them.",
        stacklevel=2,
    )


def _name(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    return str(getattr(loss, "__name__", type(loss).__name__))


def _is_of_probabilities(loss: Any) -> bool:
    return _name(loss).replace("_", "").lower() in _OF_PROBABILITIES


def _from_logits(loss: Any) -> bool:
    if not isinstance(loss, keras.losses.Loss):
        return False
    return bool(loss.get_config().get("from_logits", False))

"""Batches for the tests of the losses, and what both sides make of them."""

import keras
import numpy as np
import torch
from keras import ops

import keras_finegrain
from tests.gradients import layer_losses, value_and_gradients

# Keras computes the trigonometric functions of a float64 in float32 on JAX and
# PyTorch. The combined margin is the only loss that calls one.
ANGLE_TOLERANCE = 1e-9 if keras.backend.backend() == "tensorflow" else 2e-5

TOLERANCE = {"float64": (1e-9, 1e-12), "float32": (2e-5, 2e-5)}


def classified(batch, classes, dim, centers=1, seed=0):
    """Embeddings, centers and labels of a classification loss, float64."""
    generator = np.random.default_rng(seed)
    return (
        generator.normal(size=(batch, dim)),
        generator.normal(size=(classes, centers, dim)),
        generator.integers(0, classes, batch),
    )


def head_value_and_gradients(loss, embeddings, centers, labels, dtype, **head):
    """A loss behind a cosine head: value, and gradients of both inputs."""
    layer = keras_finegrain.CosineSimilarity(
        len(centers), centers.shape[1], dtype=dtype, **head
    )
    layer.build((None, embeddings.shape[1]))

    def total(embeddings, centers):
        similarities, _ = layer_losses(layer, [centers], embeddings)
        return mean_of(loss, labels, similarities)

    return value_and_gradients(
        total, [embeddings.astype(dtype), centers.astype(dtype)]
    )


def mean_of(loss, labels, output):
    """A loss of a batch, in the dtype of the output on every backend.

    (Keras's own mean over a batch is a float32 one on PyTorch.)
    """
    each = loss(ops.convert_to_tensor(labels), output)
    return ops.sum(each) / each.shape[0]


def peer_value_and_gradients(peer, weights, embeddings, labels):
    """The same of a loss of PyTorch Metric Learning, in float64.

    Args:
        peer: The loss.
        weights: Its parameter, or None, with the value that it shall have.
        embeddings: `(batch, dim)`.
        labels: `(batch,)`.
    """
    embeddings = torch.tensor(embeddings, requires_grad=True)
    inputs = [embeddings]
    if weights is not None:
        parameter, value = weights
        parameter.data = torch.tensor(value)
        inputs.append(parameter)
    value = peer(embeddings, torch.tensor(labels))
    gradients = torch.autograd.grad(value, inputs, allow_unused=True)
    return value.item(), [
        np.zeros(tuple(tensor.shape)) if gradient is None else gradient.numpy()
        for gradient, tensor in zip(gradients, inputs, strict=True)
    ]


def assert_same(ours, peers, dtype):
    """Compares values and gradients, to the digits of a dtype."""
    relative, absolute = TOLERANCE[dtype]
    (value, gradients), (peer_value, peer_gradients) = ours, peers
    np.testing.assert_allclose(value, peer_value, rtol=relative, atol=absolute)
    for gradient, peer_gradient in zip(gradients, peer_gradients, strict=True):
        # A gradient's digits count beside its largest entry.
        largest = max(np.abs(peer_gradient).max(), 1.0)
        np.testing.assert_allclose(
            gradient, peer_gradient, rtol=relative, atol=absolute * largest
        )


def numpy_cosines(embeddings, centers):
    """S `(batch, classes)` of the nearest centers."""
    embeddings = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    centers = centers / np.linalg.norm(centers, axis=-1, keepdims=True)
    return np.einsum("bd,ckd->bck", embeddings, centers).max(-1)


def eager(loss, labels, output):
    """The value of a loss of a batch, a float.

    (Keras's own mean over a batch is a float32 one on PyTorch.)
    """
    loss = type(loss).from_config({**loss.get_config(), "reduction": "none"})
    return float(np.mean(keras.ops.convert_to_numpy(loss(labels, output))))

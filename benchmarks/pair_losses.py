"""The losses on pairs of embeddings beside one product of the embeddings.

    python benchmarks/pair_losses.py

prints a table for each loss: one value and one gradient for the embeddings, in
each framework. The reference is the part that every loss on all pairs needs:
the product E·Eᵀ and the two products of its backward pass, in the framework
that is fastest at it. The last column compares with the same product in the
row's own framework. MB is the growth of the process.

    python benchmarks/pair_losses.py --peer

compares with PyTorch Metric Learning instead, on PyTorch and at a batch that
its lists of triplets allow.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import turns

LOSSES = {
    "hard triplets": ("TripletHardLoss", {}),
    "semi-hard triplets": ("TripletSemiHardLoss", {"margin": 0.2}),
    "all triplets": ("TripletAllLoss", {}),
    "contrastive": ("ContrastiveLoss", {}),
    "multi-similarity": ("MultiSimilarityLoss", {}),
    "multi-similarity, unmined": ("MultiSimilarityLoss", {"epsilon": None}),
    "N pairs": ("NPairsLoss", {}),
}


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--per-class", type=int, default=4)
    parser.add_argument(
        "--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES)
    )
    parser.add_argument(
        "--peer",
        action="store_true",
        help="compare with PyTorch Metric Learning",
    )
    options = parser.parse_args()
    batch_size = options.batch_size or (512 if options.peer else 4096)
    if options.tiny:
        batch_size, options.dim = 24, 8
        options.losses = options.losses[:2]
    sizes = {
        "batch_size": batch_size,
        "dim": options.dim,
        "per_class": options.per_class,
    }
    title = f"{batch_size:,} × {options.dim}, {options.per_class} of each class"
    if options.peer:
        beside_the_peer(title, sizes, options)
    else:
        forms = turns.forms(options.backends)
        for loss in options.losses:
            beside_the_product(title, loss, sizes, forms, options)


def beside_the_product(
    title: str,
    loss: str,
    sizes: dict[str, int],
    forms: list[turns.Form],
    options: argparse.Namespace,
) -> None:
    """A loss, and the bare product, in each framework."""
    cases = [
        form.case(f"bare product, {form.name}", bare_product, **sizes)
        for form in forms
    ] + [
        form.case(f"{loss}, {form.name}", pair_loss, loss=loss, **sizes)
        for form in forms
    ]
    timings = turns.in_turns(cases, options.rounds, options.tiny)
    products = timings[: len(forms)]
    fastest = min(range(len(forms)), key=lambda at: products[at].median)
    own = [
        turns.ratio(t, p) for t, p in zip(timings, products * 2, strict=True)
    ]
    turns.print_table(
        f"{loss}: {title}",
        cases,
        timings,
        fastest,
        ["to its own product", *(f"{ratio.median:.2f}" for ratio in own)],
    )


def beside_the_peer(
    title: str, sizes: dict[str, int], options: argparse.Namespace
) -> None:
    """The losses that PyTorch Metric Learning has, by the same definition."""
    cases = []
    for loss in PEERS:
        cases += [
            turns.Case(f"{loss}, peer", peer, {"loss": loss, **sizes}, "torch"),
            turns.Case(
                f"{loss}, ours",
                pair_loss,
                {"loss": loss, "jit_compile": False, **sizes},
                "torch",
            ),
        ]
    timings = turns.in_turns(cases, options.rounds, options.tiny)
    for at in range(0, len(cases), 2):
        turns.print_table(
            f"{title}, PyTorch",
            cases[at : at + 2],
            timings[at : at + 2],
            0,
            ["value", *(f"{t.note:.6f}" for t in timings[at : at + 2])],
        )


def batch(
    batch_size: int, dim: int, per_class: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of unit length around their class's center, and labels."""
    generator = np.random.default_rng(0)
    labels = np.arange(batch_size, dtype="int32") // per_class
    x = generator.normal(size=(labels[-1] + 1, dim))[labels]
    x += generator.normal(size=x.shape)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype("float32"), labels


def bare_product(
    batch_size: int, dim: int, per_class: int, jit_compile: bool
) -> Callable[[], Any]:
    """E·Eᵀ, and the gradient for E of its sum with given weights."""
    from keras import ops

    x, _ = batch(batch_size, dim, per_class)
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(batch_size, batch_size)).astype("float32")

    def products(x: Any, weights: Any) -> tuple[Any, Any]:
        return (
            ops.matmul(x, ops.transpose(x)),
            ops.matmul(weights, x) + ops.matmul(ops.transpose(weights), x),
        )

    return turns.compiled(products, (x, weights), jit_compile)


def pair_loss(
    loss: str, batch_size: int, dim: int, per_class: int, jit_compile: bool
) -> Callable[[], Any]:
    """One of ours, and its gradient for the embeddings."""
    import keras_finegrain

    name, arguments = LOSSES[loss]
    function = getattr(keras_finegrain.losses, name)(**arguments)
    return turns.compiled(
        value_and_gradient(lambda x, labels: function(labels, x)),
        batch(batch_size, dim, per_class),
        jit_compile,
    )


def value_and_gradient(
    function: Callable[[Any, Any], Any],
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Of a scalar function of embeddings and labels, for the embeddings."""
    backend = os.environ["KERAS_BACKEND"]
    if backend == "jax":
        import jax

        return jax.value_and_grad(function)

    def tensorflow(x: Any, labels: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x, labels)
        return value, tf.convert_to_tensor(tape.gradient(value, x))

    def torch(x: Any, labels: Any) -> tuple[Any, Any]:
        import torch

        x = x.detach().requires_grad_()
        value = function(x, labels)
        return value.detach(), torch.autograd.grad(value, x)[0]

    return {"tensorflow": tensorflow, "torch": torch}[backend]


def peer(
    loss: str, batch_size: int, dim: int, per_class: int
) -> Callable[[], Any]:
    """PyTorch Metric Learning's."""
    function = PEERS[loss]()
    return turns.compiled(
        value_and_gradient(lambda x, labels: function(x, labels)),
        batch(batch_size, dim, per_class),
        jit_compile=False,
    )


def _peer_multi_similarity() -> Callable[[Any, Any], Any]:
    from pytorch_metric_learning import losses, miners

    loss, miner = losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner(0.1)
    return lambda x, labels: loss(x, labels, miner(x, labels))


def _peer_all_triplets() -> Callable[[Any, Any], Any]:
    from pytorch_metric_learning import distances, losses

    distance = distances.LpDistance(normalize_embeddings=False)
    return losses.TripletMarginLoss(0.2, distance=distance)


PEERS = {
    "multi-similarity": _peer_multi_similarity,
    "all triplets": _peer_all_triplets,
}

if __name__ == "__main__":
    main()

"""SoftTriple: a training step against PyTorch's and against bare products.

    python benchmarks/soft_triple.py

trains class centers and a bias below them, so that the embeddings' gradient
counts: forward, backward and an update by plain SGD. For each size it prints
two tables. The first sets the step beside that of pytorch-metric-learning
(`SoftTripleLoss` with `SparseCentersRegularizer`), which starts from the same
centers; both losses after the first update are printed, as they have to be
equal. (The 1e-5 that the official code adds under the regularizer's root is in
neither.) The second sets it beside the three products of matrices without
which there is no step: the embeddings with the centers, and both gradients. The
reference is the fastest library's. Rows without the regularizer show what of
the rest is its part, and what the softmax over the centers, the cross-entropy,
the lengths and the update need.

The last table is the memory of 11,318 classes with ten centers each (Stanford
Online Products): by how much the process grows from the import of the package
to its highest, with the model, its compilation and its training. Below it
stands what XLA sets aside for a step on JAX, in arrays of all similarities of a
batch to all centers.
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import turns

TAU = 0.2
LEARNING_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Size:
    """How much there is to compute."""

    batch: int
    dim: int
    classes: int
    centers: int

    def __str__(self) -> str:
        return (
            f"{self.classes:,} classes × {self.centers} centers, "
            f"dim {self.dim}, batch {self.batch}"
        )


SIZES = (Size(32, 512, 1_000, 10), Size(32, 64, 5_000, 2))
MANY = Size(32, 64, 11_318, 10)
# A batch so large beside dim that its similarities are most of the memory.
WIDE = Size(512, 16, 1_000, 10)
TINY_SIZES = (Size(8, 16, 12, 3),)
TINY_MANY = Size(8, 16, 40, 3)
TINY_WIDE = Size(16, 4, 12, 3)


def data(size: Size) -> tuple[Any, Any, Any]:
    """Embeddings, labels and centers."""
    generator = np.random.default_rng(0)
    shape = (size.classes, size.centers, size.dim)
    return (
        generator.normal(size=(size.batch, size.dim)).astype("float32"),
        generator.integers(0, size.classes, size.batch).astype("int32"),
        generator.normal(size=shape).astype("float32"),
    )


def ours(
    jit_compile: bool, regularizer: bool = True, **size: int
) -> Callable[[], Any]:
    """A step of this package; its note is the loss after one update."""
    from training_step import training_step

    x, y, centers = data(Size(**size))
    model = trained(x, y, centers, jit_compile, regularizer)
    whole = {"batch_size": len(y), "verbose": 0}
    note = model.evaluate(x, y, return_dict=True, **whole)["loss"]
    step = training_step(model, x, y)
    step.note = note
    return step


def trained(
    x: Any, y: Any, centers: Any, jit_compile: bool, regularizer: bool = True
) -> Any:
    """The model after one update."""
    import keras
    from bias import Bias

    import keras_finegrain

    inputs = keras.Input(x.shape[1:])
    head = keras_finegrain.SoftTriple(*centers.shape[:2], tau=TAU)
    if not regularizer:
        head = keras_finegrain.CosineSimilarity(
            *centers.shape[:2], pooling="soft"
        )
    model = keras_finegrain.Model(inputs, head(Bias()(inputs)))
    head.centers.assign(centers)
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE),
        keras_finegrain.losses.SoftTripleLoss(),
        jit_compile=jit_compile,
    )
    model.fit(x, y, batch_size=len(y), verbose=0)
    return model


def temporaries(**size: int) -> Callable[[], Any]:
    """Its note: what a step holds, in arrays of all similarities."""
    from compiled_steps import compiled_train_step

    x, y, centers = data(Size(**size))
    step = compiled_train_step(trained(x, y, centers, True), x, y)
    taken = step.memory_analysis().temp_size_in_bytes
    similarities = 4 * len(x) * centers.shape[0] * centers.shape[1]

    def nothing() -> None:
        pass

    nothing.note = taken / similarities
    return nothing


def ours_from_the_import(jit_compile: bool, **size: int) -> Callable[[], Any]:
    """The same, where building it is part of the first step."""
    import keras_finegrain  # noqa: F401

    steps: list[Callable[[], Any]] = []

    def step() -> Any:
        if not steps:
            steps.append(ours(jit_compile, **size))
        return steps[0]()

    return step


def peer(regularizer: bool = True, **size: int) -> Callable[[], Any]:
    """A step of pytorch-metric-learning; its note as that of ours."""
    import torch
    from pytorch_metric_learning.losses import SoftTripleLoss
    from pytorch_metric_learning.regularizers import SparseCentersRegularizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    parts = map(torch.from_numpy, data(Size(**size)))
    x, y, centers = (part.to(device) for part in parts)
    y = y.long()
    classes, count, dim = centers.shape
    bias = torch.zeros(dim, requires_grad=True, device=device)
    sparse = SparseCentersRegularizer(classes, count) if regularizer else None
    loss = SoftTripleLoss(
        classes,
        dim,
        centers_per_class=count,
        weight_regularizer=sparse,
        weight_reg_weight=TAU,
    ).to(device)
    loss.fc.data = centers.reshape(-1, dim).T.contiguous()
    optimizer = torch.optim.SGD([bias, *loss.parameters()], lr=LEARNING_RATE)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(x + bias, y)
        value.backward()
        optimizer.step()
        return value.item()

    step()
    step.note = step()
    return step


def products(jit_compile: bool, **size: int) -> Callable[[], Any]:
    """The bare products."""
    from keras import ops

    def three(x: Any, centers: Any, upstream: Any) -> tuple[Any, Any, Any]:
        return (
            ops.matmul(centers, ops.transpose(x)),
            ops.matmul(ops.transpose(upstream), centers),
            ops.matmul(upstream, x),
        )

    return turns.compiled(three, factors(Size(**size)), jit_compile)


def factors(size: Size) -> tuple[Any, Any, Any]:
    """Embeddings, centers as a matrix, and a gradient of their product."""
    x, _, centers = data(size)
    centers = centers.reshape(-1, size.dim)
    return x, centers, (centers @ x.T) / size.dim


def compare(size: Size, given: argparse.Namespace) -> None:
    """Prints both tables of a size."""
    options = dataclasses.asdict(size)
    forms = turns.forms(given.backends)
    steps = [form.case(f"ours, {form.name}", ours, **options) for form in forms]
    other = turns.Case("pytorch-metric-learning", peer, options, "torch")
    bare = [
        form.case(f"products, {form.name}", products, **options)
        for form in turns.forms({"torch", *given.backends})
    ]
    options = {**options, "regularizer": False}
    others = [
        other,
        turns.Case(f"{other.name}, no regularizer", peer, options, "torch"),
    ]
    parts = [
        form.case(f"no regularizer, {form.name}", ours, **options)
        for form in forms
    ]
    cases = [*others, *steps, *parts, *bare]
    timings = turns.in_turns(cases, given.rounds, given.tiny)
    of_bare = timings[-len(bare) :]
    for theirs, rows in ((0, steps), (1, parts)):
        places = [theirs, *map(cases.index, rows)]
        notes = ["beside the peer"]
        for own in (timings[place] for place in places):
            faster = turns.ratio(timings[theirs], own).median
            loss = own.note or float("nan")
            notes += [f"{faster:,.0f} times as fast, loss {loss:.4f}"]
        turns.print_table(
            f"{size}: against the peer",
            [cases[place] for place in places],
            [timings[place] for place in places],
            notes=notes,
        )
    fastest = min(
        (of for of in of_bare if of.seconds), key=lambda of: of.median
    )
    turns.print_table(
        f"{size}: against three bare products",
        [*bare, *parts, *steps],
        [timings[cases.index(case)] for case in (*bare, *parts, *steps)],
        of_bare.index(fastest),
    )


def memory(size: Size, given: argparse.Namespace) -> None:
    """Prints the table of many classes."""
    options = dataclasses.asdict(size)
    cases = [
        form.case(f"ours, {form.name}", ours_from_the_import, **options)
        for form in turns.forms(given.backends)
    ]
    title = f"{size}: memory from the import on, building included"
    timings = turns.in_turns(cases, 1, given.tiny)
    turns.print_table(title, cases, timings)
    side = size.classes * size.centers
    print(
        "\nThe peer was not run: it takes the product of all centers with all, "
        f"{side:,} × {side:,}\nfloat32, {4 * side**2 / 1e9:,.1f} GB, more than "
        "once."
    )


def working_memory(size: Size) -> None:
    """Prints what a compiled step holds."""
    options = dataclasses.asdict(size)
    case = turns.Case("temporaries", temporaries, options, "jax")
    (timing,) = turns.in_turns([case], 1)
    print(
        f"\n{size}: a step on JAX sets aside {timing.note:.2f} arrays of all "
        "similarities."
    )


def main() -> None:
    given = turns.parser(__doc__).parse_args()
    for size in TINY_SIZES if given.tiny else SIZES:
        compare(size, given)
    memory(TINY_MANY if given.tiny else MANY, given)
    if "jax" in given.backends:
        working_memory(TINY_WIDE if given.tiny else WIDE)


if __name__ == "__main__":
    main()

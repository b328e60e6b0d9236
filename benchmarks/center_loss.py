"""Center loss: a step from a thousand to a million classes, inside `fit`.

    python benchmarks/center_loss.py

prints two tables. The first has center loss alone in a model that `fit`
trains: against 1,000 classes, how much longer does a step with more take, and
by how much does the process grow beyond the table of centers? The second sets
it beside the formulation that most implementations use: the distances of every
sample to every class as a matrix, masked by the labels, and centers that the
optimizer moves, all of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import turns

# Of an epoch. What `fit` does once an epoch is shared out among them.
STEPS = 50
# Of the distance matrix, which does nothing once an epoch.
FEW_STEPS = 3


def samples(count: int, dim: int, classes: int) -> tuple[Any, Any]:
    """Embeddings and labels, of which none come twice on purpose."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, dim)).astype("float32")
    return x, generator.integers(0, classes, count).astype("int32")


def center_loss(
    batch: int, dim: int, classes: int, jit_compile: bool
) -> Callable[[], Any]:
    """An epoch of `fit` on a model that holds center loss and a bias."""
    import keras
    from bias import Bias

    import keras_finegrain

    x, y = samples(batch * STEPS, dim, classes)
    inputs = keras.Input((dim,))
    outputs = keras_finegrain.CenterLoss(classes)(Bias()(inputs))
    model = keras_finegrain.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), jit_compile=jit_compile)

    def epoch() -> None:
        model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)

    epoch.steps = STEPS
    return epoch


def distance_matrix_tensorflow(
    batch: int, dim: int, classes: int, jit_compile: bool
) -> Callable[[], Any]:
    """Every sample's distance to every class, in a TensorFlow step."""
    import tensorflow as tf

    x, y = (
        tf.constant(part.reshape(FEW_STEPS, batch, *part.shape[1:]))
        for part in samples(batch * FEW_STEPS, dim, classes)
    )
    bias = tf.Variable(tf.zeros(dim))
    centers = tf.Variable(tf.zeros((classes, dim)))

    @tf.function(jit_compile=jit_compile)
    def train(x, y):
        with tf.GradientTape() as tape:
            embeddings = x + bias
            squared = (
                tf.reduce_sum(embeddings**2, axis=1, keepdims=True)
                + tf.reduce_sum(centers**2, axis=1)
                - 2.0 * tf.matmul(embeddings, centers, transpose_b=True)
            )
            own = tf.equal(y[:, None], tf.range(classes))
            distances = tf.where(own, tf.clip_by_value(squared, 0, 1e12), 0)
            loss = 0.001 * tf.reduce_sum(distances) / batch
        for variable, gradient in zip(
            (bias, centers), tape.gradient(loss, (bias, centers)), strict=True
        ):
            variable.assign_sub(0.01 * gradient)
        return loss

    def epoch() -> None:
        for step in range(FEW_STEPS):
            float(train(x[step], y[step]))

    epoch.steps = FEW_STEPS
    return epoch


def distance_matrix_torch(
    batch: int, dim: int, classes: int
) -> Callable[[], Any]:
    """The same in PyTorch, where this formulation was published first."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = (
        torch.from_numpy(part).to(device).split(batch)
        for part in samples(batch * FEW_STEPS, dim, classes)
    )
    bias = torch.zeros(dim, requires_grad=True, device=device)
    centers = torch.zeros(classes, dim, requires_grad=True, device=device)
    optimizer = torch.optim.SGD([bias, centers], lr=0.01)

    def epoch() -> None:
        for x_batch, y_batch in zip(x, y, strict=True):
            embeddings = x_batch + bias
            squared = (
                embeddings.pow(2).sum(dim=1, keepdim=True)
                + centers.pow(2).sum(dim=1)
                - 2.0 * embeddings @ centers.T
            )
            own = y_batch[:, None] == torch.arange(classes, device=device)
            distances = squared.clamp(0, 1e12) * own
            loss = 0.001 * distances.sum() / batch
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    epoch.steps = FEW_STEPS
    return epoch


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--dim", type=int, default=128)
    options.add_argument(
        "--classes",
        type=int,
        nargs="+",
        default=[1_000, 10_000, 100_000, 1_000_000],
    )
    options.add_argument("--against", type=int, default=100_000)
    given = options.parse_args()
    if given.tiny:
        given.batch, given.dim, given.classes = 8, 4, [10, 100]
        given.against = 100
    size = {"batch": given.batch, "dim": given.dim}
    print(f"Center loss, batch {given.batch}, dim {given.dim}")
    forms = turns.forms(given.backends)
    for form in forms:
        cases = [
            form.case(
                f"{classes:,} classes", center_loss, classes=classes, **size
            )
            for classes in given.classes
        ]
        turns.print_table(
            form.name, cases, turns.in_turns(cases, given.rounds, given.tiny)
        )
    size["classes"] = given.against
    cases = [form.case(form.name, center_loss, **size) for form in forms]
    cases += [
        form.case(
            f"distance matrix, {form.name}", distance_matrix_tensorflow, **size
        )
        for form in forms
        if form.backend == "tensorflow"
    ]
    cases += [
        turns.Case(
            "distance matrix, PyTorch", distance_matrix_torch, size, "torch"
        )
    ]
    timings = turns.in_turns(cases, given.rounds, given.tiny)
    turns.print_table(f"{given.against:,} classes", cases, timings)


if __name__ == "__main__":
    main()

"""MC-loss beside the traffic that its definition needs, and the official way.

    python benchmarks/mc_loss.py

prints, for two feature maps, what the layer's loss and its gradient for the map
take in a TensorFlow graph, in TensorFlow XLA and in JAX; channels are dropped,
their draw included. Three kinds of rows stand beside them:

- "reads and writes": what the definition needs at least of the map. The
  softmax over the positions needs a channel's sum before any of its values,
  so the map is read for the sums and the scores of L_dis (1), for the
  strongest channels of L_div (2), and for the gradient, which is written, as
  it depends on sums over both (3 and 4). Three reads and one write pass as
  many bytes as two copies of the map: the row multiplies it by a number
  twice. Intermediate results and arithmetic count for nothing here.
- "and two exponentials": the same two passes with an exponential instead of
  the product. One for the sums and one for the gradient are the least, unless
  the results are stored, which is traffic in turn.
- "official": the papers' code as we read it. The map is transposed to put
  the channels last, pooled with a kernel over the channels of a class (two
  pools where the groups are unequal), and transposed back; masks are shuffled
  on the host, class by class, and copied; gradients are the
  framework's. On PyTorch it gets the map channels first, as it is written for.

Each row of a loss notes its value for one fixed mask: they compute the same.
(The tests compare values and gradients with those of the official code.)
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import turns

CLASSES = 200
DIVERSITY_WEIGHT = 10.0
# Batch, height, width, and the channels of each class.
MAPS = {
    "16 × 14 × 14 × 2048": (16, 14, 14, (10,) * 152 + (11,) * 48),
    "32 × 14 × 14 × 600": (32, 14, 14, (3,) * 200),
}
TINY = {"tiny": (4, 3, 3, (2,) * 3 + (3,) * 2)}

Sizes = Sequence[int]


def feature_map(
    batch: int, height: int, width: int, sizes: Sizes
) -> tuple[np.ndarray, np.ndarray]:
    """A map behind a ReLU, and labels."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(batch, height, width, sum(sizes)))
    labels = generator.integers(0, len(sizes), batch)
    return np.maximum(values, 0).astype("float32"), labels.astype("int32")


def host_mask(sizes: Sizes, generator: np.random.Generator) -> np.ndarray:
    """The official code's draw: a shuffled list for each class."""
    mask = []
    for size in sizes:
        own = [1.0] * (size - size // 2) + [0.0] * (size // 2)
        generator.shuffle(own)
        mask += own
    return np.asarray(mask, "float32")


def pools(sizes: Sizes) -> list[tuple[int, int, int]]:
    """Size, first and last channel of each run of equal groups."""
    found, start = [], 0
    for size in sorted(set(sizes)):
        stop = start + size * sizes.count(size)
        found.append((size, start, stop))
        start = stop
    return found


def ours(
    batch: int, height: int, width: int, sizes: Sizes, jit_compile: bool
) -> Callable[[], Any]:
    """The layer's loss and its gradient for the map."""
    import keras_finegrain

    layer = keras_finegrain.MCLoss(
        len(sizes), 1.0, DIVERSITY_WEIGHT, channels_per_class=list(sizes)
    )
    values, labels = feature_map(batch, height, width, sizes)
    layer.build(values.shape)

    def total(values: Any) -> Any:
        with keras_finegrain.label_scope(labels):
            layer(values, training=True)
        return sum(layer.losses)

    step = _differentiated(total, values, jit_compile, layer)
    step.note = _with_fixed_mask(layer, values, labels)
    return step


def official_tensorflow(
    batch: int, height: int, width: int, sizes: Sizes, jit_compile: bool
) -> Callable[[], Any]:
    """The official formulation, its NHWC map transposed as it does."""
    import tensorflow as tf

    values, labels = feature_map(batch, height, width, sizes)
    values, labels = tf.constant(values), tf.constant(labels)
    positions = height * width

    def pooled(channels_first: Any) -> Any:
        parts = []
        for size, start, stop in pools(sizes):
            part = channels_first[:, start:stop]
            last = tf.transpose(part, (0, 2, 1))[..., None]
            window = (1, 1, size, 1)
            last = tf.nn.max_pool2d(last, window, window, "VALID")[..., 0]
            parts.append(tf.transpose(last, (0, 2, 1)))
        return tf.concat(parts, 1)

    def loss(values: Any, mask: Any) -> Any:
        first = tf.transpose(
            tf.reshape(values, (batch, positions, sum(sizes))), (0, 2, 1)
        )
        scores = tf.reduce_mean(pooled(first * mask[None, :, None]), -1)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        spread = tf.reduce_sum(pooled(tf.nn.softmax(first, -1)), -1)
        return tf.reduce_mean(entropy) - DIVERSITY_WEIGHT * tf.reduce_mean(
            spread
        )

    @tf.function(jit_compile=jit_compile)
    def differentiated(mask: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            value = loss(values, mask)
        return value, tape.gradient(value, values)

    generator = np.random.default_rng(0)

    def step() -> float:
        mask = tf.constant(host_mask(sizes, generator))
        return float(differentiated(mask)[0])

    fixed = tf.constant(host_mask(sizes, np.random.default_rng(1)))
    step.note = float(loss(values, fixed))
    return step


def official_torch(
    batch: int, height: int, width: int, sizes: Sizes
) -> Callable[[], Any]:
    """The official formulation in its own framework and layout."""
    import torch
    from torch.nn import functional

    values, labels = feature_map(batch, height, width, sizes)
    values = np.moveaxis(values, -1, 1).copy()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    values = torch.from_numpy(values).to(device).requires_grad_()
    labels = torch.from_numpy(labels).to(device).long()

    def pooled(values: Any) -> Any:
        parts = []
        for size, start, stop in pools(sizes):
            last = values[:, start:stop].transpose(3, 1)
            last = functional.max_pool2d(last, (1, size), (1, size))
            parts.append(last.transpose(3, 1))
        return torch.cat(parts, 1)

    def loss(mask: np.ndarray) -> Any:
        kept = torch.from_numpy(mask).to(device)
        seen = values * kept[None, :, None, None]
        scores = pooled(seen).mean((2, 3))
        shares = functional.softmax(values.flatten(2), 2).view_as(values)
        spread = pooled(shares).flatten(2).sum(2)
        entropy = functional.cross_entropy(scores, labels)
        return entropy - DIVERSITY_WEIGHT * spread.mean()

    generator = np.random.default_rng(0)

    def step() -> float:
        value = loss(host_mask(sizes, generator))
        torch.autograd.grad(value, values)
        return value.item()

    fixed = host_mask(sizes, np.random.default_rng(1))
    step.note = loss(fixed).item()
    return step


def two_passes(
    batch: int,
    height: int,
    width: int,
    sizes: Sizes,
    jit_compile: bool,
    exponential: bool,
) -> Callable[[], Any]:
    """The map read and written, twice."""
    from keras import ops

    def once(values: Any) -> tuple[Any]:
        return (ops.exp(values) if exponential else values * 0.5,)

    values, _ = feature_map(batch, height, width, sizes)
    one = turns.compiled(once, (values,), jit_compile)

    def step() -> None:
        one()
        one()

    return step


def _differentiated(
    total: Callable[[Any], Any], values: Any, jit_compile: bool, layer: Any
) -> Callable[[], float]:
    """A step that takes the loss and its gradient for the map."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        held = layer.variables

        def loss(values: Any, state: Any) -> Any:
            mapping = zip(held, state, strict=True)
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                total(values)
                state = [scope.get_current_value(variable) for variable in held]
                return sum(scope.losses), state

        state = [variable.value for variable in held]
        compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
        values = jax.device_put(values)

        def step() -> float:
            nonlocal state
            (value, state), gradient = compiled(values, state)
            jax.block_until_ready(gradient)
            return float(value)

        return step

    import tensorflow as tf

    values = tf.constant(values)

    @tf.function(jit_compile=jit_compile)
    def compiled() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            value = total(values)
        return value, tape.gradient(value, values)

    return lambda: float(compiled()[0])


def _with_fixed_mask(layer: Any, values: Any, labels: Any) -> float:
    """The loss of a fixed mask, to compare with the official one."""
    from keras import ops

    from keras_finegrain.layers.mc_loss import discriminality, diversity

    sizes = layer.group_sizes
    flat = ops.reshape(values, (len(values), -1, sum(sizes)))
    mask = host_mask(sizes, np.random.default_rng(1))
    entropy = discriminality(
        flat, ops.convert_to_tensor(labels), sizes, ops.convert_to_tensor(mask)
    )
    spread = diversity(flat, sizes)
    return float(ops.mean(entropy) - DIVERSITY_WEIGHT * ops.mean(spread))


def cases(backends: Sequence[str], options: dict[str, Any]) -> list[turns.Case]:
    """The rows of a table; each form's limits stand right above it."""
    rows = []
    for form in turns.forms(backends):
        name = form.name
        if form.backend == "torch":
            continue
        passes = f"{name}: reads and writes"
        rows += [
            form.case(passes, two_passes, exponential=False, **options),
            form.case(
                f"{name}: and two exponentials",
                two_passes,
                exponential=True,
                **options,
            ),
            form.case(f"{name}: MCLoss", ours, **options),
        ]
        if form.backend == "tensorflow":
            rows.append(
                form.case(f"{name}: official", official_tensorflow, **options)
            )
    if importlib.util.find_spec("torch"):
        rows.append(
            turns.Case("PyTorch: official", official_torch, options, "torch")
        )
    return rows


def main() -> None:
    """Prints the tables."""
    arguments = turns.parser(__doc__).parse_args()
    maps = TINY if arguments.tiny else MAPS
    for title, (batch, height, width, sizes) in maps.items():
        options = {
            "batch": batch,
            "height": height,
            "width": width,
            "sizes": sizes,
        }
        rows = cases(arguments.backends, options)
        timings = turns.in_turns(rows, arguments.rounds, arguments.tiny)
        limits = {
            framework(row): timing
            for row, timing in zip(rows, timings, strict=True)
            if row.build is two_passes and not row.options["exponential"]
        }
        fastest = min(
            limits.values(), key=lambda limit: limit.median, default=timings[0]
        )
        notes = ["to its own limit, loss of a fixed mask"]
        for row, timing in zip(rows, timings, strict=True):
            own = limits.get(framework(row))
            parts = []
            if own is not None:
                parts.append(f"{turns.ratio(timing, own).median:.2f}")
            if timing.note is not None:
                parts.append(f"{timing.note:.4f}")
            notes.append(", ".join(parts))
        turns.print_table(title, rows, timings, timings.index(fastest), notes)


def framework(row: turns.Case) -> str:
    """The form that a row stands for."""
    return row.name.partition(":")[0]


if __name__ == "__main__":
    main()

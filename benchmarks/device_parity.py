"""Layers, losses and regularizers on this device, beside float64 on the CPU.

    KERAS_BACKEND=jax python benchmarks/device_parity.py

computes for everything public in `layers`, `losses` and `regularizers` its
value, its gradient for the inputs and for the trained weights, and what it
assigns to the others (the centers of center loss): on the device that the
backend takes, and in float64 on the CPU, from the same inputs. Products of
float32 keep all of their digits. Printed is the largest difference, relative to
1 + |value|; a mean over a batch is taken times its length. A difference above
its bound ends the command with exit code 1.

The second column has inputs in bfloat16. The arithmetic is float32's there
too, so that what differs from float64 is the rounding of the results that come
in bfloat16 again: the gradients for the inputs. Its 8 digits round by at most
2⁻⁸ of a number, and where two gradients meet the sum is rounded once more.

A second table compares `fit` under `keras.distribution.DataParallel` on all
devices with `fit` without it, on JAX, where Keras has it.

On JAX or PyTorch.
"""

import argparse
import inspect
import math
import operator
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import replica_parity
from keras import ops
from printed_tables import begin_table, print_row

import keras_finegrain
from keras_finegrain.training.versions import device_name

BATCH, CLASSES, DIM = 32, 8, 24
BOUNDS = {"float32": 1e-5, "bfloat16": 2.0**-7}
# Of what takes no embeddings `(batch, DIM)`.
FEATURE_MAP = (BATCH, 5, 5, 20)
INPUT_SHAPES = {
    "ClassChannelPooling": FEATURE_MAP,
    "GeneralizedMeanPooling2D": FEATURE_MAP,
    "MCLoss": FEATURE_MAP,
}
# Of layers that are not told the number of classes.
FIRST_ARGUMENTS = {
    "CrossBatchMemory": keras_finegrain.losses.SupConLoss(),
}
LAYER_ARGUMENTS = {
    "CenterLoss": {"loss_weight": 1.0},
    # From one seed PyTorch draws other numbers on a GPU than on a CPU.
    "MCLoss": {"loss_weight": 1.0, "drop": False, "seed": 0},
}
# Its 80 would multiply the rounding of the cosines.
LOSS_ARGUMENTS: dict[str, dict[str, Any]] = {
    "CircleLoss": {"scale": 8.0},
    "COCOLoss": {"num_classes": DIM},
    "LogitAdjustedLoss": {"class_counts": range(1, DIM + 1)},
}
# A base for margins of one's own, which computes nothing, and a layer that
# computes nothing but a draw, which differs between devices.
LEFT_OUT = (
    keras_finegrain.losses.MarginSoftmaxLoss,
    keras_finegrain.layers.Jigsaw,
)
# Of weights and inputs: what is differentiated, and what is compared besides.
Function = Callable[[list[Any], Any], tuple[Any, list[Any]]]
# Function, inputs, and the variables that are the weights.
Case = tuple[Function, np.ndarray, list[Any]]


def subjects() -> Iterator[tuple[str, type, Callable[[type, str], Case]]]:
    """Name, class and case of all public layers, losses and regularizers."""
    for room, base, case in (
        (keras_finegrain.layers, keras.layers.Layer, layer_case),
        (keras_finegrain.losses, keras.losses.Loss, loss_case),
        (
            keras_finegrain.regularizers,
            keras.regularizers.Regularizer,
            regularizer_case,
        ),
    ):
        for name, kind in vars(room).items():
            is_one = inspect.isclass(kind) and issubclass(kind, base)
            if is_one and kind not in LEFT_OUT:
                yield name, kind, case


def layer_case(kind: type, dtype: str) -> Case:
    """A layer in training: its losses, and its output's part in another."""
    generator = np.random.default_rng(1)
    name = kind.__name__
    shape = INPUT_SHAPES.get(name, (BATCH, DIM))
    policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
    first = FIRST_ARGUMENTS.get(name, CLASSES)
    layer = kind(first, dtype=policy, **LAYER_ARGUMENTS.get(name, {}))
    layer.build(shape)
    # The same in every dtype.
    start = [
        generator.normal(size=each.shape).astype("float32")
        if each.shape
        else ops.convert_to_numpy(each)
        for each in layer.weights
    ]
    layer.set_weights(start)
    # Numbers that bfloat16 holds.
    upstream = generator.integers(-8, 9, layer.compute_output_shape(shape)) / 8

    takes_training = "training" in inspect.signature(layer.call).parameters
    in_training = {"training": True} if takes_training else {}

    def function(weights: list[Any], inputs: Any) -> tuple[Any, list[Any]]:
        with keras_finegrain.label_scope(labels()):
            if keras.backend.backend() == "jax":
                outputs, assigned, losses = layer.stateless_call(
                    weights,
                    [each.value for each in layer.non_trainable_variables],
                    inputs,
                    return_losses=True,
                    **in_training,
                )
            else:
                # As in `fit` there: the weights are the layer's own, and it
                # moves its centers where they stand.
                layer.set_weights(start)
                outputs, losses = layer(inputs, **in_training), layer.losses
                assigned = [
                    each.value for each in layer.non_trainable_variables
                ]
        loss = BATCH * sum(losses, ops.zeros(()))
        exact = "float64" if dtype == "float64" else "float32"
        outputs = ops.cast(outputs, exact)
        pulled = ops.sum(outputs * ops.cast(upstream, outputs.dtype))
        return loss + pulled, [loss, outputs, *assigned]

    return function, generator.normal(size=shape), layer.trainable_variables


def loss_case(kind: type, dtype: str) -> Case:
    """A loss of cosines to classes, or of embeddings: of unit vectors."""
    loss = kind(
        dtype="float64" if dtype == "float64" else "float32",
        **LOSS_ARGUMENTS.get(kind.__name__, {}),
    )

    def function(_: list[Any], predictions: Any) -> tuple[Any, list[Any]]:
        value = BATCH * loss(labels(), predictions)
        return value, [value]

    return function, unit_vectors(BATCH, DIM), []


def regularizer_case(kind: type, dtype: str) -> Case:
    """A regularizer of a table of centers, which are float32 in every model."""
    regularizer = kind()

    def function(_: list[Any], centers: Any) -> tuple[Any, list[Any]]:
        exact = "float64" if dtype == "float64" else "float32"
        value = BATCH * regularizer(ops.cast(centers, exact))
        return value, [value]

    return function, unit_vectors(CLASSES, 3, DIM), []


def labels() -> np.ndarray:
    """One for each sample, of every class several."""
    return np.arange(BATCH, dtype="int32") % CLASSES


def unit_vectors(*shape: int) -> np.ndarray:
    """Random vectors of unit length along the last axis."""
    values = np.random.default_rng(0).normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def results(
    case: Callable[[type, str], Case],
    kind: type,
    dtype: str,
    device: str,
    roundings: Sequence[str],
) -> list[list[np.ndarray]]:
    """What a subject computes, and its gradients.

    Args:
        case: Makes the case of the class.
        kind: The class.
        dtype: What the inputs come in: "float32" or "bfloat16", where the
            arithmetic is float32's, or "float64".
        device: "cpu" or "gpu".
        roundings: Dtypes that the inputs are rounded to before.

    Returns:
        NumPy arrays in float64, for each of the roundings.
    """
    with keras.device(device):
        function, inputs, variables = case(kind, dtype)
        step = with_gradients(function, variables)
        exact = "float64" if dtype == "float64" else "float32"
        return [
            [
                ops.convert_to_numpy(ops.cast(each, exact)).astype("float64")
                for each in step(ops.cast(ops.cast(inputs, rounding), dtype))
            ]
            for rounding in roundings
        ]


def with_gradients(
    function: Function, variables: list[Any]
) -> Callable[[Any], list[Any]]:
    """Computes of inputs what a function does, and its gradients."""
    weights = [variable.value for variable in variables]
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(
            jax.value_and_grad(function, argnums=(0, 1), has_aux=True)
        )

        def step(inputs: Any) -> list[Any]:
            (_, others), (for_weights, for_inputs) = compiled(weights, inputs)
            return [*others, *for_weights, for_inputs]

        return step
    import torch

    def step(inputs: Any) -> list[Any]:
        inputs = inputs.detach().requires_grad_()
        value, others = function(weights, inputs)
        # The centers of center loss are written in place.
        others = [each.detach().clone() for each in others]
        return [*others, *torch.autograd.grad(value, [*weights, inputs])]

    return step


def float64_results(
    case: Callable[[type, str], Case], kind: type
) -> list[list[np.ndarray]]:
    """What is right: float64 on the CPU, for the inputs of each column."""
    options = (case, kind, "float64", "cpu", list(BOUNDS))
    if keras.backend.backend() == "jax":
        import jax

        with jax.enable_x64(True):
            return results(*options)
    return results(*options)


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest one, relative to 1 + |value|; NaN where one is NaN."""
    return float(
        np.max(
            [
                np.max(np.abs(own - other) / (1 + np.abs(other)))
                for own, other in zip(found, expected, strict=True)
            ]
        )
    )


def differences(
    case: Callable[[type, str], Case], kind: type, device: str
) -> list[float]:
    """A row of the first table."""
    return [
        difference(results(case, kind, dtype, device, [dtype])[0], expected)
        for dtype, expected in zip(
            BOUNDS, float64_results(case, kind), strict=True
        )
    ]


def compute_in_float32() -> None:
    """GPUs round the factors of a product to TF32 unless told otherwise."""
    if keras.backend.backend() == "jax":
        replica_parity.compute_in_float32("jax")
        return
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def compare_with_float64(device: str, until: float) -> bool:
    """Prints the first table; whether all of it is within the bounds."""
    begin_table(
        f"float32 on {device} beside float64 on the CPU, largest difference",
        *("", *(f"{dtype} inputs" for dtype in BOUNDS), "within the bounds"),
    )
    all_within = True
    for name, kind, case in subjects():
        if time.monotonic() > until:
            print("\nTime was up: the rest of this table was not computed.")
            break
        try:
            largest = differences(
                case, kind, "cpu" if device == "CPU" else "gpu"
            )
        except Exception as error:  # of any kind: the others are compared still
            print_row(name, replica_parity.summary(error), "", "NO")
            all_within = False
            continue
        within = all(map(operator.le, largest, BOUNDS.values()))
        cells = [f"{each:.1e}" for each in largest]
        print_row(name, *cells, "yes" if within else "NO")
        all_within &= within
    print(
        "\nBounds, relative to 1 + |value|: "
        + ", ".join(
            f"{bound:.1e} with {d} inputs" for d, bound in BOUNDS.items()
        )
        + "."
    )
    return all_within


def compare_data_parallel(device: str, layers: list[str], until: float) -> bool:
    """Prints the second table; whether all of it is within float32's bound."""
    if keras.backend.backend() != "jax":
        print("\nkeras.distribution.DataParallel: not on PyTorch.")
        return True
    begin_table(
        f"`fit` under DataParallel on {device} beside `fit` without, "
        f"{replica_parity.STEPS} steps, largest difference",
        *("", "difference", "within the bound"),
    )
    all_within = True
    for layer in layers:
        if time.monotonic() > until:
            print("\nTime was up: the rest of this table was not computed.")
            break
        largest = replica_parity.difference(
            trained(layer, keras.distribution.DataParallel()),
            trained(layer, None),
        )
        within = largest <= BOUNDS["float32"]
        print_row(layer, f"{largest:.1e}", "yes" if within else "NO")
        all_within &= within
    return all_within


def trained(layer: str, distribution: Any) -> dict[str, list[float]]:
    """Losses and weights after ten steps of `fit`, by name."""
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(1)
    model, loss = replica_parity.build(
        layer, normalize=True, synchronized=False
    )
    replica_parity.compile_model(model, loss, "jit_compile")
    values = replica_parity.train(model, ragged=False, worker=0, workers=1)
    keras.distribution.set_distribution(None)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="fewer models")
    parser.add_argument("--seconds", type=float, default=math.inf)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    layers = [*replica_parity.LAYERS]
    if options.tiny:
        layers = ["CenterLoss", "SoftTriple"]
    compute_in_float32()
    device = device_name()
    # Both tables, whatever the first one shows.
    within = compare_with_float64(device, until)
    within &= compare_data_parallel(device, layers, until)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()

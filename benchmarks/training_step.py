"""One training step of a compiled Keras model, as `fit` runs it."""

import math
from collections.abc import Callable
from typing import Any

import keras
from turns import resident


def training_step(model: keras.Model, x: Any, y: Any) -> Callable[[], Any]:
    """A function that trains a model on one batch and waits for the end.

    The batch lies on the device already: no time goes into data.

    Args:
        model: A compiled model.
        x: NumPy arrays, the inputs of a batch.
        y: NumPy array, its labels.

    Returns:
        A function without arguments, which returns the loss of the batch. Its
        attribute `resident` is the memory of the process before all steps;
        `device_megabytes` is what the model, the batch and a step on them take
        of the device's, NaN where the backend does not say.
    """
    steps = {
        "tensorflow": _tensorflow_step,
        "jax": _jax_step,
        "torch": _torch_step,
    }
    before = resident()
    step = steps[keras.backend.backend()](model, x, y)
    step.resident = before
    return step


def _tensorflow_step(model: keras.Model, x: Any, y: Any) -> Callable[[], Any]:
    import tensorflow as tf

    _fit_once(model, x, y)
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.make_train_function()

    def step() -> float:
        return float(model.train_function(batches)["loss"])

    step.device_megabytes = math.nan
    return step


def _jax_step(model: keras.Model, x: Any, y: Any) -> Callable[[], Any]:
    import jax
    from compiled_steps import train_state

    # (`fit` would compile it too, for itself.)
    model.optimizer.build(model.trainable_variables)
    batch = jax.device_put((x, y, None))
    state = train_state(model)
    traced = jax.jit(model.train_step, donate_argnums=0)
    function = traced.lower(state, batch).compile()
    memory = function.memory_analysis()

    def step() -> float:
        nonlocal state
        logs, state = function(state, batch)
        jax.block_until_ready(state)
        return float(logs["loss"])

    step.device_megabytes = 1e-6 * (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        # The new weights take the places of the old ones.
        - memory.alias_size_in_bytes
    )
    return step


def _torch_step(model: keras.Model, x: Any, y: Any) -> Callable[[], Any]:
    import torch

    _fit_once(model, x, y)
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    model.train()

    def step() -> float:
        return float(model.train_step(batch)["loss"])

    step.device_megabytes = math.nan
    if torch.cuda.is_available():
        step()
        model.zero_grad()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        working = torch.cuda.max_memory_allocated() - held
        variables = [*model.variables, *model.optimizer.variables]
        tensors = [*batch, *(variable.value for variable in variables)]
        own = sum(tensor.nbytes for tensor in tensors)
        step.device_megabytes = 1e-6 * (working + own)
    return step


def _fit_once(model: keras.Model, x: Any, y: Any) -> None:
    """Builds what the first step builds."""
    model.fit(x, y, batch_size=len(y), epochs=1, verbose=0, shuffle=False)

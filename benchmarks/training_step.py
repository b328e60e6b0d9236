"""One training step of a compiled Keras model, as `fit` runs it."""

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
        attribute `resident` is the memory of the process before all steps.
    """
    steps = {
        "tensorflow": _tensorflow_step,
        "jax": _jax_step,
        "torch": _torch_step,
    }
    before = resident()
    # Builds what the first step builds.
    model.fit(x, y, batch_size=len(y), epochs=1, verbose=0, shuffle=False)
    step = steps[keras.backend.backend()](model, x, y)
    step.resident = before
    return step


def _tensorflow_step(model: keras.Model, x: Any, y: Any) -> Callable[[], Any]:
    import tensorflow as tf

    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.make_train_function()

    def step() -> float:
        return float(model.train_function(batches)["loss"])

    return step


def _jax_step(model: keras.Model, x: Any, y: Any) -> Callable[[], Any]:
    import jax
    from compiled_steps import train_state

    function = jax.jit(model.train_step, donate_argnums=0)
    batch = jax.device_put((x, y, None))
    state = train_state(model)

    def step() -> float:
        nonlocal state
        logs, state = function(state, batch)
        jax.block_until_ready(state)
        return float(logs["loss"])

    return step


def _torch_step(model: keras.Model, x: Any, y: Any) -> Callable[[], Any]:
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    model.train()

    def step() -> float:
        return float(model.train_step(batch)["loss"])

    return step

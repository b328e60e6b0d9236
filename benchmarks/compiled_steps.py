"""What XLA made of a model's training step on JAX."""

import re

import jax

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "reduce-scatter",
)


def train_state(model):
    """What a training step of a built model on JAX starts from."""
    return tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )


def compiled_train_step(model, x, y):
    """Compiles one training step of a built model, as `fit` does."""
    step = jax.jit(model.train_step, donate_argnums=0)
    return step.lower(train_state(model), (x, y, None)).compile()


def moved_shapes(step):
    """The shapes of all that a compiled step moves between the devices.

    Returns:
        Collective operation and shape, a pair for each tensor moved.
    """
    moved = []
    for line in step.as_text().splitlines():
        match = re.search(
            rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(", line
        )
        if match:
            moved += [
                (match[2], [int(size) for size in shape.split(",") if size])
                for shape in re.findall(r"\w+\[([\d,]*)\]", match[1])
            ]
    return moved

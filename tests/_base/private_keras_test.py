"""The private names of Keras are there, and mean what they did.

docs/keras_versions.md has the same table, with what each is needed for.
"""

import inspect
import pathlib

import keras
import pytest

BACKEND = keras.backend.backend()
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "keras_versions.md"


def objects():
    """What the names belong to."""
    inputs = keras.Input((3,))
    layer = keras.layers.Dense(2)
    outputs = layer(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    return {
        "tensor": outputs,
        "node": layer._inbound_nodes[0],
        "layer": layer,
        "model": model,
        "optimizer": model.optimizer,
    }


# Read by the package: the object, the name, the backends that have it.
READ = [
    ("tensor", "_keras_history", "all"),
    ("layer", "_inbound_nodes", "all"),
    ("node", "input_tensors", "all"),
    ("node", "outputs", "all"),
    ("model", "_flatten_layers", "all"),
    ("layer", "_losses", "all"),
    ("layer", "_loss_ids", "all"),
    ("model", "_distribute_strategy", "tensorflow"),
    ("optimizer", "_trainable_variables", "all"),
    ("optimizer", "_get_variable_index", "all"),
    ("optimizer", "_use_weight_decay", "all"),
    ("optimizer", "_learning_rate", "all"),
]

# Overridden by the package, with the arguments that it passes on.
OVERRIDDEN = [
    ("layer", "_clear_losses", "all", []),
    (
        "model",
        "_maybe_symbolic_build",
        "tensorflow",
        ["iterator", "data_batch"],
    ),
    ("model", "make_train_function", "all", ["force"]),
    (
        "optimizer",
        "update_step",
        "all",
        ["gradient", "variable", "learning_rate"],
    ),
    (
        "optimizer",
        "_parallel_update_step",
        "torch",
        ["grads", "variables", "learning_rate"],
    ),
    ("optimizer", "_apply_weight_decay", "all", ["variables"]),
]

# Imported by the package.
IMPORTED = [
    "get_keras_mask",
    "get_stateless_scope",
    "in_stateless_scope",
    "in_symbolic_scope",
]


@pytest.mark.parametrize(("owner", "name", "backends"), READ)
def test_a_name_that_is_read_is_there(owner, name, backends):
    if backends in ("all", BACKEND):
        assert hasattr(objects()[owner], name)


@pytest.mark.parametrize(("owner", "name", "backends", "expected"), OVERRIDDEN)
def test_a_method_that_is_overridden_has_its_arguments(
    owner, name, backends, expected
):
    if backends in ("all", BACKEND):
        method = getattr(objects()[owner], name)
        assert list(inspect.signature(method).parameters) == expected


def test_fit_tells_evaluate_that_it_calls_it():
    arguments = []

    class Evaluated(keras.Sequential):
        def evaluate(self, *args, **kwargs):
            arguments.append(kwargs)
            return super().evaluate(*args, **kwargs)

    model = Evaluated([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = keras.ops.ones((2, 1))
    model.fit(x, x, validation_data=(x, x), verbose=0)
    assert arguments[0]["_use_cached_eval_dataset"] is True


def test_the_page_lists_every_name():
    page = PAGE.read_text()
    names = [row[1] for row in [*READ, *OVERRIDDEN]] + IMPORTED
    missing = [name for name in names if f"`{name}`" not in page]
    assert not missing

"""The examples of every public docstring run as they stand."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_finegrain

MODULES = [
    module.name
    for module in pkgutil.walk_packages(
        keras_finegrain.__path__, "keras_finegrain."
    )
]


@pytest.mark.nightly_on_jax
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    names = {
        "keras": keras,
        "keras_finegrain": keras_finegrain,
        "np": np,
        "ops": keras.ops,
    }
    module = importlib.import_module(name)
    results = doctest.testmod(
        module,
        extraglobs=names,
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert results.failed == 0


@pytest.mark.parametrize("name", keras_finegrain.__all__)
def test_every_public_name_is_documented(name):
    item = getattr(keras_finegrain, name)
    if callable(item):
        assert ">>> " in item.__doc__

"""The weight whose gradient fails is named, and no other."""

import first_nan
import keras
import numpy as np
import pytest


def test_the_first_weight_that_is_not_finite_is_named(capsys):
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="last")(hidden))
    model.compile("sgd", "mse", jit_compile=False)
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")

    assert first_nan.not_finite(model) == []
    model.fit(x, y, verbose=0, callbacks=[first_nan.Watch()])
    kernel = model.get_layer("hidden").kernel
    values = keras.ops.convert_to_numpy(kernel).copy()
    values[0, :2] = np.nan, np.inf
    kernel.assign(values)

    assert first_nan.not_finite(model) == [("hidden/kernel", 2, 6)]
    # A step later all is NaN: it says so, and ends.
    with pytest.raises(first_nan.FoundError):
        model.fit(x, y, verbose=0, callbacks=[first_nan.Watch()])
    assert "4 of 4 are not finite" in capsys.readouterr().out

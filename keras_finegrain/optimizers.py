"""Learning rates by layer."""

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_finegrain._base.checks import number
from keras_finegrain._base.private_keras import (
    MultipliedRates,
    base_of_multiplied_rates,
    num_optimized_variables,
)

__all__ = [
    "LayerwiseLearningRate",
]


def __dir__() -> list[str]:
    return __all__


@keras.saving.register_keras_serializable(package="keras_finegrain")
class LayerwiseLearningRate(MultipliedRates):
    """Multiplies an optimizer's learning rate, weight by weight.

    A weight w with multiplier m is updated, and decayed, at the rate
    m · learning_rate. The papers train the head and the centers at 10 to 100
    times the rate of the pre-trained backbone.

    The optimizer that you pass is changed in place and returned: it stays an
    instance of its class, with all of its options and methods. `learning_rate`
    is the rate before the multiplication, which schedules and callbacks such
    as `ReduceLROnPlateau` set.

    Args:
        optimizer: A new `keras.optimizers.Optimizer`, or its name. Of a
            `keras.optimizers.LossScaleOptimizer`, the inner optimizer is
            changed.
        multipliers: Maps regular expressions to multipliers, each at least 0.
            The first expression that is found in a weight's `path` (such as
            "sequential/dense/kernel") decides. All other weights have the
            multiplier 1. A weight with multiplier 0 is neither updated nor
            decayed, and its slots (such as the momentum) keep their initial
            values; its gradient still counts in `global_clipnorm`.
        may_be_frozen: Keys of `multipliers` that may be found in no trainable
            weight's path, as for a part that is frozen now and trained by
            another model, or after another `compile()` with an optimizer of
            the same multipliers.

    Raises:
        ValueError: If `optimizer` is not an optimizer, has trained a model, has
            multipliers already or is a `keras.optimizers.MultiOptimizer`; if
            `may_be_frozen` is not a sequence of keys; if `multipliers` is not a
            mapping, a multiplier is negative or not finite, or a key is not a
            regular expression; when the model is built, if a key that is not
            in `may_be_frozen` is found in no trainable weight's path.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="backbone"),
    ...     keras.layers.Dense(2, name="head"),
    ... ])
    >>> optimizer = keras_finegrain.optimizers.LayerwiseLearningRate(
    ...     keras.optimizers.Adam(1e-4), {"head/": 10}
    ... )
    >>> optimizer
    LayerwiseLearningRate(optimizer=<Adam>, multipliers={'head/': 10.0})
    >>> model.compile(optimizer, "mse")
    >>> history = model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    """

    def __new__(
        cls,
        optimizer: keras.optimizers.Optimizer | str,
        multipliers: Mapping[str, float],
        may_be_frozen: Sequence[str] = (),
    ) -> Any:
        """Returns `optimizer`, as an instance of this class too."""
        _check_multipliers(multipliers)
        _check_frozen(may_be_frozen, multipliers)
        optimizer = keras.optimizers.get(optimizer)
        _check_optimizer(optimizer)
        if hasattr(optimizer, "inner_optimizer"):
            LayerwiseLearningRate(
                optimizer.inner_optimizer, multipliers, may_be_frozen
            )
            return optimizer
        optimizer.__class__ = _layerwise(optimizer.__class__)
        return optimizer

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer | str,
        multipliers: Mapping[str, float],
        may_be_frozen: Sequence[str] = (),
    ) -> None:
        # No super().__init__(): this is `optimizer`, which has its state.
        self.multipliers = {
            pattern: float(multiplier)
            for pattern, multiplier in multipliers.items()
        }
        self.may_be_frozen = list(may_be_frozen)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the slots of the model's trainable variables."""
        # Keras gives no variables when it loads an HDF5 file.
        if variables and not self.built:
            self._check_found([variable.path for variable in variables])
            super().build(variables)

    def multiplier(self, path: str) -> float:
        """The multiplier of the weight with this path."""
        for pattern, multiplier in self.multipliers.items():
            if re.search(pattern, path):
                return multiplier
        return 1.0

    def _check_found(self, paths: Sequence[str]) -> None:
        """Raises if a regular expression is found in none of the paths."""
        for pattern in self.multipliers:
            if pattern not in self.may_be_frozen and not any(
                re.search(pattern, path) for path in paths
            ):
                near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0)
                raise ValueError(
                    "LayerwiseLearningRate: multipliers has the key "
                    f"{pattern!r}, which is found in no trainable weight's "
                    f"path. Near paths: {', '.join(near)}. If it names a "
                    f"part that is frozen now: may_be_frozen=[{pattern!r}]."
                )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        return {
            "optimizer": keras.optimizers.serialize(self.as_passed()),
            "multipliers": dict(self.multipliers),
            "may_be_frozen": list(self.may_be_frozen),
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "LayerwiseLearningRate":
        """Restores the optimizer from `get_config()`."""
        if "name" in config:
            raise ValueError(
                "LayerwiseLearningRate: the file must be saved by this version "
                "of keras_finegrain, received one with an optimizer for each "
                "multiplier. Load it with compile=False and compile it again."
            )
        optimizer = keras.optimizers.deserialize(
            config["optimizer"], custom_objects=custom_objects
        )
        return LayerwiseLearningRate(
            optimizer, config["multipliers"], config.get("may_be_frozen", ())
        )

    def __repr__(self) -> str:
        return (
            f"LayerwiseLearningRate(optimizer=<{self.optimizer_class.__name__}"
            f">, multipliers={dict(self.multipliers)})"
        )


@functools.cache
def _layerwise(
    optimizer_class: type[keras.optimizers.Optimizer],
) -> type[LayerwiseLearningRate]:
    """The subclass of an optimizer's class that has multipliers."""
    layerwise = type(
        LayerwiseLearningRate.__name__,
        (LayerwiseLearningRate, base_of_multiplied_rates(optimizer_class)),
        {"__module__": __name__, "optimizer_class": optimizer_class},
    )
    register = keras.saving.register_keras_serializable("keras_finegrain")
    register(layerwise)
    # The name that it is saved under loads the public class.
    register(LayerwiseLearningRate)
    return layerwise


def _check_optimizer(optimizer: Any) -> None:
    who = LayerwiseLearningRate.__name__
    # MultiOptimizer, new in Keras 3.15, has `optimizers`.
    if optimizer is None or hasattr(optimizer, "optimizers"):
        raise ValueError(
            f"{who}: optimizer must be one Keras optimizer, received "
            f"{optimizer!r}. Give multipliers to the optimizers inside a "
            "MultiOptimizer."
        )
    if isinstance(optimizer, LayerwiseLearningRate):
        raise ValueError(
            f"{who}: optimizer must not have multipliers yet, received "
            f"{optimizer!r}. Pass all multipliers at once."
        )
    if optimizer.built:
        raise ValueError(
            f"{who}: optimizer must be new, received one that has state for "
            f"{num_optimized_variables(optimizer)} weights. Create another: "
            "type(optimizer).from_config(optimizer.get_config())."
        )


def _check_frozen(may_be_frozen: Any, multipliers: Mapping[str, float]) -> None:
    if (
        isinstance(may_be_frozen, str)
        or not isinstance(may_be_frozen, Sequence)
        or any(pattern not in multipliers for pattern in may_be_frozen)
    ):
        raise ValueError(
            f"{LayerwiseLearningRate.__name__}: may_be_frozen must list keys "
            f"of multipliers, received {may_be_frozen!r} and the keys "
            f"{list(multipliers)}."
        )


def _check_multipliers(multipliers: Any) -> None:
    who = LayerwiseLearningRate.__name__
    if not isinstance(multipliers, Mapping):
        raise ValueError(
            f"{who}: multipliers must map regular expressions to numbers, "
            f"such as {{'head/': 10}}, received {multipliers!r}."
        )
    for pattern, value in multipliers.items():
        if not isinstance(pattern, str):
            raise ValueError(
                f"{who}: each key of multipliers must be a string, received "
                f"{pattern!r}. Use a part of a weight's path."
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{who}: multipliers has the key {pattern!r}, which is not a "
                f"regular expression: {error}. re.escape() makes one that "
                "matches the text itself."
            ) from None
        number(who, f"multipliers[{pattern!r}]", value, at_least=0)

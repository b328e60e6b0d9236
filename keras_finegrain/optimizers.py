"""Per-layer learning rates."""

import dataclasses
import difflib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_finegrain._base.checks import number
from keras_finegrain._base.typing import Tensor


class _Multiple(keras.optimizers.schedules.LearningRateSchedule):
    """A multiple of another optimizer's learning rate, as it stands."""

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, multiplier: float
    ) -> None:
        self.optimizer = optimizer
        self.multiplier = multiplier

    def __call__(self, step: Tensor) -> Tensor:
        """The rate now; its own step count is not asked."""
        del step
        return self.optimizer.learning_rate * self.multiplier


@dataclasses.dataclass
class _Group:
    """The variables that share a multiplier, and the optimizer of them.

    Attributes:
        multiplier: What the learning rate is multiplied by.
        optimizer: The copy of the wrapped optimizer.
        positions: Where its variables stand among all of the model's.
    """

    multiplier: float
    optimizer: keras.optimizers.Optimizer
    positions: list[int] = dataclasses.field(default_factory=list)


@keras.saving.register_keras_serializable(package="keras_finegrain")
class LayerwiseLearningRate(keras.optimizers.Optimizer):
    """Gives groups of weights their own multiple of the learning rate.

    The papers train the head and the centers at 10 to 100 times the rate of
    the pre-trained backbone. Any Keras optimizer can be wrapped: each group of
    weights is trained by a copy of it at its own rate, with its weight decay,
    averaging and accumulation; `learning_rate` stays the one knob that
    schedules and callbacks such as `ReduceLROnPlateau` turn.

    Args:
        optimizer: A `keras.optimizers.Optimizer` that is not in use yet, or
            its name.
        multipliers: Maps regular expressions to multipliers, each at least 0.
            The first expression that is found in a weight's `path` (such as
            "sequential/dense/kernel") decides; the rate of weights with no
            match is multiplied by 1.
        name: Name of the optimizer.

    Raises:
        ValueError: If a multiplier is negative or an expression is not valid;
            when the model's weights are known, if an expression matches none
            of them; if `optimizer` combines `global_clipnorm` with
            `gradient_accumulation_steps`, which no split into groups can
            reproduce.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="backbone"),
    ...     keras.layers.Dense(2, name="head"),
    ... ])
    >>> optimizer = keras_finegrain.optimizers.LayerwiseLearningRate(
    ...     keras.optimizers.Adam(1e-4), {"head/": 10}
    ... )
    >>> model.compile(optimizer, "mse")
    >>> history = model.fit(np.ones((2, 4)), np.ones((2, 2)), verbose=0)
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer | str,
        multipliers: Mapping[str, float],
        name: str = "layerwise_learning_rate",
    ) -> None:
        optimizer = keras.optimizers.get(optimizer)
        who = type(self).__name__
        config = optimizer.get_config()
        if config.get("global_clipnorm") and config.get(
            "gradient_accumulation_steps"
        ):
            raise ValueError(
                f"{who}: global_clipnorm and gradient_accumulation_steps of "
                f"the optimizer cannot be combined here, received "
                f"{config['global_clipnorm']} and "
                f"{config['gradient_accumulation_steps']}. Use clipnorm."
            )
        learning_rate = config["learning_rate"]
        if isinstance(learning_rate, dict):
            learning_rate = keras.optimizers.schedules.deserialize(
                learning_rate
            )
        super().__init__(
            learning_rate=learning_rate,
            loss_scale_factor=config.get("loss_scale_factor"),
            name=name,
        )
        # A read-only view: TensorFlow would wrap a plain dict to track it.
        self._wrapped = types.MappingProxyType(
            keras.optimizers.serialize(optimizer)
        )
        self.multipliers = {
            pattern: number(who, f"multipliers[{pattern!r}]", value, at_least=0)
            for pattern, value in multipliers.items()
        }
        for pattern in self.multipliers:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"{who}: multipliers has the key {pattern!r}, which is not "
                    f"a regular expression: {error}."
                ) from None
        # The norm of all gradients is not to be had inside of one group.
        self._clip_to_norm = config.get("global_clipnorm")
        shared = {
            **config,
            "global_clipnorm": None,
            "loss_scale_factor": None,
        }
        self._groups = [
            _Group(
                multiplier,
                type(optimizer).from_config(
                    {**shared, "learning_rate": _Multiple(self, multiplier)}
                ),
            )
            for multiplier in sorted({1.0, *self.multipliers.values()})
        ]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Sorts the variables into groups and builds their optimizers.

        Args:
            variables: The model's trainable variables.
        """
        if self.built:
            return
        self._check_patterns([variable.path for variable in variables])
        # Marks the optimizer as built and creates what all groups share.
        super().build(variables)
        for group in self._groups:
            group.positions = [
                position
                for position, variable in enumerate(variables)
                if self.multiplier(variable.path) == group.multiplier
            ]
            group.optimizer.build([variables[i] for i in group.positions])

    def multiplier(self, path: str) -> float:
        """The multiplier of the weight with this path."""
        for pattern, multiplier in self.multipliers.items():
            if re.search(pattern, path):
                return multiplier
        return 1.0

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of this optimizer and of its groups'."""
        return [
            *super().variables,
            *(v for group in self._groups for v in group.optimizer.variables),
        ]

    def apply(
        self,
        grads: Sequence[Tensor],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Updates each group's variables at the group's rate.

        Args:
            grads: A gradient, or `None`, for each variable.
            trainable_variables: The variables; those that the optimizer was
                built with if `None`.
        """
        if not len(grads):
            return
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        elif not self.built:
            self.build(list(trainable_variables))
        position_of = {
            id(variable): position
            for position, variable in enumerate(self._trainable_variables)
        }
        received: dict[int, tuple[Tensor, keras.Variable]] = {}
        for gradient, variable in zip(
            self._rescaled(grads), trainable_variables, strict=True
        ):
            received[position_of[id(variable)]] = (gradient, variable)
        for group in self._groups:
            pairs = [received[i] for i in group.positions if i in received]
            if any(gradient is not None for gradient, _ in pairs):
                group.optimizer.apply(*map(list, zip(*pairs, strict=True)))
        self._iterations.assign_add(1)

    def finalize_variable_values(
        self, var_list: Sequence[keras.Variable]
    ) -> None:
        """Sets averaged weights, where the wrapped optimizer averages them."""
        for group in self._groups:
            own = {id(self._trainable_variables[i]) for i in group.positions}
            group.optimizer.finalize_variable_values(
                [variable for variable in var_list if id(variable) in own]
            )

    def _rescaled(self, grads: Sequence[Tensor]) -> list[Tensor]:
        """The gradients without the loss scale, clipped by their norm."""
        factor: Tensor = 1.0
        if self.loss_scale_factor is not None:
            factor = 1.0 / self.loss_scale_factor
        if self._clip_to_norm is not None:
            norm = factor * ops.sqrt(
                sum(
                    ops.sum(ops.square(ops.convert_to_tensor(gradient)))
                    for gradient in grads
                    if gradient is not None
                )
            )
            factor = factor * self._clip_to_norm
            factor = factor / ops.maximum(norm, self._clip_to_norm)
        if isinstance(factor, float) and factor == 1.0:
            return list(grads)
        return [None if g is None else g * factor for g in grads]

    def _check_patterns(self, paths: Sequence[str]) -> None:
        for pattern in self.multipliers:
            if not any(re.search(pattern, path) for path in paths):
                near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0)
                raise ValueError(
                    f"{type(self).__name__}: multipliers has the key "
                    f"{pattern!r}, which is found in no trainable weight's "
                    f"path. Near paths: {', '.join(near)}."
                )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it stands."""
        optimizer = dict(self._wrapped)
        if not isinstance(
            self._learning_rate,
            keras.optimizers.schedules.LearningRateSchedule,
        ):
            rate = float(ops.convert_to_numpy(self.learning_rate))
            optimizer["config"] = {
                **optimizer["config"],
                "learning_rate": rate,
            }
        return {
            "optimizer": optimizer,
            "multipliers": dict(self.multipliers),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "LayerwiseLearningRate":
        """Restores the optimizer from `get_config()`."""
        optimizer = keras.optimizers.deserialize(
            config["optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "optimizer": optimizer})

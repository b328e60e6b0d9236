"""A word in the log where a layer did not do what it is there for."""

import warnings
from typing import Any

import keras


class WarnOfLayers(keras.callbacks.Callback):
    """Passes on, at the end of a training, what the layers are concerned about.

    Each layer of the model that measures something is asked by its `concern`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epochs = 0
        self._first_step = 0
        self._logs: dict[str, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Looks where the optimizer stands."""
        self._epochs, self._first_step = 0, self._steps_so_far()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keeps the figures."""
        self._epochs += 1
        self._logs = logs or {}

    def on_train_end(self, logs: Any = None) -> None:
        """Warns of what the layers say."""
        steps = self._steps_so_far() - self._first_step
        for layer, log_names in self.model.log_names_of_measures():
            figures = {
                measure: float(self._logs[name])
                for measure, name in log_names.items()
                if name in self._logs
            }
            concern = layer.concern(figures, steps, self._epochs)
            if concern is not None:
                warnings.warn(f"fit: {concern}", stacklevel=2)

    def _steps_so_far(self) -> int:
        # (A callback for each step would make Keras wait for the device.)
        # (`int` reads no variable that replicas share.)
        iterations = self.model.optimizer.iterations
        return int(keras.ops.convert_to_numpy(iterations))

"""A word in the log where a loss is no longer a number."""

import math
import warnings
from typing import Any

import keras


class WarnOfNonFiniteLoss(keras.callbacks.Callback):
    """Warns once, at the end of the first epoch whose loss is not finite.

    A batch whose loss is NaN makes the epoch's figures NaN, as in Keras.
    """

    def __init__(self) -> None:
        super().__init__()
        self._warned = False

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Looks at `loss` and `val_loss`."""
        wrong = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name in ("loss", "val_loss") and not math.isfinite(value)
        }
        if self._warned or not wrong:
            return
        self._warned = True
        shown = " and ".join(f"{name} is {v}" for name, v in wrong.items())
        warnings.warn(
            f"fit: {shown} in epoch {epoch + 1}. One batch is enough to make "
            "the figures of an epoch so. Likely causes: a label "
            "outside of the classes or a weight below 0 that a compiled step "
            "could not refuse (`run_eagerly=True` in compile() names it), a "
            "learning rate that is too high, NaN or infinity in the inputs. "
            "`keras.callbacks.TerminateOnNaN()` ends the training there.",
            stacklevel=2,
        )

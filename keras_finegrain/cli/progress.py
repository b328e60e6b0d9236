"""One line an epoch, and a bar within it on a terminal."""

import sys
import time
from collections.abc import Callable
from typing import Any

import keras
from tqdm import tqdm

from keras_finegrain.training.progress import duration

# The first steps compile, and wait for files that no cache holds yet.
_WARM, _TIMED = 1, 4
# Nobody waits for less.
_SECONDS = 10.0


class Progress(keras.callbacks.Callback):
    """Says each epoch's logs under the name of the run.

    Args:
        run: The name.
        say: Takes a line.
        bars: Whether a terminal has a bar.
    """

    def __init__(
        self,
        run: str,
        say: Callable[[str], None] = lambda text: print(text, flush=True),
        bars: bool = True,
    ) -> None:
        super().__init__()
        self._bars = bars
        self._run, self._say = run, say
        self._bar: Any = None
        self._started = self._warm = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the bar."""
        self._started = time.perf_counter()
        self._bar = tqdm(
            total=self.params["steps"],
            desc=f"{self._run} epoch {epoch + 1}/{self.params['epochs']}",
            leave=False,
            disable=not (self._bars and sys.stderr.isatty()),
        )
        self._is_first = epoch == 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the bar; a few steps tell how long all of them will take."""
        self._bar.update()
        if self._is_first and batch == _WARM:
            self._warm = time.perf_counter()
        elif self._is_first and batch == _WARM + _TIMED:
            one = (time.perf_counter() - self._warm) / _TIMED
            steps = self.params["epochs"] * (self.params["steps"] or 0)
            if steps * one > _SECONDS:
                self._say(f"{self._run}: about {duration(steps * one)}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Says the line."""
        self._bar.close()
        metrics = "  ".join(
            f"{name} {value:.3g}" if "loss" in name else f"{name} {value:.3f}"
            for name, value in (logs or {}).items()
            if name != "learning_rate"
        )
        width = len(str(self.params["epochs"]))
        self._say(
            f"{self._run}  epoch {epoch + 1:>{width}}/{self.params['epochs']}  "
            f"{metrics}  ({time.perf_counter() - self._started:.1f} s)"
        )

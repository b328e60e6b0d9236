"""One line an epoch, and a bar within it on a terminal."""

import sys
import time

import keras
from tqdm import tqdm


class Progress(keras.callbacks.Callback):
    """Prints each epoch's logs under the name of the run."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run
        self._bar: tqdm | None = None
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the bar."""
        self._started = time.perf_counter()
        self._bar = tqdm(
            total=self.params["steps"],
            desc=f"{self._run} epoch {epoch + 1}/{self.params['epochs']}",
            leave=False,
            disable=not sys.stderr.isatty(),
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the bar."""
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the line."""
        self._bar.close()
        metrics = "  ".join(
            f"{name} {value:.3g}" if "loss" in name else f"{name} {value:.3f}"
            for name, value in (logs or {}).items()
            if name != "learning_rate"
        )
        width = len(str(self.params["epochs"]))
        print(
            f"{self._run}  epoch {epoch + 1:>{width}}/{self.params['epochs']}  "
            f"{metrics}  ({time.perf_counter() - self._started:.1f} s)",
            flush=True,
        )

"""One line an epoch, and a bar within it on a terminal."""

import sys
import time
from collections.abc import Callable

import keras
from tqdm import tqdm

from keras_finegrain.training.progress import duration


class Progress(keras.callbacks.Callback):
    """Says each epoch's logs under the name of the run.

    Args:
        run: The name.
        say: Takes a line.
    """

    def __init__(
        self,
        run: str,
        say: Callable[[str], None] = lambda text: print(text, flush=True),
    ) -> None:
        super().__init__()
        self._run, self._say = run, say
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
        """Says the line and, after the first two epochs, what is to come."""
        self._bar.close()
        seconds = time.perf_counter() - self._started
        epochs = self.params["epochs"]
        metrics = "  ".join(
            f"{name} {value:.3g}" if "loss" in name else f"{name} {value:.3f}"
            for name, value in (logs or {}).items()
            if name != "learning_rate"
        )
        # The first epoch compiles: the second tells how long one takes.
        left = (epochs - 2) * seconds if epoch == 1 else 0
        about = f", about {duration(left)} left" if left >= 10 else ""
        self._say(
            f"{self._run}  epoch {epoch + 1:>{len(str(epochs))}}/{epochs}  "
            f"{metrics}  ({seconds:.1f} s{about})"
        )

"""How far a long step has come, and how long it will take."""

import sys
import time
from collections.abc import Callable
from typing import Any, Self

Say = Callable[[str], None]
# The first step compiles, and waits for files that no cache holds yet.
_WARM, _TIMED = 1, 4
# Lines where there is no terminal.
_LINES = 10
# No line sooner than this: nobody waits for a shorter time.
_SECONDS = 5.0


def print_line(text: str) -> None:
    """Prints a line at once, also into a pipe."""
    print(text, flush=True)


def duration(seconds: float) -> str:
    """A time to wait, as exactly as a person wants it.

    Example:
        >>> duration(8.4), duration(90), duration(4000)
        ('8 s', '2 min', '1.1 h')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


class Steps:
    """Counts steps of about the same length and says how many are left.

    On a terminal it is a bar. Elsewhere a line after a few steps says how long
    all of them will take, and one after each tenth how long is left; a few
    seconds say nothing.

    Args:
        what: What is done, with which each line begins.
        total: Number of steps.
        say: Takes a line.
        bars: Whether a terminal has a bar, and not the lines.

    Example:
        >>> with Steps("features", 20, print) as steps:
        ...     for _ in range(20):
        ...         steps.advance()  # After each step.
    """

    def __init__(
        self, what: str, total: int, say: Say, bars: bool = True
    ) -> None:
        self._bars = bars
        self._what, self._total, self._say = what, total, say
        self._done = 0
        self._lines = {total * part // _LINES for part in range(1, _LINES)}
        self._started = self._said = time.perf_counter()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._bars and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=self._what, total=self._total, leave=False)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """One more step is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
            return
        now = time.perf_counter()
        if self._done == _WARM:
            self._started = now
            return
        one = (now - self._started) / (self._done - _WARM)
        left = one * (self._total - self._done)
        if self._done == _TIMED and left > _SECONDS:
            self._say(f"{self._what}: about {duration(left)}")
        elif self._done in self._lines and now - self._said > _SECONDS:
            share = f"{self._done / self._total:.0%}"
            self._say(f"{self._what}: {share}, {duration(left)} left")
        else:
            return
        self._said = now

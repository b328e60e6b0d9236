"""What the command lines of the examples have in common."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Reports an error in one line: `--help` has the rest."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        sys.stderr.write(f"{self.prog}: error: {message}\n")
        sys.exit(2)


def integer(at_least: int) -> Callable[[str], int]:
    """Reads an integer of at least this."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = at_least - 1
        if value < at_least:
            raise argparse.ArgumentTypeError(
                f"must be an integer of at least {at_least}, received {text!r}"
            )
        return value

    return parse


def number(text: str) -> float:
    """Reads a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, received {text!r}")
    return value


def positive(text: str) -> float:
    """Reads a number above 0."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, received {text!r}")
    return value


def not_negative(text: str) -> float:
    """Reads a number of at least 0."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(
            f"must be at least 0, received {text!r}"
        )
    return value


def share(text: str) -> float:
    """Reads a number in [0, 1]."""
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(
            f"must be at most 1, received {text!r}"
        )
    return value

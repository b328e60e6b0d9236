"""What a command says, and where: answers, notes, or one JSON document."""

import json
import sys
from typing import Any, TextIO

# Exit statuses.
DONE, DEFECT, WRONG_USE, STOPPED = 0, 1, 2, 130


class CommandError(Exception):
    """Wrong use or data: one sentence on stderr that names the remedy."""


class Output:
    """Answers go to stdout; everything else goes to stderr.

    Args:
        as_json: Whether the answer is one JSON document, which `result`
            prints, in place of the lines of `answer`.
        quiet: Whether notes and progress are left out.

    Attributes:
        resume: What to do after Ctrl-C, a sentence; a command sets it as soon
            as there is something to go on with.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.resume: str | None = None
        # The main one prints everything else to stderr in the meantime.
        self._stdout: TextIO = sys.stdout

    def say(self, text: str) -> None:
        """A note on what happens, on stderr; not with `--quiet`."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """What the user should know, on stderr."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def answer(self, text: str) -> None:
        """A line of the answer, on stdout; not with `--json`."""
        if not self.as_json:
            print(text, file=self._stdout, flush=True)

    def result(self, document: dict[str, Any]) -> None:
        """The whole answer for machines; only with `--json`."""
        if self.as_json:
            text = json.dumps(document, indent=2, default=_plain)
            print(text, file=self._stdout, flush=True)


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers of NumPy, paths."""
    return value.tolist() if hasattr(value, "tolist") else str(value)

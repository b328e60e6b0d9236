"""Docstrings as the site's parser wants them: examples and equations fenced."""

import re
import textwrap
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Examples?:\n(?=\s*>>> )", flags=re.MULTILINE)
# Sections that the parser does not know, and would draw as boxes.
OWN = re.compile(
    r"^(Input shape|Output shape|Reference):\n((?:    .*\n?|\n)+)",
    flags=re.MULTILINE,
)
# A doctest ends at an empty line that no further prompt follows.
DOCTEST = re.compile(
    r"^( *)>>> .*?(?=\n\n(?!\1>>> )|\Z)", flags=re.MULTILINE | re.DOTALL
)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Fences the doctests of one object's docstring."""
        if obj.docstring:
            text = EXAMPLE.sub("**Example:**\n\n", obj.docstring.value)
            text = text.replace("Call arguments:\n", "Args: Call arguments:\n")
            text = OWN.sub(
                lambda own: f"**{own[1]}:**\n\n{textwrap.dedent(own[2])}", text
            )
            obj.docstring.value = DOCTEST.sub(
                lambda block: f"```pycon\n{textwrap.dedent(block[0])}\n```",
                text,
            )

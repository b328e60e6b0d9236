"""The usual names of the parts of a data set."""

import re
from typing import Literal

Role = Literal["train", "test", "validation"]

_WHAT = r"(s|set|data|images?|imgs?|pics|photos|split|folder)?"
_ROLES: dict[Role, str] = {
    "train": rf"(train|training|trn|trainval){_WHAT}",
    "test": rf"(test|testing|tst){_WHAT}",
    "validation": (
        r"(val|valid|validation|validate|dev|eval|evaluation|holdout|heldout)"
        rf"{_WHAT}"
    ),
}


def role(name: str) -> Role | None:
    """What the name of a folder or split says that it is for.

    A word of it decides, whatever its case and what it is joined with.

    Example:
        >>> [role(name) for name in ("cars_train", "TestImages", "Hold-out")]
        ['train', 'test', 'validation']
        >>> role("trainer") is None
        True
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    words.append("".join(words))
    for found, pattern in _ROLES.items():
        if any(re.fullmatch(pattern, word.lower()) for word in words):
            return found
    return None


def naming(options: tuple[str, ...]) -> str:
    """How to name the parts of a data set, for a message."""
    return (
        "Name what to train and what to test on, as with "
        f"splits={options!r}, or one alone, of which test_fraction is tested on"
    )

"""What a gallery answers."""

import dataclasses
from typing import NamedTuple


class Match(NamedTuple):
    """A known photo that is like a new one.

    Attributes:
        key: Key of the known photo, such as its path.
        class_name: Its class.
        similarity: Cosine of the two embeddings, in [-1, 1].
    """

    key: str
    class_name: str
    similarity: float


class Candidate(NamedTuple):
    """A class that a new photo may be of.

    Attributes:
        class_name: The class.
        similarity: How like the photo is to the class, in [-1, 1].
        probability: The share of photos with such a score that are of this
            class, in [0, 1]; `None` before `Gallery.calibrate`.
    """

    class_name: str
    similarity: float
    probability: float | None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a new photo was taken for.

    Attributes:
        class_name: The most similar class, also where `unknown` is true.
        similarity: How like the photo is to the class, in [-1, 1].
        probability: How likely the class is, if it is one of the gallery's;
            `None` before `Gallery.calibrate`.
        unknown: Whether the photo is like no class of the gallery; `None`
            before `Gallery.calibrate`.
        runners_up: The next classes, best first.
        matches: The most similar known photos, of any class, nearest first.
    """

    class_name: str
    similarity: float
    probability: float | None
    unknown: bool | None
    runners_up: tuple[Candidate, ...]
    matches: tuple[Match, ...]

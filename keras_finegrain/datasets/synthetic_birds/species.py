"""The species of the synthetic birds: one body plan, seven parts that vary.

A species is a word of seven letters, one a part, over an alphabet of four
states. How alike two species look is the Hamming distance of their words, so a
table of look-alikes is a code with a known minimum distance.
"""

import functools
from dataclasses import dataclass

import numpy as np

#: The parts that tell species apart, each with its four states.
PARTS: dict[str, tuple[str, str, str, str]] = {
    "beak": ("short conical", "long straight", "hooked", "long down-curved"),
    "eye": ("dark", "white-ringed", "yellow", "red"),
    "crown": ("plain", "striped", "black-capped", "crested"),
    "wing": ("no bar", "one white bar", "two white bars", "one yellow bar"),
    "breast": ("plain", "streaked", "spotted", "dark-banded"),
    "tail": ("short square", "long square", "short forked", "long forked"),
    "legs": ("black", "coral", "yellow", "blue"),
}

#: The most species one table holds (parts_apart from 1 to 3 reach it).
MAX_SPECIES = 256

_NUM_STATES = 4

# The species that every table begins with; its look-alikes gather round it.
_FIRST_SPECIES = (0, 0, 2, 1, 1, 1, 1)

# Sorts after every word that is still free.
_TAKEN = _NUM_STATES ** len(PARTS) + 1

# The noun follows the beak (row) and the tail (column), as in real names.
_NOUNS = (
    ("Sparrow", "Bunting", "Finch", "Grosbeak"),
    ("Wren", "Wagtail", "Warbler", "Swift"),
    ("Vireo", "Shrike", "Becard", "Drongo"),
    ("Creeper", "Thrasher", "Sunbird", "Hoopoe"),
)

# The first name is an invented village: it follows the five other parts and,
# unlike "black-capped", does not describe a state that other species share.
_VILLAGE_FIRST = (
    "Alder Amber Ash Beech Birch Bramble Brook Clover Copper Elder Elm Fern "
    "Frost Hazel Heather Holly Juniper Larch Linden Maple Marsh Misty Moss "
    "Oak Pine Reed Rowan Sedge Silver Thistle Thorn Willow"
)
_VILLAGE_LAST = (
    "bank beck borough bourne bridge bury combe cote croft dale dell down "
    "field fold ford gate glen grove ham hill holme hurst ley mead mere mill "
    "moor ridge stead ton wick wood"
)


@dataclass(frozen=True)
class Species:
    """One kind of bird: the state of each part.

    Args:
        states: seven integers in [0, 4), one for each of `PARTS` in its order.

    Raises:
        ValueError: if there are not seven states or one is out of range.

    Example:

    >>> bird = Species((0, 1, 3, 2, 1, 0, 0))
    >>> bird.state("crown")
    'crested'
    >>> bird.name
    'Rowanmere Sparrow'
    """

    states: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.states) != len(PARTS) or not all(
            0 <= state < _NUM_STATES for state in self.states
        ):
            raise ValueError(
                f"Species: states must be {len(PARTS)} integers in "
                f"[0, {_NUM_STATES}), one each for {', '.join(PARTS)}; "
                f"received {self.states}."
            )

    def state(self, part: str) -> str:
        """The state of one part in words.

        Args:
            part: a key of `PARTS`.

        Raises:
            ValueError: if there is no such part.
        """
        if part not in PARTS:
            raise ValueError(
                f"Species.state: part must be one of {', '.join(PARTS)}; "
                f"received {part!r}."
            )
        return PARTS[part][self.states[list(PARTS).index(part)]]

    @property
    def name(self) -> str:
        """Two words, different for every species: 'Rowanmere Sparrow'."""
        beak, eye, crown, wing, breast, tail, legs = self.states
        village = 0
        for state in (crown, breast, eye, wing, legs):
            village = village * _NUM_STATES + state
        first, last = divmod(village, len(_VILLAGE_LAST.split()))
        place = _VILLAGE_FIRST.split()[first] + _VILLAGE_LAST.split()[last]
        return f"{place} {_NOUNS[beak][tail]}"

    @property
    def description(self) -> str:
        """All parts in one line: 'short conical beak, dark eye, ...'."""
        return ", ".join(
            # "one white bar on the wing" reads better than "... bar wing".
            f"{self.state(part)} {'on the wing' if part == 'wing' else part}"
            for part in PARTS
        )


def parts_between(first: Species, second: Species) -> tuple[str, ...]:
    """The parts in which two species differ (the length is their distance).

    Args:
        first: a species.
        second: another.

    Returns:
        The names of the parts, in the order of `PARTS`.

    Example:

    >>> sparrow = Species((0, 0, 0, 0, 0, 0, 0))
    >>> parts_between(sparrow, Species((0, 2, 0, 0, 0, 0, 1)))
    ('eye', 'legs')
    """
    return tuple(
        part
        for part, a, b in zip(PARTS, first.states, second.states, strict=True)
        if a != b
    )


def max_species(parts_apart: int) -> int:
    """The most species that `species_table` offers at this distance.

    Args:
        parts_apart: an integer in [1, 7].

    Raises:
        ValueError: if `parts_apart` is out of range.

    Example:

    >>> [max_species(parts) for parts in (1, 2, 3, 7)]
    [256, 256, 256, 4]
    """
    _check_parts_apart(parts_apart)
    return len(_grow(parts_apart))


def species_table(num_species: int, parts_apart: int) -> tuple[Species, ...]:
    """Species whose nearest look-alike differs in exactly `parts_apart` parts.

    Both hold for every table: no two species differ in fewer parts, and each
    species has at least one other that differs in exactly so many. A longer
    table begins with the shorter ones; nothing here is random.

    Args:
        num_species: the length of the table, from 2 to
            `max_species(parts_apart)`.
        parts_apart: the minimum Hamming distance, from 1 (hardest) to 7.

    Returns:
        `num_species` species. Label `i` is entry `i`.

    Raises:
        ValueError: if an argument is out of range or no such table is known.

    Example:

    >>> table = species_table(num_species=4, parts_apart=2)
    >>> min(
    ...     len(parts_between(a, b)) for a in table for b in table if a != b
    ... )
    2
    """
    _check_parts_apart(parts_apart)
    most = max_species(parts_apart)
    if not 2 <= num_species <= most:
        raise ValueError(
            f"species_table: num_species must lie in [2, {most}] for "
            f"parts_apart={parts_apart}, received {num_species}. Fewer "
            "parts apart leave room for more species."
        )
    return _grow(parts_apart)[:num_species]


def _check_parts_apart(parts_apart: int) -> None:
    if not 1 <= parts_apart <= len(PARTS):
        raise ValueError(
            f"parts_apart must be an integer in [1, {len(PARTS)}], the number "
            f"of parts that vary; received {parts_apart}."
        )


@functools.cache
def _grow(parts_apart: int) -> tuple[Species, ...]:
    """Picks code words one by one, each at `parts_apart` from an earlier one.

    The code grants that no two words are closer, the growth that each has a
    look-alike. New species gather round the earliest that has room, so a
    table is one genus and not a chain of strangers; among those, take the word
    that uses the states most evenly, so that every part comes to matter.
    """
    words = _code(parts_apart) ^ np.array(_FIRST_SPECIES)
    parts = np.arange(len(PARTS))
    count = np.zeros((len(PARTS), _NUM_STATES), dtype=np.int64)
    elder = np.full(len(words), len(words))  # who each word would gather round
    elder[(words == _FIRST_SPECIES).all(axis=1)] = 0
    chosen: list[Species] = []
    while len(chosen) < MAX_SPECIES and elder.min() < len(words):
        crowding = count[parts, words].sum(axis=1)
        best = int(np.lexsort((crowding, elder))[0])
        beside = (words != words[best]).sum(axis=1) == parts_apart
        elder[beside & (elder == len(words))] = len(chosen)
        elder[best] = _TAKEN
        count[parts, words[best]] += 1
        chosen.append(Species(tuple(int(state) for state in words[best])))
    return tuple(chosen)


def _code(min_distance: int) -> np.ndarray:
    """A large set of words, closed under XOR, no two nearer than the distance.

    This is the lexicographic code of Conway and Sloane (Lexicographic codes,
    1986): add the first word that is far enough from all, and with it its sum
    with every word so far. As two-bit letters XOR like vectors, the distance
    of `v` to the doubled code is that of `v` or of `v ^ word` to the old one.

    Returns:
        (words, parts) integers in [0, 4).
    """
    every = np.arange(_NUM_STATES ** len(PARTS))
    powers = _NUM_STATES ** np.arange(len(PARTS))[::-1]
    letters = (every[:, None] // powers) % _NUM_STATES
    distance = (letters != 0).sum(axis=1)
    code = np.array([0])
    while distance.max() >= min_distance:
        word = int(np.argmax(distance >= min_distance))
        code = np.concatenate([code, code ^ word])
        distance = np.minimum(distance, distance[every ^ word])
    words: np.ndarray = letters[np.sort(code)]
    return words

"""Where images come from, before any is decoded."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Records:
    """One split: its labels at once, its images when they are read.

    Attributes:
        labels: `(size,)` int64, in the order in which `examples()` reads.
        examples: Makes the `tf.data.Dataset` of dictionaries with `encoded`
            (the bytes of an image file), `label` (int64), `origin` (the file
            or record, for messages) and, where the source has one, `bbox`
            (`(4,)` float32, relative ymin, xmin, ymax, xmax).
    """

    labels: npt.NDArray[np.int64]
    examples: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that was found and checked, with nothing decoded yet.

    Attributes:
        name: The name or path that it was asked for with.
        class_names: All classes; the index is the label in `Records`.
        train: The training records.
        test: The test records, or None where the source has a single split.
        required_classes: Classes that must have images when they are
            selected. The others may be left out in silence: a TFDS data set
            lists every class even where only a part of it was prepared.
    """

    name: str
    class_names: tuple[str, ...]
    train: Records
    test: Records | None
    required_classes: frozenset[int] = frozenset()

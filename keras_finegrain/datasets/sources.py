"""Where images come from, before any is decoded."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_finegrain.datasets.requirements import import_tensorflow


@dataclasses.dataclass(frozen=True)
class Records:
    """One split: its labels at once, its images when they are read.

    Attributes:
        labels: `(size,)` int64, in the order in which `examples()` reads.
        examples: Makes the `tf.data.Dataset` of dictionaries with `encoded`
            (the bytes of an image file), `label` (int64), `origin` (the file
            or record, for messages) and, where the source has one, `bbox`
            (`(4,)` float32, relative ymin, xmin, ymax, xmax).
        keys: What each image is known by, in the same order: a file or a
            number in the source.
    """

    labels: npt.NDArray[np.int64]
    examples: Callable[[], Any]
    keys: tuple[str, ...]

    def relabeled(self, labels: npt.NDArray[np.int64]) -> "Records":
        """Returns these records with other labels, `(size,)` int64.

        Records with a negative label are left out, and never decoded.
        """
        kept = labels[labels >= 0]

        def examples() -> Any:
            tf = import_tensorflow()
            new_labels = tf.constant(labels, tf.int64)
            return (
                self.examples()
                .enumerate()
                .filter(lambda index, _: tf.gather(new_labels, index) >= 0)
                .map(
                    lambda index, example: {
                        **example,
                        "label": tf.gather(new_labels, index),
                    }
                )
                .apply(tf.data.experimental.assert_cardinality(kept.size))
            )

        keys = tuple(itertools.compress(self.keys, (labels >= 0).tolist()))
        return Records(kept, examples, keys)

    def joined(self, others: "Records") -> "Records":
        """Returns these records, then others of the same data set."""
        return Records(
            np.concatenate([self.labels, others.labels]),
            lambda: self.examples().concatenate(others.examples()),
            (*self.keys, *others.keys),
        )


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that was found and checked, with nothing decoded yet.

    Attributes:
        name: The name or path that it was asked for with.
        class_names: All classes; the index is the label in `Records`.
        train: The training records.
        test: The test records, or None where the source has a single split.
        is_complete: Whether every class must have images. A TFDS data set
            lists all classes even where only a part of it was prepared.
    """

    name: str
    class_names: tuple[str, ...]
    train: Records
    test: Records | None
    is_complete: bool

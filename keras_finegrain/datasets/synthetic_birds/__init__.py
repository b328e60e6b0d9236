"""Fine-grained birds that are drawn when the data set is built.

`draw` needs numpy alone. The TFDS builder `SyntheticBirds` needs TensorFlow
Datasets; importing this package registers it where TFDS is installed.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

from keras_finegrain.datasets.synthetic_birds.bird import PART_POINTS
from keras_finegrain.datasets.synthetic_birds.drawing import (
    Annotations,
    PartPoint,
    draw,
    draw_portrait,
    part_masks,
)
from keras_finegrain.datasets.synthetic_birds.species import (
    PARTS,
    Species,
    max_species,
    parts_between,
    species_table,
)

if TYPE_CHECKING or importlib.util.find_spec("tensorflow_datasets"):
    from keras_finegrain.datasets.synthetic_birds.builder import (
        SyntheticBirds,
        SyntheticBirdsConfig,
    )

__all__ = [
    "PARTS",
    "PART_POINTS",
    "Annotations",
    "PartPoint",
    "Species",
    "SyntheticBirds",
    "SyntheticBirdsConfig",
    "draw",
    "draw_portrait",
    "max_species",
    "part_masks",
    "parts_between",
    "species_table",
]


def __getattr__(name: str) -> Any:
    if name in ("SyntheticBirds", "SyntheticBirdsConfig"):
        from keras_finegrain.datasets.requirements import import_tfds

        import_tfds()  # Reached where TFDS is missing: says how to get it.
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""The TFDS builder of the synthetic birds."""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_finegrain._base import checks
from keras_finegrain.datasets.synthetic_birds.bird import PART_POINTS
from keras_finegrain.datasets.synthetic_birds.drawing import check_size, draw
from keras_finegrain.datasets.synthetic_birds.species import (
    Species,
    max_species,
    species_table,
)

_DESCRIPTION = """
Fine-grained birds, drawn when the data set is built: nothing is downloaded.
Species share one body and differ in few of seven parts (beak, eye, crown, wing
bar, breast, tail, legs); `parts_apart` says in how many a species differs from
its nearest look-alike. Pose, size, place, individual, light, leaves and
background vary from photo to photo and say nothing about the species. Bounding
box, mask of the visible pixels and 15 part points are exact.
"""

_SEEDS = range(2**32)  # as for `draw`


@dataclasses.dataclass(kw_only=True)
class SyntheticBirdsConfig(tfds.core.BuilderConfig):
    """How many species there are, how alike they are, and how many photos.

    Args:
        name: names the folder of the prepared data. By default it lists the
            values below, so that no two configurations share a folder.
        num_species: number of classes, at least 2; times `plumages` up to
            256 for `parts_apart` 1 to 3, then 64, 16, 4 and 4.
        parts_apart: in how many parts a species differs from its nearest
            look-alike, from 1 (hardest) to 7. At the default of 2 a small
            network trained from scratch is far from chance and from perfect.
        plumages: how many looks a species has, as male, female and young
            have their own. They differ as much as species do, and photo `i`
            of a species shows plumage `i % plumages`.
        image_size: height and width in pixels, at least 32. The default shows
            every part and trains on a CPU.
        train_per_species: photos of each species in the split "train".
        test_per_species: photos of each species in the split "test".
        seed: other photos of the same species, in [0, 2**32).

    Attributes:
        species: the species by label, in their first plumage.
        plumages_of: by label, all plumages of the species, each a `Species`.

    Raises:
        ValueError: if a value is out of range.
    """

    name: str = ""
    description: str | None = None
    num_species: int = 12
    parts_apart: int = 2
    plumages: int = 1
    image_size: int = 64
    train_per_species: int = 80
    test_per_species: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        who = "SyntheticBirdsConfig"
        for field in (
            "num_species",
            "parts_apart",
            "plumages",
            "image_size",
            "train_per_species",
            "test_per_species",
        ):
            checks.positive_integer(who, field, getattr(self, field))
        check_size(who, self.image_size, "image_size")
        # 1.0 and True equal 1, and their digests would draw other photos.
        if isinstance(self.seed, bool | float) or self.seed not in _SEEDS:
            raise ValueError(
                f"{who}: seed must be an integer in [0, {len(_SEEDS)}), "
                f"received {self.seed!r}."
            )
        looks = self.num_species * self.plumages
        most = max_species(self.parts_apart)
        if self.num_species < 2 or looks > most:
            raise ValueError(
                f"{who}: num_species must be at least 2, and num_species * "
                f"plumages at most {most} for parts_apart={self.parts_apart}; "
                f"received {self.num_species} * {self.plumages}. Fewer parts "
                "apart leave room for more species."
            )
        table = species_table(looks, self.parts_apart)
        self.species = table[: self.num_species]
        self.plumages_of = [
            table[label :: self.num_species]
            for label in range(self.num_species)
        ]
        if not self.name:
            self.name = (
                f"{self.num_species}_species_{self.parts_apart}_apart_"
                f"{self.plumages}_plumages_{self.image_size}px_"
                f"{self.train_per_species}_train_"
                f"{self.test_per_species}_test_seed_{self.seed}"
            )
        if not self.description:
            self.description = (
                f"{self.num_species} species of {self.plumages} plumage(s), "
                f"the nearest {self.parts_apart} part(s) apart, "
                f"{self.image_size} pixels."
            )


class SyntheticBirds(tfds.core.GeneratorBasedBuilder):
    """Birds that are drawn, not photographed, at a chosen difficulty.

    Version and configuration fix every pixel. The features are those of
    `caltech_birds2011` and `parts`:

    - `image`: (size, size, 3) uint8, stored without loss
    - `image/filename`: text, "SPECIES/train_0001.png"
    - `label`: integer in [0, num_species), with the names of the species
    - `label_name`: text
    - `bbox`: (ymin, xmin, ymax, xmax) in [0, 1], tight around the mask
    - `segmentation_mask`: (size, size, 1) uint8, 255 where the bird can be
      seen and 0 elsewhere
    - `parts`: for each of the 15 parts of CUB-200-2011, in its order, `x` and
      `y` in [0, 1] and `visible`. An eye on the far side, or a foot behind a
      leaf, has its place and is not visible.

    Args:
        config: the name of one of `BUILDER_CONFIGS`, or a
            `SyntheticBirdsConfig`; "default" by default.
        data_dir: where the data is prepared, as in any TFDS builder.
        version: as in any TFDS builder.

    Raises:
        ValueError: if the configuration is not known.

    Example:

    >>> config = SyntheticBirdsConfig(num_species=2, train_per_species=10)
    >>> builder = SyntheticBirds(config=config)
    >>> builder.download_and_prepare()  # doctest: +SKIP
    >>> birds = builder.as_dataset(split="train")  # doctest: +SKIP
    >>> builder.info.features["label"].names
    ['Lindenbury Bunting', 'Lindenbridge Sparrow']
    >>> builder.species_description(0)
    'short conical beak, dark eye, black-capped crown, one white bar on the \
wing, streaked breast, long square tail, coral legs'
    """

    name = "synthetic_birds"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[SyntheticBirdsConfig]] = [
        SyntheticBirdsConfig(name="default"),
        SyntheticBirdsConfig(name="one_part_apart", parts_apart=1),
        SyntheticBirdsConfig(name="two_parts_apart", parts_apart=2),
        SyntheticBirdsConfig(name="three_parts_apart", parts_apart=3),
        SyntheticBirdsConfig(
            name="three_plumages",
            plumages=3,
            train_per_species=45,
            test_per_species=36,
        ),
        SyntheticBirdsConfig(
            name="200_species",
            num_species=200,
            parts_apart=1,
            train_per_species=30,
            test_per_species=30,
        ),
        SyntheticBirdsConfig(
            name="tiny",
            num_species=4,
            image_size=48,
            train_per_species=8,
            test_per_species=4,
        ),
    ]

    @property
    def species(self) -> tuple[Species, ...]:
        """The species, by label, in their first plumage."""
        return self.builder_config.species

    def species_description(self, label: int) -> str:
        """The parts of a species in one line, plumage after plumage.

        Args:
            label: in [0, num_species).

        Raises:
            ValueError: if there is no such label.
        """
        if not 0 <= label < len(self.species):
            raise ValueError(
                "species_description: label must lie in "
                f"[0, {len(self.species)}), received {label}."
            )
        plumages = self.builder_config.plumages_of[label]
        return "; or ".join(plumage.description for plumage in plumages)

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Draws the data set, if it is not prepared. Needs no network.

        Args:
            **kwargs: as in any TFDS builder.
        """
        # By default TFDS asks a bucket first, and offline waits for it.
        kwargs.setdefault(
            "download_config",
            tfds.download.DownloadConfig(try_download_gcs=False),
        )
        super().download_and_prepare(**kwargs)

    def _info(self) -> Any:
        size, features = self.builder_config.image_size, tfds.features
        names = [species.name for species in self.species]
        point = {
            "name": features.ClassLabel(names=PART_POINTS),
            "x": np.float32,
            "y": np.float32,
            "visible": np.bool_,
        }
        named = {
            "image": features.Image(
                shape=(size, size, 3), encoding_format="png"
            ),
            "image/filename": features.Text(),
            "label": features.ClassLabel(names=names),
            "label_name": features.Text(),
            "bbox": features.BBoxFeature(),
            "segmentation_mask": features.Image(
                shape=(size, size, 1), encoding_format="png"
            ),
            "parts": features.Sequence(point, length=len(PART_POINTS)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=features.FeaturesDict(named),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        config = self.builder_config
        return {
            "train": self._generate_examples("train", config.train_per_species),
            "test": self._generate_examples("test", config.test_per_species),
        }

    def _generate_examples(
        self, split: str, per_species: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        seed, size = self.builder_config.seed, self.builder_config.image_size
        for label, species in enumerate(self.species):
            folder = species.name.replace(" ", "_")
            plumages = self.builder_config.plumages_of[label]
            for index in range(per_species):
                # From the digest, so that more species or more photos add to
                # the photos of a smaller configuration and change none.
                key = f"{seed}/{split}/{species.name}/{index}"
                digest = hashlib.sha256(key.encode()).digest()
                numbers = np.frombuffer(digest, dtype="<u4").tolist()
                plumage = plumages[index % len(plumages)]
                image, annotations = draw(plumage, numbers, size)
                mask = 255 * annotations.mask[..., None].astype(np.uint8)
                yield (
                    key,
                    {
                        "image": image,
                        "image/filename": f"{folder}/{split}_{index:04}.png",
                        "label": label,
                        "label_name": species.name,
                        "bbox": tfds.features.BBox(*annotations.bbox),
                        "segmentation_mask": mask,
                        "parts": [
                            {"name": name, **dataclasses.asdict(point)}
                            for name, point in annotations.parts.items()
                        ],
                    },
                )

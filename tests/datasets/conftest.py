"""Small data sets on disk, shared by the tests of the data room."""

import io
import os
import pathlib
import types
import typing

import numpy as np
import pytest
from PIL import Image

from keras_finegrain import datasets

SPARROWS = "KERAS_FINEGRAIN_DATA"


def _draw(path, color=(200, 30, 30), size=(40, 30), mode="RGB"):
    """Writes a flat picture with a light corner, so that flips show."""
    width, height = size
    pixels = np.full((height, width, 3), color, np.uint8)
    pixels[: height // 3, : width // 3] = 240
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture(params=[datasets.load, datasets.check], ids=["load", "check"])
def call(request):
    """What is found when the data is listed, `check` finds too."""
    return request.param


@pytest.fixture
def draw():
    return _draw


@pytest.fixture
def folder(tmp_path):
    """Three classes of five pictures, one red, one green, one blue."""
    colors = {"crow": (200, 0, 0), "jay": (0, 200, 0), "rook": (0, 0, 200)}
    for name, color in colors.items():
        for i in range(5):
            _draw(tmp_path / "birds" / name / f"{i}.png", color)
    return tmp_path / "birds"


@pytest.fixture(scope="session")
def sparrows():
    """The folder with the prepared sparrows of caltech_birds2011."""
    data_dir = os.environ.get(SPARROWS)
    if not data_dir:
        pytest.skip(f"{SPARROWS} does not name the prepared sparrow photos")
    return data_dir


def _encoded(color, size=(8, 6)):
    """The bytes of a PNG of one color, with a light corner."""
    width, height = size
    pixels = np.full((height, width, 3), color, np.uint8)
    pixels[0, 0] = 250
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def builders():
    """TFDS builders of a few pictures; those that tests patch by name."""
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.features

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Gives `counts[split][label]` pictures of color `10 * label + i`."""

        VERSION = tfds.core.Version("1.0.0")
        counts: typing.ClassVar = {"train": [3, 4, 5], "test": [1, 2, 1]}
        names: typing.ClassVar = ["red_kite", "black_kite", "osprey"]

        def extra_features(self):
            return {}

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {
                        "image": features.Image(shape=(None, None, 3)),
                        "label": features.ClassLabel(names=self.names),
                        "bbox": features.BBoxFeature(),
                        **self.extra_features(),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {s: self._generate_examples(s) for s in self.counts}

        def example(self, label, i):
            return {
                "image": io.BytesIO(_encoded(10 * label + i)),
                "label": label,
                "bbox": features.BBox(0.5, 0.25, 1.0, 0.75),
            }

        def _generate_examples(self, split):
            for label, count in enumerate(self.counts[split]):
                for i in range(count):
                    yield f"{label}_{i}", self.example(label, i)

    class Kites(Small):
        """All classes in both splits."""

    class KitesTrainOnly(Small):
        counts: typing.ClassVar = {"train": [5, 5, 10]}

    class KitesValidation(Small):
        counts: typing.ClassVar = {"train": [2] * 3, "validation": [1] * 3}

    class KitesHeldBack(Small):
        counts: typing.ClassVar = {
            "train": [2] * 3,
            "validation": [1] * 3,
            "test": [2] * 3,
        }

        def _generate_examples(self, split):
            for key, example in super()._generate_examples(split):
                if split == "test":
                    example["label"] = -1
                yield key, example

    class KitesMini(KitesHeldBack):
        """A test split without labels, a part of train, and one to test on."""

        counts: typing.ClassVar = {
            "train": [2] * 3,
            "mini": [1] * 3,
            "val": [1] * 3,
            "test": [2] * 3,
        }

    class KitesExtra(Small):
        counts: typing.ClassVar = {"train": [2] * 3, "extra": [1] * 3}

    class KitesPartial(Small):
        """Names only in the records, pictures of two classes of four."""

        names: typing.ClassVar = [str(i) for i in range(4)]
        counts: typing.ClassVar = {"train": [0, 3, 0, 4], "test": [0, 1, 0, 2]}

        def extra_features(self):
            return {"label_name": features.Text()}

        def example(self, label, i):
            name = ["merlin", "hobby_falcon", "eagle", "stooping_falcon"]
            return {**super().example(label, i), "label_name": name[label]}

    class KitesNamed(Small):
        """Records with the name of their file."""

        def extra_features(self):
            return {"image/filename": features.Text()}

        def example(self, label, i):
            name = {"image/filename": f"{self.names[label]}/{i}.png"}
            return {**super().example(label, i), **name}

        def _generate_examples(self, split):
            for key, example in super()._generate_examples(split):
                name = example["image/filename"]
                yield key, {**example, "image/filename": f"{split}/{name}"}

    class KitesNamedTwice(KitesNamed):
        """The same names in both splits."""

        def _generate_examples(self, split):
            return Small._generate_examples(self, split)

    class KitesNoOspreyInTrain(Small):
        counts: typing.ClassVar = {"train": [3, 4, 0], "test": [1, 2, 1]}

    class KitesNoOspreyInTest(Small):
        counts: typing.ClassVar = {"train": [3, 4, 5], "test": [1, 2, 0]}

    class KitesDamaged(Small):
        """The images of the last class cannot be decoded."""

        def example(self, label, i):
            example = super().example(label, i)
            if label == 2:
                example["image"] = io.BytesIO(_encoded(3)[:40])
            return example

    class KitesGray(Small):
        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {
                        "picture": features.Image(shape=(6, 8, 1)),
                        "kind": features.ClassLabel(names=self.names),
                    }
                ),
                supervised_keys=("picture", "kind"),
            )

        def example(self, label, i):
            gray = np.full((6, 8, 1), 10 * label + i, np.uint8)
            return {"picture": gray, "kind": label}

    class KitesUnlabeled(Small):
        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {"image": features.Image(), "score": np.float32}
                ),
            )

    class KitesDownload(Small):
        """Reads its pictures' color from a file that it downloads."""

        def _split_generators(self, dl_manager):
            path = dl_manager.download(next(iter(self.url_infos)))
            assert pathlib.Path(path).read_text() == "kites"
            return super()._split_generators(dl_manager)

    class KitesByHand(Small):
        MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask the museum\nfor kites.zip."

    class KitesSkimage(Small):
        def _split_generators(self, dl_manager):
            return tfds.core.lazy_imports.skimage.color

    return types.SimpleNamespace(KitesDownload=KitesDownload)

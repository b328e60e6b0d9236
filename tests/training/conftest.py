"""What several tests of the training engine start from."""

import pytest

from keras_finegrain.training import ImageStream
from keras_finegrain.training.backbones import build_backbone
from tests.colored_photos import SMALL, colored_photos, split_of


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory):
    """A file of weights for the small backbone."""
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    build_backbone(SMALL).save_weights(path)
    return path


@pytest.fixture(scope="session")
def photos():
    return colored_photos()


@pytest.fixture(scope="session")
def split(photos):
    return split_of(photos)


@pytest.fixture(scope="session")
def image_folder(photos, tmp_path_factory):
    """The same photos in a folder, as a data set."""
    pytest.importorskip("tensorflow_datasets")
    from keras_finegrain import datasets

    root = tmp_path_factory.mktemp("colors")
    for number, encoded in enumerate(photos.encoded):
        name = photos.class_names[photos.labels[number]]
        path = root / name / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded)
    return datasets.load(root)


@pytest.fixture(scope="session")
def stream(image_folder):
    """The same photos, read by `tf.data`."""
    return ImageStream(image_folder)

"""Images that every example can train on."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "train_birds.py"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Three classes of colour and stripes, eight images each."""
    from PIL import Image

    root = tmp_path_factory.mktemp("birds")
    rng = np.random.default_rng(0)
    for index, name in enumerate(("ash_finch", "elm_finch", "oak_tit")):
        (root / name).mkdir()
        for number in range(8):
            image = rng.integers(0, 60, (40, 48, 3))
            image[..., index] += 150
            Image.fromarray(image.astype("uint8")).save(
                root / name / f"{number}.png"
            )
    return root


@pytest.fixture(scope="session")
def command():
    """`main` of the script, imported as the script imports its parts."""
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("train_birds", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.main
    sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory):
    from keras_finegrain.training import Settings
    from keras_finegrain.training.backbones import build_backbone

    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    settings = Settings(weights="none", image_size=16)
    build_backbone(settings).save_weights(path)
    return path

"""Images that every command can train on."""

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """No test reads or writes the features of who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("KERAS_FINEGRAIN_CACHE", str(folder))
        yield folder


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
    """`keras-finegrain train` with the small backbone."""
    from keras_finegrain.cli import main

    def train(arguments):
        arguments = [str(each) for each in arguments]
        if "--backbone" not in arguments:
            arguments += ["--backbone", "small"]
        return main(["train", *arguments])

    return train


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory):
    from keras_finegrain.training import Settings
    from keras_finegrain.training.backbones import build_backbone

    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    settings = Settings(weights="none", image_size=16)
    build_backbone(settings).save_weights(path)
    return path

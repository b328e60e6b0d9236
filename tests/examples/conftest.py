"""Images that every example can train on."""

import numpy as np
import pytest


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

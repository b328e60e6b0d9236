"""The example draws the features of both networks, as a user starts it."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "mnist_features.py"

pytest.importorskip("sklearn")


@pytest.mark.slow
def test_it_draws_and_measures_both_networks(tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, SCRIPT, "--epochs", "2"),
            *("--seeds", "0", "1", "--output", tmp_path / "seen"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    number = r"([\d.e-]+)"
    rows = re.findall(
        rf"^(\w+) \[{number}\s+{number}\s+{number}\] ± \[{number}",
        result.stdout,
        re.MULTILINE,
    )
    assert [row[0] for row in rows] == ["softmax", "center_loss"]
    for _, *values in rows:
        accuracy, recall, ratio, half = map(float, values)
        # Chance is 0.1 and 0.1, and 1 for classes that lie on each other.
        assert 0.2 < accuracy <= 1
        assert 0.3 < recall <= 1
        assert 0 < ratio < 0.9
        assert half > 0
    written = {path.name for path in (tmp_path / "seen").iterdir()}
    assert written == {"features.png", "softmax.gif", "center_loss.gif"}
    with Image.open(tmp_path / "seen" / "features.png") as image:
        panels = np.array_split(np.asarray(image.convert("L")), 2, axis=1)
    assert all(panel.std() > 5 for panel in panels)
    with Image.open(tmp_path / "seen" / "softmax.gif") as gif:
        assert gif.n_frames == 3  # The untrained network, and each epoch.

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


@pytest.mark.one_backend
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
    found = {
        (variant, name): (float(mean), float(half))
        for variant, name, mean, half in re.findall(
            r"^(\w+): (\w+) ([\d.]+) ± ([\d.]+)$", result.stdout, re.MULTILINE
        )
    }
    assert len(found) == 6
    for variant in ("softmax", "center_loss"):
        # Chance is 0.1 and 0.1, and 1 for classes that lie on each other.
        assert 0.2 < found[variant, "accuracy"][0] <= 1
        assert 0.3 < found[variant, "recall_at_1"][0] <= 1
        ratio, half = found[variant, "intra_inter_distance_ratio"]
        assert 0 < ratio < 0.9
        assert half > 0
    written = {path.name for path in (tmp_path / "seen").iterdir()}
    assert written == {"features.png", "softmax.gif", "center_loss.gif"}
    with Image.open(tmp_path / "seen" / "features.png") as image:
        panels = np.array_split(np.asarray(image.convert("L")), 2, axis=1)
    assert all(panel.std() > 5 for panel in panels)
    with Image.open(tmp_path / "seen" / "softmax.gif") as gif:
        assert gif.n_frames == 3  # The untrained network, and each epoch.

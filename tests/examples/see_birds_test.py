"""The example draws its pictures, as a user starts it."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.one_backend

pytest.importorskip("tensorflow_datasets")
SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "see_birds.py"


@pytest.mark.slow
def test_it_leaves_every_picture_and_the_page(tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, SCRIPT, "--dataset", "synthetic_birds/tiny"),
            *("--epochs", "1", "--output", tmp_path / "seen"),
        ],
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    written = {path.name for path in (tmp_path / "seen").iterdir()}
    assert {
        "report.html",
        "centers.png",
        "channels.png",
        "classes.png",
        "confusions.png",
        "embedding.png",
        "gallery.png",
        "grad_cam.png",
    } <= written

"""The example draws every picture, and its model can be loaded."""

import importlib
import pathlib
import sys

import keras
import pytest

pytestmark = pytest.mark.one_backend

pytest.importorskip("tensorflow_datasets")
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_it_leaves_every_picture_and_the_page(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    see_birds = importlib.import_module("see_birds")

    see_birds.main(
        [
            *("--dataset", "synthetic_birds/tiny", "--epochs", "1"),
            *("--data-dir", str(tmp_path / "data")),
            *("--output", str(tmp_path / "seen")),
        ]
    )

    written = {path.name for path in (tmp_path / "seen").iterdir()}
    assert written == {
        "birds.keras",
        "projector",
        "report.html",
        "embedding.html",
        "class_grid.jpg",
        "embedding_comparison.png",
        "look_alike_confusions.png",
        "retrieval_gallery.jpg",
        "center_distances.png",
        "center_images.jpg",
        "channel_strip.png",
        "channel_overlay.png",
        "grad_cam.png",
    }
    model = keras.models.load_model(tmp_path / "seen" / "birds.keras")
    assert model.output_shape == (None, 4)

"""The page's clients run as they stand, each on the file of the page."""

import pathlib
import re

import keras
import numpy as np
import pytest

from keras_finegrain.datasets import read_images
from keras_finegrain.datasets.synthetic_birds import draw, species_table

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "export.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="Keras writes all formats from TensorFlow alone.",
)
def test_the_clients_of_the_page_name_the_same_class(
    tmp_path, monkeypatch, capsys
):
    image = pytest.importorskip("PIL.Image")
    for module in ("onnxruntime", "ai_edge_litert", "tf2onnx"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    bird = species_table(num_species=2, parts_apart=4)[0]
    pixels = draw(bird, seed=0, size=120)[0][:90]
    image.fromarray(pixels).save("photo.jpg")
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        names: dict[str, object] = {}
        exec(compile(block, "export.md", "exec"), names)
        if "photo" in names:
            expected = read_images("photo.jpg", 64)[0]
            # (Pillow smooths with another filter; half a pixel aside would be
            # a mean difference of several levels.)
            assert np.abs(np.asarray(names["photo"]) - expected).mean() < 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    names, scores = zip(*(line.rsplit(" ", 1) for line in said), strict=True)
    assert set(names) <= {"house wren", "winter wren"}
    assert len(set(names)) == 1
    np.testing.assert_allclose([*map(float, scores)], float(scores[0]), 1e-5)

"""The code on the pages about the gallery runs."""

import pathlib
import re

import keras
import numpy as np
import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def run(page):
    (block,) = re.findall(
        r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL
    )
    names: dict[str, object] = {}
    exec(compile(block, page, "exec"), names)
    return names


def test_code_of_the_page_on_the_gallery_runs(monkeypatch, tmp_path, capsys):
    pytest.importorskip("tensorflow")
    pytest.importorskip("faiss")
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def draw(path, colour):
        pixels = np.array(colour) + rng.integers(-40, 40, (24, 24, 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

    colours = {
        "jay": (40, 40, 220),
        "robin": (220, 60, 40),
        "wren": (99, 80, 9),
    }
    for name, colour in colours.items():
        for number in range(40):
            draw(pathlib.Path("birds", name, f"{number}.png"), colour)
    draw(pathlib.Path("new.jpg"), colours["robin"])
    for number in (1, 2, 3):
        draw(pathlib.Path(f"owl{number}.jpg"), (240, 240, 240))
    keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    ).save("model.keras")

    names = run("gallery.md")

    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("robin ")
    assert re.match(r"robin/\d+\.png robin 0\.9", printed[2])
    gallery = names["gallery"]
    assert gallery.class_names == ("jay", "robin", "wren", "owl")
    assert gallery.identify("owl2.jpg")[0].class_name == "owl"


def test_code_of_the_page_on_vector_databases_runs():
    pytest.importorskip("faiss")
    pytest.importorskip("qdrant_client")
    names = run("vector_database.md")
    assert names["found"][0].payload == {"key": "0", "class_name": "class 0"}

"""The site's API has a page for every public name of the package."""

import importlib
import importlib.util
import inspect
import pathlib
import re

import keras
import numpy as np
import pytest
from PIL import Image

import keras_finegrain

pytestmark = pytest.mark.one_backend

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_public_name_is_without_a_page(hooks):
    with_page = set()
    for pages in hooks.api_pages().values():
        with_page |= set(pages)
    for room in hooks.ROOMS:
        module = importlib.import_module(room)
        for name in module.__all__:
            is_module = inspect.ismodule(getattr(module, name, None))
            if not is_module and name != "__version__":
                assert name in with_page, f"{room}.{name}"


def test_every_public_module_is_a_room_of_the_site(hooks):
    for name in keras_finegrain.__all__:
        if inspect.ismodule(getattr(keras_finegrain, name)):
            assert f"keras_finegrain.{name}" in hooks.ROOMS, name


def test_links_out_of_the_pages_become_links_within_the_site(hooks):
    page = type("Page", (), {})()
    page.file = type("File", (), {"src_uri": "methods/center_loss.md"})()
    text = "[a](../../examples/see_birds.py) [b](../losses.md)"
    assert hooks.on_page_markdown(text, page) == (
        "[a](../code/examples/see_birds.py.md) [b](../losses.md)"
    )


@pytest.mark.parametrize(
    "name",
    [
        "add_a_loss.md",
        pytest.param("layers.md", marks=pytest.mark.slow),
        "methods/center_loss.md",
        "methods/cosine_margins.md",
        "methods/mc_loss.md",
        "methods/pairs.md",
        "methods/soft_triple.md",
        "many_classes.md",
    ],
)
def test_code_of_the_page_runs(name, monkeypatch):
    monkeypatch.setenv("CLASSES", "40")
    page = (DOCS / name).read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(block, name, "exec"), names)


@pytest.mark.slow
def test_code_on_a_finished_run_runs(monkeypatch, tmp_path):
    pytest.importorskip("tf2onnx")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras_finegrain.SoftTriple(2),
        ]
    )
    photos = np.random.default_rng(0).uniform(0, 255, (6, 8, 8, 3))
    names = ("gull", "tern")
    gallery = keras_finegrain.Gallery.of(
        model, (photos, np.arange(6) % 2), names
    )
    bundle = keras_finegrain.Bundle(model, names, 8, 0.1, gallery)
    for run in ("sparrows", "my_run"):
        bundle.save(tmp_path / "runs" / run)
    (tmp_path / "new").mkdir()
    for photo in ("new/photo.jpg", "photo.jpg", "another.jpg"):
        Image.fromarray(photos[0].astype("uint8")).save(tmp_path / photo)
    monkeypatch.chdir(tmp_path)
    for name in ("your_photos.md", "command.md"):
        page = (DOCS / name).read_text()
        (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
        exec(compile(block, name, "exec"), {})
    assert (tmp_path / "sparrows.onnx").exists()


def test_the_home_page_begins_as_the_readme_does():
    """Whose code tests/readme_test.py runs."""
    (block,) = re.findall(
        r"```python\n.*?```", (DOCS / "index.md").read_text(), re.DOTALL
    )
    assert block in (DOCS.parent / "README.md").read_text()

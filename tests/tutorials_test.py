"""The tutorials run as they stand, and their pages show what they are."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.one_backend

DOCS = pathlib.Path(__file__).parents[1] / "docs"
# What each leaves where it was started.
LEFT = {
    "center_loss_on_digits": set(),
    "look_alike_photos": {
        "drawn_photos",
        "features.npz",
        "my_birds",
        "report.html",
        "report_errors.csv",
    },
    "model_to_app": {"birds", "birds.onnx", "known.npz"},
}


@pytest.fixture(scope="module")
def hooks():
    pytest.importorskip("jupytext")
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_tutorial_is_run():
    scripts = {path.stem for path in (DOCS / "tutorials").glob("*.py")}
    assert scripts == set(LEFT)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT)
def test_a_new_user_can_run_it(name, tmp_path):
    for package in ("sklearn", "faiss", "tensorflow_datasets", "onnxruntime"):
        pytest.importorskip(package)
    result = subprocess.run(
        [sys.executable, DOCS / "tutorials" / f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert {path.name for path in tmp_path.iterdir()} == LEFT[name]
    shares = [float(x) / 100 for x in re.findall(r"([\d.]+)%", result.stdout)]
    # The first is how often the network is right: far more than by chance.
    assert shares[0] > 0.5, result.stdout


@pytest.mark.parametrize("name", LEFT)
def test_the_page_is_that_of_the_script(hooks, name):
    # If it is not: python docs/notebooks.py
    page = (DOCS / "tutorials" / f"{name}.md").read_text()
    made = hooks.notebook(DOCS / "tutorials" / f"{name}.py")
    title, _, text = made.cells[0].source.partition("\n")
    place = page.index(title)
    for part in (text, *(cell.source for cell in made.cells[1:])):
        place = page.find(part.strip(), place)
        assert place >= 0, part


def test_a_page_shows_the_pictures_that_are_kept():
    kept = {path.name for path in (DOCS / "images" / "tutorials").iterdir()}
    shown = {
        pathlib.PurePath(target).name
        for page in (DOCS / "tutorials").glob("*.md")
        for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())
    }
    assert shown == kept


def test_the_notebook_of_a_keras_io_script_has_its_text_as_text(hooks):
    made = hooks.notebook(DOCS / "tutorials" / "center_loss_on_digits.py")
    assert made.cells[0].source.startswith("# Center loss seen on digits\n\n**")
    assert {cell.cell_type for cell in made.cells} == {"markdown", "code"}
    for cell in made.cells:
        assert cell.source
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec")
            assert not cell.source.startswith('"""')

"""The README's code runs, and its commands are the ones that are used."""

import pathlib
import re
import shlex
import sys

import keras
import pytest

import keras_finegrain
from keras_finegrain.cli.main import _parse

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.one_backend
@pytest.mark.slow
def test_code_blocks_run_one_after_the_other(monkeypatch, tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, object] = {}
    training, adding = BLOCKS
    exec(compile(training, "README.md", "exec"), names)
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last in names["birds"].class_names
    exec(compile(adding, "README.md", "exec"), names)
    model = names["model"]
    assert isinstance(model, keras.Model)
    assert model.output_shape == (None, 200)


def run_blocks(page):
    """The names that the code blocks of a page leave, run one by one."""
    text = (ROOT / "docs" / page).read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return names


def test_code_of_the_page_on_losses_runs():
    names = run_blocks("losses.md")
    assert names["classifier"].output_shape == (None, 200)
    assert names["embedder"].output_shape == (None, 64)
    assert names["linear"].output_shape == (None, 3)
    assert names["cosine"].output_shape == (None, 3)


@pytest.mark.one_backend
def test_code_of_the_page_on_metrics_and_pictures_runs(monkeypatch, tmp_path):
    page = (ROOT / "docs" / "seeing.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "seeing.md", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {
        "embedding.png",
        "report.html",
        "report_errors.csv",
    }


@pytest.mark.parametrize("room", ["callbacks", "metrics", "visualization"])
def test_every_metric_and_picture_stands_on_the_page(room):
    page = (ROOT / "docs" / "seeing.md").read_text()
    module = getattr(keras_finegrain, room)
    for name in getattr(module, "__all__", vars(module)):
        is_public = not name.startswith("_") and not name.isupper()
        file = f"{keras_finegrain.__name__}.{room}.{name}"
        if is_public and file not in sys.modules:
            assert name in page, name


def test_every_loss_stands_on_the_page():
    page = (ROOT / "docs" / "losses.md").read_text()
    for name in dir(keras_finegrain.losses):
        if name.endswith("Loss") and name != "MarginSoftmaxLoss":
            assert f"`{name}`" in page, name


def test_links_lead_to_files():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            # The site makes its pages of the API: tests/site_test.py.
            if "://" not in target and "api/" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def commands_of_the_pages():
    """Every line that is a command `keras-finegrain …`."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^keras-finegrain (.+)", text, re.M):
            words = shlex.split(line, comments=True)
            yield pytest.param(words, id=f"{page.name}: {line[:40]}")


@pytest.mark.one_backend
@pytest.mark.parametrize("words", list(commands_of_the_pages()))
def test_every_command_of_the_pages_is_understood(words):
    _parse(words)


def test_ci_takes_the_test_command_from_here():
    assert README.count("<!-- tests -->") == 1
    assert "<!-- tests -->" in (ROOT / ".ci" / "run").read_text()

"""`benchmarks/gpu.py` is ready for the day with a GPU: nothing is timed."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_finegrain
from keras_finegrain.datasets import Photos

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
BACKEND = keras.backend.backend()
NO_TENSORFLOW = """
import sys


class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *args):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets"):
            return None
        return self.finder.find_spec(name, *args)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Without, sys.meta_path)
"""


@pytest.fixture(scope="module")
def gpu():
    """The command, as a module."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A file of 24 photos of noise, of three classes."""
    generator = np.random.default_rng(0)
    count = 24
    encoded = []
    for pixels in generator.integers(0, 256, (count, 40, 48, 3), np.uint8):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        encoded.append(file.getvalue())
    path = tmp_path_factory.mktemp("photos") / "noise.npz"
    Photos(
        name="noise",
        encoded=tuple(encoded),
        labels=np.arange(count, dtype="int32") % 3,
        boxes=np.full((count, 4), np.nan, "float32"),
        is_test=np.arange(count) >= count // 2,
        class_names=("a", "b", "c"),
    ).save(path)
    return path


@pytest.fixture(scope="module")
def tiny(photos, tmp_path_factory):
    """Its process, run where TensorFlow is absent, and its folder."""
    if BACKEND == "tensorflow":
        pytest.skip("the command is for JAX and PyTorch")
    folder = tmp_path_factory.mktemp("gpu")
    absent = folder / "absent"
    absent.mkdir()
    (absent / "sitecustomize.py").write_text(NO_TENSORFLOW)
    process = subprocess.run(
        [
            # (More minutes than it needs on the busiest machine.)
            *(sys.executable, SCRIPT, "--tiny", "--minutes", "30"),
            *("--data", photos, "--output", folder / "output"),
        ],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": BACKEND, "PYTHONPATH": str(absent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return process, folder / "output"


def rows_below(page, title):
    """The cells of the table whose title begins so."""
    (table,) = re.findall(
        rf"^\*\*{re.escape(title)}.*\n\n\|.*\n\|[-:|]+\n((?:\|.*\n)*)",
        page,
        re.MULTILINE,
    )
    assert table, f"{title} has no rows"
    return [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in table.splitlines()
    ]


@pytest.mark.nightly
def test_the_tiny_run_ends_well_without_tensorflow(tiny):
    process, _ = tiny
    assert process.returncode == 0, process.stdout + process.stderr
    assert "failed" not in process.stdout
    assert "was ended" not in process.stdout


@pytest.mark.nightly
def test_the_page_is_what_was_printed_and_says_that_there_is_no_gpu(tiny):
    process, folder = tiny
    page = (folder / "gpu.md").read_text(encoding="utf-8")
    assert page == process.stdout
    if page.startswith("## CPU"):
        assert "No GPU was found" in page.splitlines()[2]


@pytest.mark.nightly
def test_no_public_layer_loss_or_regularizer_is_forgotten(tiny):
    rows = rows_below(tiny[0].stdout, "float32 on ")
    assert {row[-1] for row in rows} == {"yes"}
    public = {
        name
        for room in (keras_finegrain.layers, keras_finegrain.losses)
        for name, kind in vars(room).items()
        if isinstance(kind, type)
    }
    # (A base, which computes nothing, and a draw, which differs by device.)
    public -= {"MarginSoftmaxLoss", "Jigsaw"}
    assert {row[0] for row in rows} == public | {"CenterMerging"}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("title", "first"),
    [
        ("One product of ", "float32"),
        ("MobileNet, mixed_bfloat16, 64 × 64**", "plain, batch 2"),
        ("MobileNet, mixed_bfloat16, 64 × 64, with", "with CenterLoss"),
        ("CenterLoss alone", "10"),
        ("SoftTriple alone", "10"),
        ("Losses on all pairs", "E·Eᵀ and its gradient"),
        ("Beside PyTorch Metric Learning: 12 classes", "peer, PyTorch"),
        ("Beside PyTorch Metric Learning: all triplets", "peer, PyTorch"),
    ],
)
def test_every_row_of_a_table_has_its_time(tiny, title, first):
    rows = rows_below(tiny[0].stdout, title)
    assert rows[0][0] == first
    for name, time, *_ in rows:
        # What failed has its error there.
        assert re.fullmatch(r"[\d.,]+", time), f"{name}: {time}"


@pytest.mark.nightly
def test_an_epoch_is_timed_beside_the_peer_and_what_is_missing_is_named(tiny):
    page = tiny[0].stdout
    assert "ours, TensorFlow graph (without tensorflow)" in page
    started = rows_below(page, "From the start of the process")
    timed = rows_below(page, "An epoch, 1 in turns")
    for name, *numbers in started:
        assert len(numbers) == 2, f"{name}: {numbers}"
    own = {"jax": "JAX", "torch": "PyTorch"}[BACKEND]
    names = [row[0] for row in timed]
    assert names == [row[0] for row in started]
    assert names[:2] == [f"ours, {own}", "PyTorch Metric Learning"]


@pytest.mark.nightly
def test_fit_is_compared_under_data_parallel_where_keras_has_it(tiny):
    page = tiny[0].stdout
    if BACKEND != "jax":
        assert "keras.distribution.DataParallel: not on PyTorch" in page
        return
    rows = rows_below(page, "`fit` under DataParallel")
    assert [(row[0], row[2]) for row in rows] == [
        ("CenterLoss", "yes"),
        ("SoftTriple", "yes"),
    ]


@pytest.mark.nightly
def test_the_runs_on_photos_are_kept_beside_the_page(tiny):
    _, folder = tiny
    (line,) = (folder / "evidence.jsonl").read_text().splitlines()
    assert json.loads(line)["arm"] == "tiny/softmax"


def page_of(gpu, tmp_path, monkeypatch, program, seconds):
    """What a page makes of a script, and whether that ended well."""
    (tmp_path / "script.py").write_text(program)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    file = io.StringIO()
    page = gpu.Page(file, dict(os.environ))
    ended_well = page.run("script.py", seconds=seconds)
    return file.getvalue(), ended_well


def test_a_script_whose_time_is_up_keeps_what_it_printed(
    gpu, tmp_path, monkeypatch
):
    text, ended_well = page_of(
        *(gpu, tmp_path, monkeypatch),
        "import time\nprint('kept', flush=True)\ntime.sleep(60)",
        seconds=2,
    )
    assert text.startswith("kept\n")
    assert "was ended" in text
    assert ended_well


def test_a_script_that_fails_is_named_and_ends_no_other(
    gpu, tmp_path, monkeypatch
):
    text, ended_well = page_of(
        *(gpu, tmp_path, monkeypatch),
        "print('kept')\nraise SystemExit(3)",
        seconds=60,
    )
    assert "script.py failed, with exit code 3" in text
    assert not ended_well


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("tensorflow", ["--parts", "1"], "KERAS_BACKEND must be jax or torch"),
        ("jax", ["--parts", "3"], "--data None: part 3 needs the file"),
        ("jax", ["--data", "no.npz"], "--data no.npz: part 3 needs the file"),
        ("jax", ["--parts", "4"], "--data None: part 4 needs the file"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(
    gpu, tmp_path, monkeypatch, capsys, backend, options, message
):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    output = tmp_path / "output"
    assert gpu.main([*options, "--output", str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_part_that_ends_early_leaves_its_time_to_the_next(
    gpu, photos, tmp_path, monkeypatch
):
    given = []
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(
        gpu.Page,
        "run",
        lambda page, script, *options, seconds: given.append(seconds) or True,
    )
    options = ["--minutes", "10", "--only", "tail/*"]
    options += ["--data", str(photos), "--output", str(tmp_path)]
    assert gpu.main(options) == 0
    own = [seconds - gpu.GRACE_SECONDS for seconds in given]
    # The scripts of part 1, of part 2, a pattern of part 3, and part 4.
    np.testing.assert_allclose(own, [90, 90, 212, 382, 600], atol=10)

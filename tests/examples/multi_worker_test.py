"""The example on several workers, as a user starts it."""

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

# Registers the layers of the saved model.
import keras_finegrain  # noqa: F401

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "multi_worker.py"

pytest.importorskip("tensorflow_datasets")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="TF_CONFIG is TensorFlow's",
)


def run(*arguments):
    environment = dict(os.environ)
    environment.pop("TF_CONFIG", None)
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def numbers(printed):
    """The numbers of every epoch's line."""
    lines = [line for line in printed.splitlines() if "val_loss" in line]
    return [
        {
            name: float(value)
            for name, value in re.findall(r"(\w+): ([\d.]+)", line)
        }
        for line in lines
    ]


@pytest.mark.slow
def test_two_workers_print_what_one_prints(folder, tmp_path):
    results = {}
    for count in (1, 2):
        result = run(
            *("--local-workers", count, "--dataset", folder),
            *("--epochs", 2, "--batch-size", 6, "--output", tmp_path / "out"),
        )
        assert result.returncode == 0, result.stderr[-4000:]
        results[count] = numbers(result.stdout)
        # Without labels, on one machine.
        model = keras.models.load_model(tmp_path / "out" / "model.keras")
        assert model.predict(np.zeros((2, 64, 64, 3)), verbose=0).shape == (
            2,
            3,
        )
    assert len(results[1]) == 2
    for one, two in zip(results[1], results[2], strict=True):
        assert one["center_loss"] > 0
        for name in ("loss", "accuracy", "center_loss"):
            assert two[name] == pytest.approx(one[name], rel=1e-3), name


@pytest.mark.slow
def test_a_worker_that_fails_ends_them_all():
    result = run("--local-workers", 2, "--dataset", "./nowhere")
    assert result.returncode == 1
    assert "nowhere" in result.stderr


def test_without_a_configuration_it_says_what_to_set():
    result = run()
    assert result.returncode == 2
    assert "TF_CONFIG" in result.stderr
    assert len(result.stderr.splitlines()) == 1

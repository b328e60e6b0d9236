"""The example on several workers, as a user starts it."""

import pathlib
import re

import keras
import numpy as np
import pytest
from PIL import Image

# Registers the layers of the saved model.
import keras_finegrain  # noqa: F401
from tests.workers import finish, start, worker_environments

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "multi_worker.py"

pytest.importorskip("tensorflow_datasets")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="TF_CONFIG is TensorFlow's",
)


@pytest.fixture
def folder(tmp_path):
    """Three classes of colour, eight images each."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(("ash_finch", "elm_finch", "oak_tit")):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for number in range(8):
            image = rng.integers(0, 60, (40, 48, 3))
            image[..., index] += 150
            Image.fromarray(image.astype("uint8")).save(
                tmp_path / "birds" / name / f"{number}.png"
            )
    return tmp_path / "birds"


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


@pytest.mark.nightly
def test_two_workers_print_what_one_prints(folder, tmp_path):
    results = {}
    for count in (1, 2):
        arguments = [
            *(SCRIPT, "--dataset", folder, "--epochs", 2),
            *("--batch-size", 6, "--output", tmp_path / f"{count}"),
        ]
        environments = worker_environments(count)
        if count == 1:
            del environments[0]["TF_CONFIG"]
        first, *_ = finish([start(arguments, each) for each in environments])
        results[count] = numbers(first)
        # Without labels, on one machine.
        model = keras.models.load_model(tmp_path / f"{count}" / "model.keras")
        scores = model.predict(np.zeros((2, 64, 64, 3)), verbose=0)
        assert scores.shape == (2, 3)
    assert len(results[1]) == 2
    for one, two in zip(results[1], results[2], strict=True):
        assert one["center_loss"] > 0
        for name in ("loss", "accuracy", "center_loss"):
            assert two[name] == pytest.approx(one[name], rel=1e-3), name

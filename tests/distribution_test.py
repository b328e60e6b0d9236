"""Any number of replicas computes what one device computes."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests import workers

BACKEND = keras.backend.backend()

pytestmark = pytest.mark.skipif(
    BACKEND == "torch", reason="Keras distributes no training on PyTorch"
)


# What two replicas run; four and two workers run all scenarios.
ON_TWO = (
    ("all_layers", "two_center_losses", "soft_triple_ragged", "triplets_ragged")
    if BACKEND == "tensorflow"
    else ("all_layers", "triplets")
)


def run(replicas, output, scenarios=()):
    """Runs the program; one strategy a process is all that Keras bears."""
    environment = {**os.environ, "KERAS_BACKEND": BACKEND}
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.programs.replicas",
            str(replicas),
            str(output),
            *scenarios,
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return results_of(output)


def results_of(path):
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return run(1, tmp_path_factory.mktemp("one") / "results.npz")


def assert_equal(results, one_device):
    for key, value in results.items():
        tolerance = 1e-6
        if BACKEND == "tensorflow" and "float64" in key:
            tolerance = 1e-10
        np.testing.assert_allclose(
            value, one_device[key], rtol=tolerance, atol=tolerance, err_msg=key
        )
        if key.endswith("replica spread"):
            assert value == 0


@pytest.mark.slow
def test_four_replicas_equal_one_device(one_device, tmp_path):
    results = run(4, tmp_path / "results.npz")
    scenarios = {key.split("/")[0] for key in results}
    assert len(scenarios) == (14 if BACKEND == "tensorflow" else 7)
    assert results.keys() == one_device.keys()
    assert_equal(results, one_device)


@pytest.mark.slow
def test_two_replicas_equal_one_device(one_device, tmp_path):
    results = run(2, tmp_path / "results.npz", ON_TWO)
    assert {key.split("/")[0] for key in results} == set(ON_TWO)
    assert_equal(results, one_device)


@pytest.mark.slow
def test_fit_on_two_workers_equals_one_device(one_device, tmp_path):
    outputs = [tmp_path / f"{index}.npz" for index in range(2)]
    workers.finish(
        [
            workers.start(
                ["-m", "tests.programs.replicas", 1, output], environment
            )
            for output, environment in zip(
                outputs, workers.worker_environments(2), strict=True
            )
        ],
        timeout=600,
    )
    for output in outputs:
        results = results_of(output)
        assert {key for key in one_device if "predictions" not in key} <= (
            results.keys()
        )
        assert_equal(results, one_device)

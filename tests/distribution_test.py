"""Any number of replicas computes what one device computes."""

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_finegrain._base.private_keras import trains_on_ranks
from tests import workers

BACKEND = keras.backend.backend()

# On TensorFlow every replica has a graph of its own, and each takes its time
# to build: four run those that four may tell from two, two run the others, and
# workers what goes between processes.
ON_FOUR = ON_TWO = ON_WORKERS = ()
if BACKEND == "tensorflow":
    ON_FOUR = (
        *("all_layers_float64", "ragged", "ragged_to_one", "ragged_first"),
        *("triplets_ragged", "proxy_anchor_ragged", "arc_face_sum_ragged"),
    )
    ON_TWO = (
        *("all_layers", "keras_alone", "two_center_losses", "sampled_classes"),
        *("trained_centers_float64", "ragged_class_mean", "triplets"),
        *("soft_triple_ragged", "n_pairs", "memory_ragged"),
    )
    ON_WORKERS = (
        *("all_layers", "ragged_first", "ragged_class_mean", "triplets_ragged"),
        *("proxy_anchor_ragged", "soft_triple_ragged", "sampled_classes"),
    )
elif BACKEND == "torch":
    # (Keras's normalisation has no statistics of all processes there.)
    ON_WORKERS = (
        *("triplets_ragged", "n_pairs", "arc_face_sum_ragged"),
        *("proxy_anchor_ragged", "ragged_class_mean", "soft_triple_ragged"),
        "sampled_classes",
    )
SCENARIOS = {"tensorflow": 17, "jax": 8, "torch": len(ON_WORKERS)}[BACKEND]


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
    scenarios = ON_WORKERS if BACKEND == "torch" else ()
    return run(1, tmp_path_factory.mktemp("one") / "results.npz", scenarios)


def assert_equal(results, one_device, scenarios=()):
    """Compares all that was measured in the scenarios, or in all of them."""
    expected = {
        key
        for key in one_device
        if not scenarios or key.split("/")[0] in scenarios
    }
    assert scenarios or len({key.split("/")[0] for key in expected}) == (
        SCENARIOS
    )
    # (Keras cannot predict on several processes of JAX, and before 3.16 not
    # train on those of PyTorch: what a loop of its own trains is compared.)
    fits = BACKEND != "torch" or trains_on_ranks()
    assert {
        key
        for key in expected
        if "predictions" not in key and (fits or "weight" in key)
    } <= results.keys()
    assert results.keys() <= expected
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
@pytest.mark.skipif(BACKEND == "torch", reason="a replica is a process there")
def test_four_replicas_equal_one_device(one_device, tmp_path):
    results = run(4, tmp_path / "results.npz", ON_FOUR)
    assert_equal(results, one_device, ON_FOUR)


@pytest.mark.slow
@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="four or workers run all scenarios there"
)
def test_two_replicas_equal_one_device(one_device, tmp_path):
    results = run(2, tmp_path / "results.npz", ON_TWO)
    assert_equal(results, one_device, ON_TWO)


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="four or workers run all scenarios there"
)
def test_no_scenario_is_left_to_the_workers_alone():
    assert len({*ON_FOUR, *ON_TWO}) == SCENARIOS


@pytest.mark.slow
def test_fit_on_two_workers_equals_one_device(one_device, tmp_path):
    outputs = [tmp_path / f"{index}.npz" for index in range(2)]
    workers.finish(
        [
            workers.start(
                ["-m", "tests.programs.replicas", 1, output, *ON_WORKERS],
                environment,
            )
            for output, environment in zip(
                outputs, workers.worker_environments(2), strict=True
            )
        ],
        timeout=600,
    )
    for output in outputs:
        assert_equal(results_of(output), one_device, ON_WORKERS)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="there it needs Keras 3.16")
def test_the_recipe_of_the_page_runs(tmp_path):
    page = pathlib.Path(__file__).parents[1] / "docs" / "distribution.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    name = {"tensorflow": "MirroredStrategy", "jax": "DataParallel"}[BACKEND]
    scope = next(block for block in blocks if name in block)
    script = tmp_path / "recipe.py"
    script.write_text(
        blocks[0] + scope + "import numpy as np\n"
        "x = np.random.default_rng(0).random((8, 64, 64, 3), 'float32')\n"
        "model.fit(x, np.arange(8), batch_size=4, verbose=0)\n"
    )
    flags = "--xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags}
    workers.finish([workers.start([script], environment)])

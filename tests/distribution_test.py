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

# Each scenario takes its time to build, for every replica. These few run on
# every change, all of them at night.
ON_REPLICAS = {
    "tensorflow": ("all_layers_float64", "ragged_to_one", "triplets_ragged"),
    "jax": ("all_layers", "triplets"),
    "torch": (),
}[BACKEND]
ON_WORKERS = {
    "tensorflow": ("ragged_first", "proxy_anchor_ragged"),
    "jax": ("all_layers",),
    "torch": ("ragged_class_mean", "triplets_ragged"),
}[BACKEND]
ALL_ON_WORKERS = {
    "tensorflow": (
        *("all_layers", "ragged_first", "ragged_class_mean"),
        *("triplets_ragged", "proxy_anchor_ragged", "soft_triple_ragged"),
        "sampled_classes",
    ),
    "jax": (),  # All that there are.
    # (Keras's normalisation has no statistics of all processes there.)
    "torch": (
        *("triplets_ragged", "n_pairs", "arc_face_sum_ragged_float64"),
        *("proxy_anchor_ragged", "ragged_class_mean", "soft_triple_ragged"),
        "sampled_classes",
    ),
}[BACKEND]


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


def assert_equal(results, one_device):
    """Compares all that was measured."""
    expected = set(one_device)
    assert expected
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
@pytest.mark.parametrize(
    ("replicas", "scenarios"),
    [
        pytest.param(4, ON_REPLICAS, id="4"),
        pytest.param(4, (), id="4-all", marks=pytest.mark.nightly),
        pytest.param(2, (), id="2-all", marks=pytest.mark.nightly),
    ],
)
def test_replicas_equal_one_device(replicas, scenarios, tmp_path):
    one_device = run(1, tmp_path / "one.npz", scenarios)
    assert_equal(run(replicas, tmp_path / "several.npz", scenarios), one_device)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenarios",
    [
        pytest.param(ON_WORKERS, id="some"),
        pytest.param(ALL_ON_WORKERS, id="all", marks=pytest.mark.nightly),
    ],
)
def test_fit_on_two_workers_equals_one_device(scenarios, tmp_path):
    one_device = run(1, tmp_path / "one.npz", scenarios)
    outputs = [tmp_path / f"{index}.npz" for index in range(2)]
    workers.finish(
        [
            workers.start(
                ["-m", "tests.programs.replicas", 1, output, *scenarios],
                environment,
            )
            for output, environment in zip(
                outputs, workers.worker_environments(2), strict=True
            )
        ],
        timeout=900,
    )
    for output in outputs:
        assert_equal(results_of(output), one_device)


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

"""Centers that are sharded by class train as they do on one device."""

import json
import math
import os
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_finegrain
from tests import workers

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax",
    reason="only JAX trains under keras.distribution.ModelParallel",
)
CLASSES, DIM, BATCH = 64, 24, 16


def run(batch_devices, model_devices, output):
    workers.finish(
        [
            workers.start(
                (
                    *("-m", "tests.programs.sharded"),
                    *(batch_devices, model_devices, output),
                ),
                None,
            )
        ]
    )
    with np.load(output) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return run(1, 1, tmp_path_factory.mktemp("one") / "results.npz")


@pytest.fixture(
    scope="module",
    params=[pytest.param((1, 8), marks=pytest.mark.nightly), (2, 4)],
    ids=str,
)
def sharded(request, tmp_path_factory):
    output = tmp_path_factory.mktemp("sharded") / "results.npz"
    return request.param, run(*request.param, output)


@pytest.mark.slow
def test_sharded_centers_equal_one_device(sharded, one_device):
    _, results = sharded
    compared = [key for key in one_device if key[:4] in ("fit ", "vari")]
    assert any("centers_momentum" in key for key in compared)
    for key in compared:
        np.testing.assert_allclose(
            results[key], one_device[key], rtol=1e-6, atol=1e-6, err_msg=key
        )


@pytest.mark.slow
def test_each_device_holds_its_share_of_the_classes(sharded):
    (_, model_devices), results = sharded
    held = json.loads(str(results["held"]))
    shares = {
        shape[0]
        for path, shapes in held.items()
        if "centers" in path
        for shape in shapes
    }
    assert shares == {CLASSES // model_devices}


@pytest.mark.slow
def test_no_step_moves_a_table_between_the_devices(sharded):
    (batch_devices, model_devices), results = sharded
    moved = json.loads(str(results["moved"]))
    assert moved, "the devices have to exchange something"
    largest = max(math.prod(shape) for _, shape in moved)
    if batch_devices == 1:
        # What is as large as a batch of embeddings, never the classes.
        assert largest <= BATCH * DIM
        assert all(CLASSES not in shape for _, shape in moved)
    else:
        # The replicas of a shard add up their gradients.
        assert largest <= 3 * CLASSES // model_devices * DIM


def test_an_axis_that_the_mesh_does_not_have_is_named():
    mesh = keras.distribution.DeviceMesh(
        (1, 1), ("batch", "model"), keras.distribution.list_devices()[:1]
    )
    with pytest.raises(ValueError, match=r"'batch', 'model'.*'classes'"):
        keras_finegrain.distribution.class_layout_map(mesh, axis="classes")


@pytest.mark.slow
def test_the_script_of_the_page_shares_out_the_classes(tmp_path):
    docs = pathlib.Path(__file__).parents[1] / "docs"
    (code,) = re.findall(
        r"```python\n(.*?)```", (docs / "many_classes.md").read_text(), re.S
    )
    script = tmp_path / "many.py"
    script.write_text(
        code + "head = model.layers[-1]\n"
        "shards = head.centers.value.addressable_shards\n"
        "assert [s.data.shape[0] for s in shards] == [10] * 4, shards\n"
    )
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "CLASSES": "40", "XLA_FLAGS": flags}
    workers.finish([workers.start([script], environment)])

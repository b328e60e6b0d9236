"""`import keras_finegrain` is light and needs one backend alone."""

import subprocess
import sys

import keras
import pytest

import keras_finegrain

HEAVY = ("tensorflow_datasets", "matplotlib", "sklearn")
BACKENDS = ("tensorflow", "jax", "torch")


def run(code):
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout.split()


def test_nothing_heavy_is_imported():
    # Keras imports some of them by itself, where they are installed.
    loaded = run(
        "import sys, keras\n"
        f"before = [name for name in {HEAVY} if name in sys.modules]\n"
        "import keras_finegrain\n"
        f"after = [name for name in {HEAVY} if name in sys.modules]\n"
        "print(*(set(after) - set(before)))"
    )
    assert loaded == []


def test_other_backends_are_not_needed():
    others = [name for name in BACKENDS if name != keras.backend.backend()]
    output = run(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def find_other(name, path=None, target=None):\n"
        f"    absent = name.split('.')[0] in {others}\n"
        "    return None if absent else find(name, path, target)\n"
        "PathFinder.find_spec = find_other\n"
        "import numpy as np, keras_finegrain as kf\n"
        "model = kf.Sequential([kf.CenterLoss(2), kf.SoftTriple(2)])\n"
        "model.compile('sgd', kf.losses.SoftTripleLoss())\n"
        "x, y = np.ones((2, 3), 'float32'), np.array([0, 1])\n"
        "model.fit(x, y, verbose=0)\n"
        "print('trained')"
    )
    assert output[-1] == "trained"


@pytest.mark.parametrize(
    "name", ["CenterLoss", "MCLoss", "SoftTriple", "Model", "Sequential"]
)
def test_classes_are_registered_under_the_package(name):
    registered = keras.saving.get_registered_object(f"keras_finegrain>{name}")
    assert registered is getattr(keras_finegrain, name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_is_not_installed_is_named_with_its_extra(backend):
    output = run(
        "import importlib.abc, os, sys\n"
        f"os.environ['KERAS_BACKEND'] = {backend!r}\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.split('.')[0] in {BACKENDS}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "try:\n"
        "    import keras_finegrain\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)"
    )
    assert f"[{backend}]" in "".join(output)

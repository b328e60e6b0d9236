"""A run that is killed and resumed ends as if it had never been killed."""

import json
import os
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

for package in ("tensorflow_datasets", "matplotlib", "sklearn", "tqdm", "PIL"):
    pytest.importorskip(package)


# They run once: files are the same on every backend.
pytestmark = pytest.mark.one_backend
COMMAND = [sys.executable, "-m", "keras_finegrain", "train"]
# Files are put in place so many times, a model twice (by Keras and by us).
MOMENTS = 22
# One before the first result, one before the table of the last.
SOME = (5, 17)


def arguments(folder, output):
    return [
        *(str(folder), "--method", "softmax", "center"),
        *("--image-size", "16", "--epochs", "1", "--batch-size", "12"),
        *("--embedding-size", "4", "--augment", "none", "--report"),
        *("--backbone", "small", "--output", str(output)),
    ]


def contents(output):
    """What is in each file, as far as a second run would have it too."""
    return {
        str(path.relative_to(output)): content(path)
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def content(path):
    if path.suffix == ".keras":
        model = keras.models.load_model(path)
        return [weight.tobytes() for weight in model.get_weights()]
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name].tobytes() for name in file.files}
    if path.suffix != ".json":
        return path.read_bytes()
    results = json.loads(path.read_text())
    if path.name == "bundle.json":
        del results["about"]["arguments"]["output"]
        return results
    del results["arguments"]["output"]
    for seeds in results["seeds"].values():
        for metrics in seeds.values():
            del metrics["seconds"]
    for summary in results["summary"].values():
        del summary["seconds"]
    return results


@pytest.fixture(scope="module")
def whole(folder, command, tmp_path_factory):
    """A run without a break, and its folder before each of its files.

    What is in the folder at a moment is what a kill at that moment leaves.
    """
    root = tmp_path_factory.mktemp("killed")
    output, moments = root / "output", []
    replace = os.replace

    def copy_and_replace(source, target):
        if str(target).startswith(f"{output}/"):
            moments.append(root / f"{len(moments)}")
            shutil.copytree(output, moments[-1])
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", copy_and_replace)
        assert command(arguments(folder, output)) == 0
    files = contents(output)
    # Two results, each with its history and table, and of each method the four
    # files of its bundle, its page and the errors; two pictures.
    assert len(files) == 17
    assert len(moments) == MOMENTS
    return files, moments


def assert_resumes(output, folder, command, expected):
    assert command([*arguments(folder, output), "--resume"]) == 0
    found = contents(output)
    assert found.keys() == expected.keys()
    for name, content_of_whole in expected.items():
        assert found[name] == content_of_whole, name


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(n, marks=() if n in SOME else pytest.mark.nightly)
        for n in range(MOMENTS)
    ],
)
def test_killed_before_any_file_it_ends_as_if_it_had_lived(
    whole, moment, folder, command, tmp_path
):
    files, moments = whole
    output = tmp_path / "output"
    shutil.copytree(moments[moment], output)

    assert_resumes(output, folder, command, files)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_time_it_ends_as_if_it_had_lived(
    whole, seed, folder, command, tmp_path
):
    output = tmp_path / "output"
    process = subprocess.Popen(
        [*COMMAND, *arguments(folder, output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "Results go to" in line:
            break
    # Two trainings, two pages and two pictures take about ten seconds.
    time.sleep(10 * np.random.default_rng(seed).random())
    process.kill()
    process.wait()
    process.stderr.close()

    assert_resumes(output, folder, command, whole[0])


@pytest.mark.slow
def test_missing_files_are_made_again_and_partial_ones_removed(
    whole, folder, command, tmp_path
):
    files, moments = whole
    output = tmp_path / "output"
    shutil.copytree(moments[-1], output)
    for name in ("center/tested.npz", "softmax/report.html", "results.md"):
        (output / name).unlink()
    assert len(list(output.rglob(".partial-*"))) == 1
    # The name that earlier versions wrote under.
    (output / "results.json.partial").write_text("{")

    assert_resumes(output, folder, command, files)

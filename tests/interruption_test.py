"""A process that dies in mid-epoch loses nothing and counts nothing twice."""

import os

import keras
import numpy as np
import pytest

from tests import workers

BACKEND = keras.backend.backend()
PROGRAM = ("-m", "tests.programs.interrupted")
STAND_STILL = (2, 3)  # Third epoch, fourth of five batches.


def variables(path):
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def uninterrupted(tmp_path, environments):
    outputs = [tmp_path / f"whole_{i}.npz" for i in range(len(environments))]
    workers.finish(
        [
            workers.start((*PROGRAM, output.with_suffix(""), output), env)
            for output, env in zip(outputs, environments, strict=True)
        ]
    )
    return [variables(output) for output in outputs]


def killed_and_restarted(tmp_path, make_environments):
    """The last process is killed where it stands; then all start again."""
    environments = make_environments()
    count = len(environments)
    outputs = [tmp_path / f"output_{index}.npz" for index in range(count)]
    arguments = [
        (*PROGRAM, tmp_path / f"backup_{index}", outputs[index])
        for index in range(count)
    ]
    processes = [
        workers.start(
            (*own, *STAND_STILL) if own is arguments[-1] else own, environment
        )
        for own, environment in zip(arguments, environments, strict=True)
    ]
    try:
        for line in processes[-1].stdout:
            if line == "standing still\n":
                break
        else:
            raise AssertionError("the program ended before it could be killed")
    finally:
        # The last one first: the others then wait in mid-epoch for a peer
        # that is gone, until they are stopped too.
        for process in reversed(processes):
            process.kill()
            process.wait()
    assert not any(output.exists() for output in outputs)

    printed = workers.finish(
        [
            workers.start(own, environment)
            for own, environment in zip(
                arguments, make_environments(), strict=True
            )
        ]
    )
    for text in printed:
        # It went on from where it was, and did not start anew.
        epochs = [line for line in text.splitlines() if line[:6] == "epoch "]
        assert epochs == ["epoch 2", "epoch 3"]
    return [variables(output) for output in outputs]


def assert_the_same(restarted, whole):
    assert restarted.keys() == whole.keys()
    assert any(key.endswith("centers") for key in whole)
    for key, value in whole.items():
        np.testing.assert_array_equal(restarted[key], value, err_msg=key)


@pytest.mark.slow
def test_a_killed_process_ends_as_if_it_had_lived(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": BACKEND}

    (whole,) = uninterrupted(tmp_path, [environment])
    (restarted,) = killed_and_restarted(tmp_path, lambda: [environment])

    assert_the_same(restarted, whole)


@pytest.mark.nightly
@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="only TensorFlow knows such a strategy"
)
def test_a_killed_worker_ends_as_if_it_had_lived(tmp_path):
    whole = uninterrupted(tmp_path, workers.worker_environments(2))
    restarted = killed_and_restarted(
        tmp_path, lambda: workers.worker_environments(2)
    )

    for index in range(2):
        assert_the_same(restarted[index], whole[index])
    assert_the_same(restarted[0], restarted[1])

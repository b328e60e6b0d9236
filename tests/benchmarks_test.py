"""The benchmarks still run: nothing is timed here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.nightly

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = (
    "center_loss",
    "growth",
    "input_pipeline",
    "mc_loss",
    "pair_losses",
    "real_step",
    "retrieval",
    "soft_triple",
    "start",
)
# These have no part that depends on the backend, or none that others have not.
OF_ONE_BACKEND = ("growth", "input_pipeline", "real_step", "retrieval", "start")

# The rows of one table end with one loss.
SIDE_BY_SIDE = ("mc_loss", "pair_losses", "soft_triple")
LOSS = re.compile(r" (-?\d+\.\d{4,}) \|$", re.MULTILINE)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_runs_to_its_end(script, tmp_path):
    backend = keras.backend.backend()
    if script in OF_ONE_BACKEND and backend != "tensorflow":
        pytest.skip(f"{script} has nothing of its own on {backend}")
    command = [sys.executable, str(BENCHMARKS / f"{script}.py")]
    command += ["--tiny", "--rounds", "1", "--backends", backend]
    if script == "pair_losses" and backend == "torch":
        command.append("--peer")

    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    rows = [
        line.strip("|").split("|")
        for line in result.stdout.splitlines()
        if line.startswith("| ") and not line.startswith(("| |", "|  |"))
    ]
    assert rows, result.stdout
    for name, ratio, *_ in rows:
        # A case that failed has its error there.
        assert re.fullmatch(r" *[\d.,]+ *", ratio), f"{name}: {ratio}"
    if script in SIDE_BY_SIDE:
        for table in result.stdout.split("\n\n"):
            losses = [float(loss) for loss in LOSS.findall(table)]
            np.testing.assert_allclose(losses, losses[:1] * len(losses), 1e-4)


def test_two_versions_run_side_by_side():
    backend = keras.backend.backend()
    if backend == "jax":
        pytest.skip("compiles each of its steps for a tiny table")
    command = [sys.executable, str(BENCHMARKS / "versions.py"), "--tiny"]
    result = subprocess.run(
        [*command, "--rounds", "1", "--backend", backend],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^\| (.+) \| [\d.]+ \|", result.stdout, re.MULTILINE)
    assert len(rows) == 9

"""The reference values are what their generator makes."""

import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(pathlib.Path(__file__).parent / "data"))
import make_golden

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize("case", make_golden.golden_inputs())
def test_the_generator_makes_the_committed_values(case):
    inputs = make_golden.golden_inputs()[case]
    outputs = make_golden.METHODS[case.split("/")[0]](inputs)
    with np.load(make_golden.GOLDEN) as file:
        for field, value in outputs.items():
            np.testing.assert_allclose(
                value, file[f"{case}/{field}"], rtol=1e-12, atol=1e-14
            )


def test_other_inputs_give_other_values(tmp_path, monkeypatch):
    path = tmp_path / "new.npz"
    arguments = ["make_golden.py", str(path), "--seed", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    make_golden.main()
    with np.load(path) as new, np.load(make_golden.GOLDEN) as old:
        assert set(new.files) == set(old.files)
        for key in ("soft_triple/0/total", "mc/0/total_official"):
            assert np.isfinite(new[key])
            assert new[key] != old[key]

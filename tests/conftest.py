"""What the tests share."""

import os
import pathlib
from collections.abc import Iterator

# Several processes of tests share the cores: their threads would wait for
# one another. It is read when OpenMP starts, so before the backend.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import pytest

if keras.backend.backend() == "jax":
    import jax

    # Without it JAX silently computes float64 in float32.
    jax.config.update("jax_enable_x64", True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--nightly", action="store_true", help="run the nightly tests as well"
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if config.getoption("--nightly"):
        return
    names = ["nightly", f"nightly_on_{keras.backend.backend()}"]
    for item in items:
        if any(map(item.get_closest_marker, names)):
            item.add_marker(pytest.mark.skip("runs with --nightly"))


GOLDEN = pathlib.Path(__file__).parent / "data" / "official_float64.npz"


@pytest.fixture(scope="session")
def golden() -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """What the papers' own code gave in float64: case, number, field."""
    cases: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    with np.load(GOLDEN) as file:
        for key in file.files:
            case, number, field = key.split("/")
            cases.setdefault(case, {}).setdefault(int(number), {})[field] = (
                file[key]
            )
    return cases


@pytest.fixture
def float64() -> Iterator[None]:
    """Everything that is built in the test computes in float64."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.fixture
def mixed(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything that is built in the test has the mixed policy `param`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test draws the same numbers, alone and among the others."""
    keras.utils.set_random_seed(7)

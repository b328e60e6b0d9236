"""The list of benchmarks in benchmarks/README.md."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.one_backend

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_every_script_stands_in_the_list():
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    missing = {
        path.name
        for path in BENCHMARKS.glob("*.py")
        if f"`{path.name}`" not in page
    }
    assert not missing

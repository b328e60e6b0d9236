"""Cases in turns, as far as it can be seen without timing them."""

import pytest
import turns

pytestmark = pytest.mark.one_backend

CASES = """
import time


def quick():
    def step():
        time.sleep(0.3)
        step.note = "kept"

    return step


def endless():
    time.sleep(60)
"""


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """A case that is quickly built, and one that never is."""
    (tmp_path / "cases_of_turns.py").write_text(CASES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    import cases_of_turns

    return [
        turns.Case(build.__name__, build, {})
        for build in (cases_of_turns.quick, cases_of_turns.endless)
    ]


def test_a_case_that_is_not_built_in_time_leaves_the_others_their_turns(cases):
    built = []
    timings = turns.in_turns(
        cases, 1, seconds=4, built=lambda *each: built.append(each)
    )
    assert [case.name for case, _ in built] == ["quick", "endless"]
    assert built[0][1].note == "kept"
    assert len(timings[0].seconds) == 1
    assert timings[1].error == "no time was left"

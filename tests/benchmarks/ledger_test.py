"""A finished run must never be lost, run again, or mixed with others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from evidence_ledger import FIELDS, Ledger, LedgerError

pytestmark = pytest.mark.one_backend

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SETTINGS = {"lr": 0.01, "stages": (1, 2), "freeze": None}


def a_line(seed=0, arm="tail/softmax", **changed):
    line = {
        "arm": arm,
        "protocol": "closed",
        "seed": seed,
        "data": {"name": "birds", "digest": "abc", "train": 4, "test": 2},
        "settings": SETTINGS,
        "versions": {"keras": "3.15.1", "backend": "jax", "jax": "0.10"},
        "device": "cpu",
        "seconds": {"fit": 1.0, "whole": 2.0},
        "figures": {"top_1": 0.5},
        "photos": [5, 7],
        "labels": [112, 113],
        "predictions": [112, 112],
    }
    return {**line, **changed}


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "new" / "runs.jsonl")


def find(ledger, seed=0, arm="tail/softmax", settings=SETTINGS, digest="abc"):
    return ledger.find(arm, "closed", seed, settings, digest)


def test_a_file_that_is_not_there_yet_has_no_runs(ledger):
    assert ledger.lines == []
    assert find(ledger) is None


def test_a_finished_run_is_found_and_others_are_not(ledger):
    ledger.append(a_line(seed=0))
    ledger.append(a_line(seed=1))
    ledger.append(a_line(seed=0, protocol="cv"))

    # Settings come back from JSON, in which a tuple is a list.
    assert find(Ledger(ledger.path), seed=1) == json.loads(
        json.dumps(a_line(seed=1))
    )
    assert find(ledger, seed=2) is None
    assert find(ledger, arm="tail/center") is None
    assert [line["protocol"] for line in ledger.lines] == [
        *("closed", "closed", "cv")
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_other_settings_under_one_name_are_refused_not_averaged(ledger, seed):
    ledger.append(a_line(seed=0))
    now = {"lr": 0.02, "stages": (1, 2), "views": 8}

    with pytest.raises(LedgerError) as error:
        find(ledger, seed=seed, settings=now)

    message = str(error.value)
    assert "lr 0.01 there, 0.02 now" in message
    assert "freeze None there, not given now" in message
    assert "views not given there, 8 now" in message
    assert "stages" not in message
    assert "another name" in message
    with pytest.raises(LedgerError, match="'abc' there, 'abd' now"):
        find(ledger, seed=seed, digest="abd")
    with pytest.raises(LedgerError, match=r"lr 0\.01 there"):
        ledger.append(a_line(seed=1, settings=now))
    assert len(ledger.lines) == 1


def test_a_kill_at_any_byte_loses_the_run_in_progress_alone(ledger):
    ledger.append(a_line(seed=0))
    whole = ledger.path.read_bytes()
    ledger.append(a_line(seed=1))
    both = ledger.path.read_bytes()

    for end in range(len(whole), len(both) - 1):
        ledger.path.write_bytes(both[:end])
        assert [line["seed"] for line in ledger.lines] == [0]
        if end % 50 == 0:
            ledger.append(a_line(seed=1))
            assert ledger.path.read_bytes() == both


def test_a_last_line_of_which_the_disk_kept_only_its_length_is_cut(ledger):
    ledger.append(a_line(seed=0))
    with open(ledger.path, "ab") as file:
        file.write(b'{"arm": \x00\x00\x00\n')

    ledger.append(a_line(seed=1))

    assert [line["seed"] for line in ledger.lines] == [0, 1]


def test_a_whole_last_line_without_its_newline_is_kept(ledger):
    ledger.append(a_line(seed=0))
    ledger.path.write_bytes(ledger.path.read_bytes().rstrip())

    assert find(ledger, seed=0) is not None
    ledger.append(a_line(seed=1))

    assert [line["seed"] for line in ledger.lines] == [0, 1]


def test_an_invalid_line_before_the_last_one_is_named_not_skipped(ledger):
    for seed in range(3):
        ledger.append(a_line(seed=seed))
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(lines[0] + "<<<<<<< HEAD\n" + lines[2])
    before = ledger.path.read_bytes()

    with pytest.raises(LedgerError, match=r"runs\.jsonl: line 2 must be JSON"):
        _ = ledger.lines
    with pytest.raises(LedgerError, match="line 2"):
        ledger.append(a_line(seed=4))
    assert ledger.path.read_bytes() == before


def test_a_run_that_is_there_twice_is_not_counted_twice(ledger):
    ledger.append(a_line())
    with pytest.raises(LedgerError, match="seed 0 again"):
        ledger.append(a_line())
    assert len(ledger.lines) == 1

    ledger.path.write_bytes(2 * ledger.path.read_bytes())
    with pytest.raises(LedgerError, match="in line 1 and again in line 2"):
        _ = ledger.lines


@pytest.mark.parametrize("field", FIELDS)
def test_a_line_that_lacks_a_field_is_refused_before_it_is_written(
    ledger, field
):
    line = a_line()
    del line[field]

    with pytest.raises(LedgerError, match=f"lacks {field}"):
        ledger.append(line)

    assert not ledger.path.exists()


def test_lists_of_unequal_length_would_pair_the_wrong_photos(ledger):
    with pytest.raises(LedgerError, match="'predictions': 1"):
        ledger.append(a_line(predictions=[112]))


def test_metrics_have_six_digits_and_nan_is_refused(ledger):
    ledger.append(a_line(figures={"top_1": 2 / 3, "large": 1234567.0}))

    assert ledger.lines[0]["figures"] == {"top_1": 0.666667, "large": 1234570.0}
    with pytest.raises(LedgerError, match=r"finite.*seed 1.*learning rate"):
        ledger.append(a_line(seed=1, figures={"top_1": float("nan")}))
    assert len(ledger.lines) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
def test_two_processes_that_write_at_once_lose_no_line(ledger):
    program = (
        "import json, sys\n"
        "from evidence_ledger import Ledger\n"
        "ledger, line = Ledger(sys.argv[1]), json.loads(sys.argv[2])\n"
        "for seed in range(int(sys.argv[3]), 40, 2):\n"
        "    ledger.append({**line, 'seed': seed})\n"
    )
    line = a_line(photos=[*range(999)], labels=[1] * 999, predictions=[1] * 999)
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", program),
                *(str(ledger.path), json.dumps(line), str(first)),
            ],
            cwd=BENCHMARKS,
        )
        for first in (0, 1)
    ]

    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(line["seed"] for line in ledger.lines) == list(range(40))

"""The command that compares methods makes every run once, and none twice."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import evidence
import keras
import pytest
from evidence_ledger import FIELDS

from keras_finegrain.training import methods
from keras_finegrain.training.backbones import build_backbone
from tests.colored_photos import SMALL, colored_photos

SCRIPT = Path(evidence.__file__)
BACKEND = keras.backend.backend()

# Frozen, so that a run takes a second or two.
ARMS = """
[tail]
backbone = "small.keras"
freeze = "relu_3"
views = 2
image_size = 16
epochs = 1
batch_size = 8

[tail.arms]
softmax = {}
center = { center_weight = 0.01 }
"""
# Long enough to be killed.
LONG = ARMS.replace("epochs = 1\n", "epochs = 9\n")
# On images, and no backbone from a file.
WHOLE = """
[whole]
weights = "none"
image_size = 16
epochs = 1
batch_size = 8

[whole.arms]
softmax = {}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A file of photos, a backbone and a folder for its features."""
    folder = tmp_path_factory.mktemp("evidence")
    photos = colored_photos(num_classes=4, train=10, test=2)
    photos.save(folder / "colors.npz")
    build_backbone(SMALL).save(folder / "small.keras")
    return folder


def options(shared, folder, arms=ARMS):
    """The command's arguments for results in this folder."""
    (folder / "arms.toml").write_text(arms)
    return [
        *("--arms", str(folder / "arms.toml"), "--seeds", "1"),
        *("--results", str(folder / "runs.jsonl")),
        *("--data", str(shared / "colors.npz"), "--weights", str(shared)),
        *("--cache", str(shared / "features")),
    ]


@pytest.fixture
def command(shared, tmp_path, monkeypatch):
    """Runs the command and returns the lines of all finished runs."""
    # The command sets it for its own process.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(shared / "compiled"))

    def run(*arguments, arms=ARMS, status=0):
        given = [*options(shared, tmp_path, arms), *arguments]
        assert evidence.main(given) == status
        return lines(tmp_path)

    return run


def lines(folder):
    path = folder / "runs.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def names(found):
    return [(line["arm"], line["seed"]) for line in found]


def test_every_arm_runs_with_every_seed_and_never_again(
    command, tmp_path, capsys
):
    found = command()
    assert names(found) == [("tail/softmax", 0), ("tail/center", 0)]
    printed = capsys.readouterr().out
    # Both arms share the features.
    assert printed.count("computing the output of relu_3") <= 1
    for heading in ("| arm | top-1 % |", "| against tail/softmax | top-1 % |"):
        assert heading in printed

    before = (tmp_path / "runs.jsonl").read_bytes()
    command()
    assert (tmp_path / "runs.jsonl").read_bytes() == before
    again = capsys.readouterr().out
    assert again.strip() == printed[printed.index("###") :].strip()

    # Another seed is one more run of each arm, behind what is there.
    found = command("--seeds", "2")
    assert (tmp_path / "runs.jsonl").read_bytes().startswith(before)
    assert names(found)[2:] == [("tail/softmax", 1), ("tail/center", 1)]
    printed = capsys.readouterr().out
    command("--table")
    assert capsys.readouterr().out.strip() in printed


@pytest.mark.nightly
def test_arms_in_processes_of_their_own_give_the_same_runs(
    command, tmp_path, capfd
):
    (alone,) = command("--only", "tail/softmax")
    (tmp_path / "runs.jsonl").unlink()
    capfd.readouterr()
    # Beside one that cannot be trained.
    arms = ARMS.replace("{ center_weight = 0.01 }", "{ lr = 1e30 }")
    (found,) = command("--processes", "2", arms=arms, status=2)
    assert found["figures"] == pytest.approx(alone["figures"], rel=1e-3)
    printed = capfd.readouterr()
    # Each process prints its runs, and the command one table.
    assert printed.out.count("| arm | top-1 % |") == 1
    assert "not all runs were made of tail/center" in printed.err


def test_a_line_holds_all_that_a_run_was_made_with_and_gave(command):
    (line,) = command("--only", "tail/center")
    assert tuple(line) == FIELDS
    assert line["data"]["train"] == 40
    assert line["data"]["test"] == len(line["photos"]) == 8
    assert line["versions"]["backend"] == BACKEND
    assert line["settings"]["method"] == "center"
    assert line["settings"]["center_weight"] == 0.01
    # Not where the backbone lay: it may lie elsewhere tomorrow.
    assert line["settings"]["backbone"] == "small.keras"
    assert set(line["figures"]) == {
        *("top_1", "top_5", "recall_at_1", "intra_inter_distance_ratio")
    }
    pairs = zip(line["labels"], line["predictions"], strict=True)
    right = [label == prediction for label, prediction in pairs]
    assert line["figures"]["top_1"] == pytest.approx(sum(right) / 8)


def test_arms_whose_settings_have_changed_are_not_mixed(command, capsys):
    command("--only", "*/softmax")
    found = command(arms=ARMS.replace("views = 2", "views = 3"), status=2)
    assert names(found) == [("tail/softmax", 0)]
    assert "views 2 there, 3 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("protocol", "metric", "counts"),
    [
        ("boxes", "top_1", (40, 8)),
        ("cv", "top_1", (32, 8)),
        # Half of the classes, all their photos.
        ("zero_shot", "recall_at_8", (24, 24)),
        # Three of four classes; the photos of the fourth are tested too.
        ("open_set", "auroc", (30, 8)),
    ],
)
def test_each_protocol_ends_with_a_line_and_a_table(
    command, protocol, metric, counts, capsys
):
    if protocol == "open_set":
        pytest.importorskip("sklearn")
    (line,) = command("--protocol", protocol, "--only", "tail/softmax")
    assert line["protocol"] == protocol
    assert 0 <= line["figures"][metric] <= 1
    assert (line["data"]["train"], line["data"]["test"]) == counts
    assert len(line["predictions"]) == counts[1]
    assert f"### tail, {protocol}, colors" in capsys.readouterr().out


def test_a_whole_network_trains_on_images(command):
    (line,) = command(arms=WHOLE)
    assert line["arm"] == "whole/softmax"
    assert line["settings"]["freeze"] is None


def test_a_run_that_diverges_does_not_cost_the_others(command, capsys):
    arms = ARMS.replace("softmax = {}", "softmax = { lr = 1e30 }")
    assert names(command(arms=arms, status=2)) == [("tail/center", 0)]
    printed = capsys.readouterr()
    assert "| tail/center |" in printed.out
    (error,) = printed.err.splitlines()
    assert "not trained: tail/softmax, seed 0: " in error
    assert "lower --lr" in error


def test_no_run_starts_that_would_end_too_late(command, capsys):
    assert command("--minutes", "0") == []
    assert "--minutes 0: stopped before tail/softmax" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "arms", "message"),
    [
        (
            ["--only", "tail/softmx"],
            ARMS,
            r"--only tail/softmx: .* tail/center",
        ),
        ([], ARMS.replace("views", "view"), "tail/softmax has no setting view"),
        ([], "[tail", "--arms .*: cannot be read"),
        (["--data", "missing.npz"], ARMS, "--data missing.npz: .*--prepare"),
        (["--data", __file__], ARMS, "is damaged or no file of photos"),
        (["--weights", "missing"], ARMS, "small.keras: there is no such file"),
        (["--arms", "missing.toml"], ARMS, "--arms missing.toml: cannot be "),
        (["--prepare", "./missing"], ARMS, "missing"),
        (
            ["--table", "--against", "tail/softmx"],
            ARMS,
            "--against tail/softmx: .* has no runs of it",
        ),
        (
            ["--only", "*/softmax"],
            ARMS.replace("relu_3", "relu_9"),
            "--freeze relu_9: the backbone has no such layer",
        ),
    ],
)
def test_what_cannot_run_is_one_line_and_status_2(
    command, arguments, arms, message, capsys
):
    if "--prepare" in arguments:
        pytest.importorskip("tensorflow_datasets")
    assert command(*arguments, arms=arms, status=2) == []
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("evidence.py: error: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)


@pytest.mark.parametrize(
    ("protocol", "photos", "message"),
    [
        ("boxes", {"boxes": False}, "needs a bounding box for every photo"),
        ("zero_shot", {"num_classes": 3}, "zero_shot needs at least 4 classes"),
        ("closed", {"test": 0}, "closed needs test photos"),
    ],
)
def test_photos_that_a_protocol_cannot_do_with_are_one_line_and_status_2(
    command, tmp_path, protocol, photos, message, capsys
):
    own = {"num_classes": 4, "train": 2, "test": 1, **photos}
    colored_photos(**own).save(tmp_path / "own.npz")
    arguments = ["--protocol", protocol, "--data", str(tmp_path / "own.npz")]
    assert command(*arguments, arms=WHOLE, status=2) == []
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("evidence.py: error: ")
    assert message in error


def start(shared, folder, *arguments, arms=LONG, code=None):
    """The command in a process of its own."""
    program = [SCRIPT] if code is None else ["-c", code]
    return subprocess.Popen(
        [sys.executable, *program, *options(shared, folder, arms), *arguments],
        env={
            **os.environ,
            "KERAS_BACKEND": BACKEND,
            # As in the process of the tests: else it draws other numbers.
            "JAX_ENABLE_X64": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.nightly
def test_a_killed_command_goes_on_and_gives_what_it_would_have_given(
    command, shared, tmp_path
):
    killed = tmp_path / "killed"
    killed.mkdir()
    arguments = ["--only", "tail/softmax", "--seeds", "3"]
    process = start(shared, killed, *arguments)
    ends = time.monotonic() + 120
    while not lines(killed):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.kill()
    process.communicate()
    finished = (killed / "runs.jsonl").read_bytes()
    # It was in the second run, or on a machine under load in the third.
    assert len(lines(killed)) < 3

    whole = command(*arguments, arms=LONG)
    assert evidence.main([*options(shared, killed, LONG), *arguments]) == 0
    assert (killed / "runs.jsonl").read_bytes().startswith(finished)
    resumed = lines(killed)
    assert names(resumed) == names(whole)
    for line, other in zip(resumed, whole, strict=True):
        for name in ("figures", "predictions", "photos", "settings"):
            assert line[name] == other[name], name


WITHOUT_TENSORFLOW = f"""
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec


def find_other(name, path=None, target=None):
    absent = name.split(".")[0] in ("tensorflow", "tensorflow_datasets")
    return None if absent else find(name, path, target)


PathFinder.find_spec = find_other
sys.path.insert(0, {str(SCRIPT.parent)!r})
import evidence

sys.exit(evidence.main())
"""


@pytest.mark.nightly
@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="the backend itself is TensorFlow"
)
def test_runs_need_no_tensorflow(shared, tmp_path):
    arms = ARMS + WHOLE
    process = start(
        *(shared, tmp_path, "--only", "*/softmax"),
        arms=arms,
        code=WITHOUT_TENSORFLOW,
    )
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert names(lines(tmp_path)) == [("tail/softmax", 0), ("whole/softmax", 0)]


def test_a_prepared_data_set_can_be_run(command, tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    data = str(tmp_path / "birds.npz")
    command(
        *("--prepare", "synthetic_birds/tiny", "--data", data),
        *("--data-dir", str(tmp_path / "tfds"), "--short-side", "32"),
    )
    assert "4 classes, 32 photos to train on, 16 to test on" in (
        capsys.readouterr().out
    )
    (line,) = command("--data", data, "--only", "tail/softmax")
    assert line["data"]["name"] == "synthetic_birds/tiny"


def test_the_arms_of_the_project_are_settings_of_methods_that_there_are():
    arms = evidence.read_arms(evidence.ARMS)
    assert arms
    for name, settings in arms.items():
        assert settings.method in methods.METHODS, name

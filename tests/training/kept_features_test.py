"""When features are taken again, what is said meanwhile, what has no use."""

import os

import numpy as np
import pytest

from keras_finegrain.training import FeatureCache, Settings, TrainingError
from keras_finegrain.training.digests import digest_of, files_digest
from keras_finegrain.training.frozen import user_cache
from keras_finegrain.training.methods import without_effect
from keras_finegrain.training.progress import Steps
from tests.colored_photos import png


def test_a_folder_is_another_when_a_file_is(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    first = files_digest(tmp_path, ["a.jpg"])
    assert files_digest(tmp_path, ["a.jpg"]) == first
    time = path.stat().st_mtime_ns
    # Of the same size, at another time.
    path.write_bytes(b"two")
    os.utime(path, ns=(time + 1, time + 1))
    assert files_digest(tmp_path, ["a.jpg"]) != first


@pytest.mark.one_backend
def test_a_folder_whose_names_are_not_utf_8_is_known_by_its_files(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from keras_finegrain import datasets

    for name in (b"ash/\xe9.png", b"ash/1.png", b"elm/\xe9.png", b"elm/1.png"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(np.zeros((8, 8, 3))))
    first = digest_of(datasets.load(tmp_path))
    assert digest_of(datasets.load(tmp_path)) == first
    os.utime(path.with_name(os.fsdecode(b"\xe9.png")), ns=(1, 1))
    assert digest_of(datasets.load(tmp_path)) != first


def test_the_cache_is_where_its_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_FINEGRAIN_CACHE", str(tmp_path))
    assert user_cache() == tmp_path / "features"


def test_a_damaged_file_of_the_cache_is_said_and_made_anew(tmp_path):
    said, settings = [], Settings(weights="any")

    def compute(start):
        return {"plain": np.ones(3)}

    FeatureCache(tmp_path, said.append).arrays("photos", settings, compute)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"PK, no more")
    arrays = FeatureCache(tmp_path, said.append).arrays(
        "photos", settings, compute
    )
    assert (arrays["plain"] == 1).all()
    assert any("made anew" in line for line in said)
    with np.load(file) as again:
        assert (again["plain"] == 1).all()


def test_what_a_killed_process_left_in_the_cache_is_removed(tmp_path):
    killed, running = (
        tmp_path / ".partial-1-a.npz",
        tmp_path / ".partial-2-b.npz",
    )
    killed.write_bytes(b"half")
    os.utime(killed, (0, 0))
    running.write_bytes(b"half")
    FeatureCache(tmp_path, lambda line: None).arrays(
        "photos", Settings(weights="any"), lambda start: {"plain": np.ones(3)}
    )
    assert not killed.exists()
    assert running.exists()


def test_a_long_step_says_how_long_it_takes_and_a_short_one_nothing(
    monkeypatch,
):
    now = iter(range(0, 4000, 2))
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    said = []
    with Steps("features", 40, said.append) as steps:
        for _ in range(40):
            steps.advance()
    assert said[0] == "features: about 1 min"
    assert said[-1].startswith("features: 90%")
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    short = []
    with Steps("features", 40, short.append) as steps:
        for _ in range(40):
            steps.advance()
    assert short == []


@pytest.mark.parametrize(
    ("method", "size", "frozen", "said"),
    [
        ("mc", 256, True, "leave mc out"),
        ("center", None, True, "--embedding-size 256"),
        ("center", 256, True, None),
        ("center", None, False, None),
        ("softmax", None, True, None),
    ],
)
def test_a_method_that_cannot_act_is_said(method, size, frozen, said):
    settings = Settings(method=method, embedding_size=size, freeze="all")
    text = without_effect(settings, frozen)
    assert text is None if said is None else said in text


def test_a_method_on_pairs_with_nothing_to_train_is_refused():
    settings = Settings(method="triplet", freeze="all")
    with pytest.raises(TrainingError, match="--embedding-size 256"):
        without_effect(settings, True)

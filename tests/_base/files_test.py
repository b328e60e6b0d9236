"""Folders that are whole or not there."""

import pytest

from keras_finegrain._base.files import remove_partial, replacing_folder

pytestmark = pytest.mark.one_backend


def test_a_folder_is_replaced_with_all_that_was_in_it(tmp_path):
    path = tmp_path / "served"
    for name in ("older", "newer"):
        with replacing_folder(path) as partial:
            partial.mkdir()
            (partial / name).write_text(name)
    assert [each.name for each in path.iterdir()] == ["newer"]
    assert [each.name for each in tmp_path.iterdir()] == ["served"]


def test_a_folder_stays_when_its_writer_fails(tmp_path):
    path = tmp_path / "served"
    path.mkdir()
    (path / "older").write_text("older")

    def write():
        with replacing_folder(path) as partial:
            partial.mkdir()
            (partial / "newer").write_text("new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    # Nothing was written at all.
    with pytest.raises(FileNotFoundError), replacing_folder(path):
        pass
    assert [each.name for each in path.iterdir()] == ["older"]
    assert [each.name for each in tmp_path.iterdir()] == ["served"]


def test_what_a_killed_writer_left_is_removed_folders_too(tmp_path):
    (tmp_path / ".partial-1-model.keras").write_text("half")
    (tmp_path / ".partial-2-saved_model" / "variables").mkdir(parents=True)
    (tmp_path / "model.keras").write_text("whole")
    remove_partial(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.keras"]

"""Folders that are whole or not there."""

import pytest

from keras_finegrain._base.files import replacing_folder

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

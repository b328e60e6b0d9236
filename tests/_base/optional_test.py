"""What an error says of a package that is missing can be typed as it is."""

import json
import pathlib

import pytest

from keras_finegrain._base.optional import import_optional, pip_install

pytestmark = pytest.mark.one_backend


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes pip's records of this package, first on the path."""

    def record(source):
        info = tmp_path / "keras_finegrain-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.4\nName: keras-finegrain\nVersion: 9\n"
        )
        if source is not None:
            (info / "direct_url.json").write_text(json.dumps(source))
        monkeypatch.syspath_prepend(str(tmp_path))

    return record


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (None, 'pip install "keras-finegrain[search]"'),
        (
            {"url": "file:///a%20b/clone", "dir_info": {"editable": True}},
            'pip install -e "/a b/clone[search]"',
        ),
        (
            {"url": "file:///a/k-1-py3-none-any.whl", "archive_info": {}},
            'pip install "keras-finegrain[search] @ '
            'file:///a/k-1-py3-none-any.whl"',
        ),
        (
            {
                "url": "https://host/kf.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc"},
            },
            'pip install "keras-finegrain[search] @ '
            'git+https://host/kf.git@abc"',
        ),
    ],
    ids=["index", "clone", "wheel", "git"],
)
def test_an_extra_comes_from_where_the_package_came(installed, source, command):
    installed(source)
    assert pip_install("search") == command


def test_without_an_installation_the_clone_is_named(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    clone = pathlib.Path(__file__).parents[2]
    assert pip_install("jax") == f'pip install -e "{clone}[jax]"'


def test_a_missing_package_is_named_with_that_command():
    with pytest.raises(ImportError, match="needs no_such_package") as error:
        import_optional("no_such_package.part", "Gallery", "search")
    assert str(error.value).endswith(pip_install("search"))

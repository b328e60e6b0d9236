"""What a release says of itself is true in all places that say it."""

import pathlib
import re
import tomllib

import pytest

from keras_finegrain import __version__

pytestmark = pytest.mark.one_backend
ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_citation_and_changelog_name_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in citation
    assert f"\n## {__version__} - " in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_of_the_wheel_has_no_link_into_the_repository():
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / "README.md").read_text()
    for change in hook["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert not re.findall(r"\]\((?!https?://)", text)
    assert "pip install" in text


def test_every_extra_of_a_page_is_one_of_the_project():
    extras = PROJECT["project"]["optional-dependencies"]
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in (*pages, *(ROOT / "docs").glob("*.md")):
        for names in re.findall(
            r'pip install [^`\n]*"(?:\.|keras-finegrain)\[([a-z,]+)\]',
            page.read_text(),
        ):
            assert set(names.split(",")) <= set(extras), (page.name, names)

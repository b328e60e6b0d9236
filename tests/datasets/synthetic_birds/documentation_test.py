import pathlib
import re

import pytest

pytestmark = pytest.mark.one_backend

pytest.importorskip("tensorflow_datasets")

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "synthetic_birds.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


# The first block prepares the default, as the page of the data sets does.
@pytest.mark.parametrize("block", BLOCKS[1:])
def test_the_code_on_the_page_runs(block, tmp_path, capsys):
    # The page keeps the data where TFDS does; a test must not.
    block = block.replace(
        "SyntheticBirds(config",
        f"SyntheticBirds(data_dir={str(tmp_path)!r}, config",
    )
    names = {}
    exec(compile(block, str(PAGE), "exec"), names)
    if "builder" in names:
        assert "has short conical beak" in capsys.readouterr().out
        assert names["image"].shape == (64, 64, 3)
    else:
        assert names["image"].shape == (224, 224, 3)
        assert names["portrait"].shape == (192, 192, 3)


def test_the_page_has_the_pictures_and_the_code_that_it_shows():
    assert len(BLOCKS) == 3
    pictures = re.findall(r"\]\((images/.*?)\)", PAGE.read_text())
    assert len(pictures) == 3
    for picture in pictures:
        assert (PAGE.parent / picture).stat().st_size < 300_000

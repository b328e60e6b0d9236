import os
import pathlib
import re
import subprocess
import sys

import pytest

from keras_finegrain import datasets

pytestmark = pytest.mark.one_backend

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "datasets.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs_and_draws_the_birds(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 8
    # Four species in place of twelve, which take two minutes to draw.
    code = "\n".join(blocks)
    code = code.replace('"synthetic_birds"', '"synthetic_birds/tiny"')
    code = code.replace("classes_per_batch=6", "classes_per_batch=4")
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path / "data")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    # What it drew loads by its name alone.
    birds = datasets.load("synthetic_birds/tiny", data_dir=tmp_path / "data")
    assert birds.num_classes >= 2
    assert birds.train_size > birds.num_classes
    assert birds.test_size >= birds.num_classes
    image, label = next(birds.test.as_numpy_iterator())
    assert image.ndim == 3
    assert 0 <= label < birds.num_classes
    assert isinstance(datasets.SyntheticBirds, type)

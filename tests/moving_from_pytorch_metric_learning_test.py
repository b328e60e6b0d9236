"""The table of PyTorch Metric Learning's names holds, and lacks none."""

import importlib
import inspect
import pathlib
import re

import pytest

import keras_finegrain

PAGE = (
    pathlib.Path(__file__).parents[1]
    / "docs"
    / "moving_from_pytorch_metric_learning.md"
)
ROWS = re.findall(
    r"^\| `([\w.]+)` \| `([\w.]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE
)


def found(package, name):
    for part in name.split("."):
        package = getattr(package, part)
    return package


@pytest.mark.parametrize(("there", "here"), ROWS)
def test_both_names_of_a_row_exist(there, here):
    room, *name = there.split(".")
    module = importlib.import_module(f"pytorch_metric_learning.{room}")
    if room == "utils":
        importlib.import_module(f"pytorch_metric_learning.{there}")
    else:
        found(module, ".".join(name))
    assert found(keras_finegrain, here) is not None


@pytest.mark.parametrize("room", ["losses", "miners", "distances", "reducers"])
def test_every_name_there_is_on_the_page(room):
    module = importlib.import_module(f"pytorch_metric_learning.{room}")
    page = PAGE.read_text("utf-8")
    missing = [
        name
        for name, kind in vars(module).items()
        if inspect.isclass(kind)
        and not re.match(r"Base(Miner|Distance|Reducer)$|.*Mixin$", name)
        and f"`{room}.{name}`" not in page
    ]
    assert not missing

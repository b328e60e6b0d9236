"""A saved figure must be whole, and an interrupted one leave no trace."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.artist import Artist

from keras_finegrain.visualization.save_figure import save_figure

pytestmark = pytest.mark.one_backend


class Interrupting(Artist):
    """What the user's Ctrl-C does while a second file is being written."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def draw(self, renderer):
        if len(list(self.folder.iterdir())) > 1:
            raise KeyboardInterrupt


def size_of(path):
    return plt.imread(path).shape[:2]


def test_the_file_is_where_it_was_asked_for_in_a_folder_that_is_made(tmp_path):
    axis = plt.subplots()[1]

    path = save_figure(axis, str(tmp_path / "new" / "folder" / "a.png"))

    assert path == tmp_path / "new" / "folder" / "a.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml")],
)
def test_the_ending_says_the_format(tmp_path, name, start):
    path = save_figure(plt.figure(), tmp_path / name)

    assert path.read_bytes().startswith(start)


def test_what_lies_outside_the_edge_is_saved(tmp_path):
    figure, axis = plt.subplots(figsize=(2, 2))
    before = size_of(save_figure(axis, tmp_path / "a.png"))
    figure.text(2.0, 0.5, "a legend beside the figure")

    after = size_of(save_figure(axis, tmp_path / "a.png"))

    assert after[1] > before[1] + 2 * 150


def test_dpi_scales_the_pixels(tmp_path):
    figure = plt.figure(figsize=(2, 1))
    figure.add_axes((0, 0, 1, 1))

    one, two = (
        np.array(size_of(save_figure(figure, tmp_path / "a.png", dpi=dpi)))
        for dpi in (100, 200)
    )

    np.testing.assert_allclose(two / one, 2, rtol=0.02)


def test_an_axis_in_a_subfigure_saves_the_whole_figure(tmp_path):
    figure = plt.figure(figsize=(4, 2))
    left, right = figure.subfigures(1, 2)
    left.subplots().set_title("left")
    axis = right.subplots()

    paths = [
        save_figure(item, tmp_path / f"{index}.png")
        for index, item in enumerate((axis, right, figure))
    ]

    assert len({path.read_bytes() for path in paths}) == 1
    assert size_of(paths[0])[1] > 3 * 150


def test_the_callers_figure_stays_open(tmp_path):
    figure, axis = plt.subplots()

    save_figure(axis, tmp_path / "a.png")

    assert plt.fignum_exists(figure.number)


def test_an_interruption_leaves_the_old_file_and_no_half_one(tmp_path):
    axis = plt.subplots()[1]
    # An SVG is written while it is drawn.
    path = save_figure(axis, tmp_path / "a.svg")
    before = path.read_bytes()
    axis.add_artist(Interrupting(tmp_path))

    with pytest.raises(KeyboardInterrupt):
        save_figure(axis, path)

    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.svg"]


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.png.xyz"])
def test_an_unknown_ending_names_those_that_are_known(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.pdf, .*\.png, .*\.svg.*a"):
        save_figure(plt.figure(), tmp_path / "new" / name)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dpi", [0, -1, float("nan"), "high"])
def test_a_dpi_that_is_none_is_an_error(tmp_path, dpi):
    with pytest.raises(ValueError, match=r"save_figure: dpi must be"):
        save_figure(plt.figure(), tmp_path / "a.png", dpi=dpi)


@pytest.mark.parametrize("item", [None, np.zeros(2), "figure"])
def test_what_belongs_to_no_figure_is_an_error(tmp_path, item):
    with pytest.raises(TypeError, match="save_figure: ax_or_figure must be"):
        save_figure(item, tmp_path / "a.png")

"""The animation must show each epoch, all on one scale."""

import base64
import io
import re

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from keras_finegrain.visualization.embedding_animation import (
    _drawn,
    _in_one_plane,
    embedding_animation,
)
from keras_finegrain.visualization.palette import COLORS

pytestmark = pytest.mark.one_backend

Image = pytest.importorskip("PIL.Image")

LABELS = np.repeat([0, 1], 10)


def growing(epochs=3, dim=2):
    """Two classes that move apart, as far again at each epoch."""
    rng = np.random.default_rng(0)
    start = rng.normal(scale=0.3, size=(len(LABELS), dim))
    direction = np.where(LABELS, 1.0, -1.0)[:, None] * np.eye(dim)[0]
    return np.stack([start + 10 * epoch * direction for epoch in range(epochs)])


@pytest.fixture
def drawn(monkeypatch):
    """What stood in the axis when each frame was saved."""
    frames = []
    savefig = plt.Figure.savefig

    def look(figure, *args, **kwargs):
        (axis,) = figure.axes
        frames.append(
            {
                # A class's points, then its stars.
                "points": [c.get_offsets().data for c in axis.collections[::2]],
                "stars": [c.get_offsets().data for c in axis.collections[1::2]],
                "limits": (*axis.get_xlim(), *axis.get_ylim()),
                "title": axis.get_title(),
                "numbers": [
                    t.get_text() for t in axis.texts if t.get_visible()
                ],
            }
        )
        return savefig(figure, *args, **kwargs)

    monkeypatch.setattr(plt.Figure, "savefig", look)
    return frames


def pictures_of(page):
    """The images inside of a page."""
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r"data:image/png;base64,([^\"]+)", page)
    ]


def test_every_epoch_is_drawn_where_its_samples_lie(tmp_path, drawn):
    frames = growing()

    embedding_animation(frames, LABELS, tmp_path / "a.gif")

    assert [frame["title"] for frame in drawn] == [
        "epoch 1",
        "epoch 2",
        "epoch 3",
    ]
    for frame, expected in zip(drawn, frames, strict=True):
        np.testing.assert_allclose(np.concatenate(frame["points"]), expected)


def test_all_frames_share_a_scale_that_holds_every_sample_and_center(
    tmp_path, drawn
):
    frames = growing()
    centers = np.zeros((3, 2, 2))
    centers[1, 0] = [0.0, 40.0]

    embedding_animation(frames, LABELS, tmp_path / "a.gif", centers=centers)

    assert len({frame["limits"] for frame in drawn}) == 1
    left, right, bottom, top = drawn[0]["limits"]
    assert left < frames[..., 0].min()
    assert right > frames[..., 0].max()
    assert bottom < frames[..., 1].min()
    assert top > 40.0
    np.testing.assert_allclose(np.concatenate(drawn[1]["stars"]), centers[1])


def test_a_plane_for_all_frames_keeps_what_does_not_move_in_its_place(
    tmp_path, drawn
):
    """A projection of each frame by itself would turn it."""
    frames = growing(dim=6)
    frames[:, 3] = frames[0, 3]

    embedding_animation(frames, LABELS, tmp_path / "a.gif")

    places = [np.concatenate(frame["points"])[3] for frame in drawn]
    np.testing.assert_allclose(places, np.tile(places[0], (3, 1)), atol=1e-9)


def test_the_plane_holds_the_largest_variance_of_all_frames(tmp_path, drawn):
    frames = growing(dim=6)

    embedding_animation(frames, LABELS, tmp_path / "a.gif")

    flat = frames.reshape(-1, 6)
    scales = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    plane = np.concatenate([p for frame in drawn for p in frame["points"]])
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(plane, axis=0)), np.sort(scales[:2])
    )


def test_centers_are_projected_like_samples(tmp_path, drawn):
    frames = growing(dim=6)
    # The first sample of each class stands for its center.
    centers = frames[:, [0, 10]]

    embedding_animation(frames, LABELS, tmp_path / "a.gif", centers=centers)

    for frame in drawn:
        firsts = [points[0] for points in frame["points"]]
        np.testing.assert_allclose(np.concatenate(frame["stars"]), firsts)


def test_one_dimension_becomes_a_line(tmp_path, drawn):
    embedding_animation(growing(dim=1), LABELS, tmp_path / "a.gif")

    points = np.concatenate(drawn[2]["points"])
    assert np.ptp(points[:, 0]) > 30
    assert np.ptp(points[:, 1]) == 0


def test_every_class_keeps_its_number_where_classes_lie_in_one_place(
    tmp_path, drawn
):
    embedding_animation(growing(), LABELS, tmp_path / "a.gif")

    assert drawn[0]["numbers"] == ["0", "1"]
    assert drawn[2]["numbers"] == ["0", "1"]


def test_a_gif_has_every_frame_at_its_speed_and_rests_on_the_last(tmp_path):
    path = embedding_animation(
        growing(), LABELS, tmp_path / "a.gif", frames_per_second=10
    )

    with Image.open(path) as gif:
        assert gif.n_frames == 3
        durations = []
        for index in range(3):
            gif.seek(index)
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0
    assert durations == [100, 100, 2000]


@pytest.mark.parametrize("title", ["epoch 1", "a title " * 12])
def test_frames_hold_the_legend_and_the_whole_title(tmp_path, drawn, title):
    names = ["black-throated blue warbler", "chestnut-sided warbler"]

    path = embedding_animation(
        growing(2), LABELS, tmp_path / "a.gif", names, titles=["", title]
    )

    with Image.open(path) as gif:
        gif.seek(1)
        dark = np.asarray(gif.convert("L")) < 128
    # Letters in the upper rows, and none cut at an edge.
    assert dark[:30].any()
    for edge in (dark[0], dark[-1], dark[:, 0], dark[:, -1]):
        assert not edge.any()


def test_few_samples_keep_the_colour_of_their_class(tmp_path):
    """A palette made for the many would lose it."""
    labels = np.repeat(np.arange(7), [400, 1, 1, 1, 1, 1, 1])
    frames = np.stack([np.cos(labels), np.sin(labels)], axis=-1)[None]

    path = embedding_animation(frames, labels, tmp_path / "a.gif", dpi=200)

    with Image.open(path) as gif:
        pixels = np.unique(
            np.asarray(gif.convert("RGB")).reshape(-1, 3), axis=0
        )
    for color in COLORS:
        # Markers are drawn with 85 % opacity.
        seen = 255 * (1 - 0.85 * (1 - np.array(to_rgb(color))))
        assert np.abs(pixels - seen).max(axis=1).min() < 14


def test_a_page_holds_its_pictures_and_needs_nothing_else(tmp_path):
    titles = ["before", "<middle>", "after"]

    path = embedding_animation(
        growing(), LABELS, tmp_path / "a.html", titles=titles
    )

    page = path.read_text(encoding="utf-8")
    assert "://" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert len(pictures_of(page)) == 3
    assert [i.size for i in pictures_of(page)] == [
        pictures_of(page)[0].size
    ] * 3
    assert re.findall(r'alt="([^"]+)"', page) == [
        "before",
        "&lt;middle&gt;",
        "after",
    ]


def test_a_page_and_a_gif_show_the_same(tmp_path):
    gif = embedding_animation(growing(), LABELS, tmp_path / "a.gif")
    page = embedding_animation(growing(), LABELS, tmp_path / "a.html")

    with Image.open(gif) as opened:
        for index, picture in enumerate(pictures_of(page.read_text())):
            opened.seek(index)
            np.testing.assert_array_equal(
                np.asarray(opened.convert("RGB")),
                np.asarray(picture.convert("RGB")),
            )


def test_takes_a_sequence_of_tensors_of_the_backend(tmp_path, drawn):
    frames = growing()
    tensors = [keras.ops.convert_to_tensor(f, "float32") for f in frames]

    embedding_animation(tensors, LABELS, tmp_path / "a.gif")

    np.testing.assert_allclose(
        np.concatenate(drawn[2]["points"]), frames[2], rtol=1e-5
    )


def test_a_picture_is_drawn_only_after_the_one_before_was_taken(monkeypatch):
    """Else memory would grow with the number of epochs."""
    frames = _in_one_plane(growing(), LABELS, None, None)
    saved = []
    savefig = plt.Figure.savefig
    monkeypatch.setattr(
        plt.Figure,
        "savefig",
        lambda *args, **kwargs: saved.append(1) or savefig(*args, **kwargs),
    )

    pictures = _drawn(frames, ["a", "b", "c"], None, 50)

    for count in (1, 2, 3):
        next(pictures)
        assert len(saved) == count


def test_no_figure_stays_open(tmp_path):
    embedding_animation(growing(), LABELS, tmp_path / "a.gif")

    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "a.mp4"}, r"end in \.gif or \.html, received .*a\.mp4'"),
        ({"frames_per_second": 0}, "at most 50, received 0"),
        ({"frames_per_second": 60}, "at most 50, received 60"),
        ({"dpi": 0}, "at least 20, received 0"),
        ({"titles": ["one"]}, "one for each frame, 3, received 1"),
        ({"centers": np.zeros((2, 2, 2))}, "each frame, 3, received 2"),
        ({"centers": np.zeros((3, 2, 3))}, "frame 0: .* dim of 2, received 3"),
        ({"frames": []}, "received none"),
        ({"frames": np.zeros((20, 2))}, r"frame 0: .* received \(2,\)"),
        ({"frames": [growing()[0], np.zeros((20, 3))]}, "2 in frame 0 and 3"),
        (
            {"frames": [growing()[0], np.full((20, 2), np.nan)]},
            "frame 1: embeddings must be finite",
        ),
        ({"class_names": ["one"]}, "received 1 and a maximum of 1"),
    ],
)
def test_bad_arguments_are_named_before_a_file_is_begun(
    arguments, message, tmp_path
):
    given = {"frames": growing(), "labels": LABELS, "path": "a.gif"}
    given |= arguments

    with pytest.raises(ValueError, match=f"embedding_animation.*{message}"):
        embedding_animation(**{**given, "path": tmp_path / given["path"]})

    assert not list(tmp_path.iterdir())

"""An embedding over the epochs, as an animation."""

import base64
import html
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.arrays import to_numpy
from keras_finegrain.visualization.embedding import (
    LabelledVectors,
    draw_classes,
    labelled_vectors,
    part_class_numbers,
)
from keras_finegrain.visualization.palette import COLORS, class_legend
from keras_finegrain.visualization.requirements import import_for_pictures

# Seconds that a GIF rests on its last frame before it starts again.
LAST_FRAME_SECONDS = 2.0
# Steps from each class colour to white, for the rims of markers. Few colours
# make small files.
SHADES = 12


def embedding_animation(
    frames: Any,
    labels: Any,
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    centers: Any = None,
    titles: Sequence[str] | None = None,
    frames_per_second: float = 4.0,
    dpi: float = 100.0,
) -> pathlib.Path:
    """Writes how an embedding moved, as a GIF or as a page with a slider.

    All frames have the same axes, wide enough for every sample in every
    frame. So a sample that rests in the picture rests in the embedding, and
    growth is seen as growth: softmax alone drives features outwards as long
    as it is trained, and with a scale of its own for each frame that would
    look like standing still. The price is that a small beginning is drawn
    small. Class numbers that would cover each other are written side by side,
    or left out where they are more than four.

    Two dimensions are drawn as they are, others in the plane of the two
    directions of largest variance over all frames together, one plane for
    all. (t-SNE would lay every frame out anew.)

    The frames are drawn one after the other: memory holds one picture and,
    for a GIF, the frames' pixels at one byte each.

    Args:
        frames: The embedding of the same samples at each epoch: array or
            tensor of any backend, `(epochs, samples, dim)`, or a sequence of
            `(samples, dim)`.
        labels: Integers `(samples,)`; they index `class_names` and the
            centers.
        path: The file to write. `.gif` for a GIF; `.html` for a page that
            needs no other file and no network, with a slider that obeys the
            arrow keys, Home, End and, to play and to pause, the space bar.
        class_names: Name of each class for the legend. Defaults to none: the
            numbers alone.
        centers: The class centers at each epoch, `(epochs, classes, dim)` or
            `(epochs, classes, centers_per_class, dim)`, or a sequence of
            those without the first axis. Defaults to none.
        titles: Title of each frame. Defaults to `"epoch 1"`, `"epoch 2"`, ….
        frames_per_second: Speed, above 0 and at most 50, the most that
            browsers show of a GIF. Defaults to 4: epochs differ much, and the
            eye has to follow.
        dpi: Pixels an inch, at least 20; a frame is about 6.5 × 5 inches.
            Defaults to 100.

    Returns:
        The path of the file.

    Raises:
        ImportError: If matplotlib or Pillow is missing.
        ValueError: If `path` has another ending, a number is out of its
            range, `centers` or `titles` are not one a frame, frames differ in
            shape, or for what `embedding_scatter` raises, with the number of
            the frame.

    Example:
    >>> import pathlib, tempfile
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> frames = np.random.default_rng(0).normal(size=(3, 20, 2))
    >>> frames *= np.array([1.0, 2.0, 3.0])[:, None, None]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = embedding_animation(
    ...         frames, np.arange(20) % 2, pathlib.Path(folder, "growth.gif")
    ...     )
    ...     path.read_bytes()[:6]
    b'GIF89a'
    """
    path = pathlib.Path(path)
    _check_numbers(path, frames_per_second, dpi)
    embedding = _Frames(frames, labels, class_names, centers)
    count = len(embedding)
    if titles is None:
        titles = [f"epoch {index + 1}" for index in range(count)]
    if len(titles) != count:
        raise ValueError(
            f"{_WHO}: titles must be one a frame, {count}, received "
            f"{len(titles)}."
        )
    # What is missing is missed before the file is begun.
    for module in ("matplotlib.pyplot", "PIL.Image"):
        import_for_pictures(module)
    pictures = _drawn(embedding, titles, class_names, dpi)
    if path.suffix.lower() == ".gif":
        _write_gif(path, pictures, count, frames_per_second)
    else:
        _write_page(path, pictures, titles, frames_per_second)
    return path


_WHO = "embedding_animation"


class _Frames:
    """The embedding at each epoch, checked and in one plane for all."""

    def __init__(
        self,
        frames: Any,
        labels: Any,
        class_names: Sequence[str] | None,
        centers: Any,
    ) -> None:
        self._frames = _sequence(frames)
        self._labels = labels
        self._class_names = class_names
        self._centers = None if centers is None else _sequence(centers)
        if len(self) == 0:
            raise ValueError(f"{_WHO}: there must be a frame, received none.")
        if self._centers is not None and len(self._centers) != len(self):
            raise ValueError(
                f"{_WHO}: centers must be one set a frame, {len(self)}, "
                f"received {len(self._centers)}."
            )
        dim = self._vectors(0).points.shape[1]
        for index in range(len(self)):
            if self._vectors(index).points.shape[1] != dim:
                raise ValueError(
                    f"{_WHO}: all frames must have the same dim, received "
                    f"{dim} in frame 0 and "
                    f"{self._vectors(index).points.shape[1]} in frame {index}."
                )
        self._mean, self._directions = np.zeros(2), np.eye(2)
        if dim != 2:
            self._mean, self._directions = self._principal_plane(dim)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> LabelledVectors:
        """One frame in the plane."""
        vectors = self._vectors(index)
        return vectors._replace(
            points=(vectors.points - self._mean) @ self._directions,
            stars=(vectors.stars - self._mean) @ self._directions,
        )

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower left and upper right of a square around all frames."""
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for index in range(len(self)):
            plane = self[index]
            drawn = np.concatenate([plane.points, plane.stars])
            low = np.minimum(low, drawn.min(axis=0))
            high = np.maximum(high, drawn.max(axis=0))
        # A twentieth around, so that no marker is cut.
        half = 0.55 * ((high - low).max() or 1.0)
        middle = (low + high) / 2
        return middle - half, middle + half

    def _vectors(self, index: int) -> LabelledVectors:
        return labelled_vectors(
            f"{_WHO}, frame {index}",
            self._frames[index],
            self._labels,
            self._class_names,
            None if self._centers is None else self._centers[index],
        )

    def _principal_plane(self, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and two directions, over the samples of all frames."""
        total, products = np.zeros(dim), np.zeros((dim, dim))
        samples = 0
        for index in range(len(self)):
            points = self._vectors(index).points
            total += points.sum(axis=0)
            samples += len(points)
        mean = total / samples
        for index in range(len(self)):
            centered = self._vectors(index).points - mean
            products += centered.T @ centered
        directions = np.linalg.eigh(products)[1][:, ::-1][:, :2]
        # The sign is arbitrary: fix it, or another machine draws a mirrored
        # picture.
        largest = np.abs(directions).argmax(axis=0)
        directions = directions * np.sign(
            directions[largest, np.arange(directions.shape[1])]
        )
        return mean, np.pad(directions, [(0, 0), (0, max(0, 2 - dim))])


def _drawn(
    embedding: _Frames,
    titles: Sequence[str],
    class_names: Sequence[str] | None,
    dpi: float,
) -> Iterator[Any]:
    """Draws frame after frame, each a Pillow image with the same palette."""
    pyplot = import_for_pictures("matplotlib.pyplot")
    pillow = import_for_pictures("PIL.Image")
    figure, axis = pyplot.subplots(
        figsize=(5, 5), dpi=dpi, layout="constrained"
    )
    try:
        low, high = embedding.limits()
        box, palette = None, _palette()
        for index, title in enumerate(titles):
            axis.clear()
            draw_classes(axis, embedding[index], class_names)
            axis.set_xlim(low[0], high[0])
            axis.set_ylim(low[1], high[1])
            axis.set_aspect("equal")
            axis.locator_params(nbins=5)
            axis.tick_params(labelsize=8)
            if box is None:
                class_legend(figure, axis)
                box = _box_of_all(figure, axis, titles)
            part_class_numbers(axis)
            axis.set_title(title)
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=dpi, bbox_inches=box)
            with pillow.open(file) as opened:
                picture = opened.convert("RGB")
            yield picture.quantize(palette=palette, dither=pillow.Dither.NONE)
    finally:
        pyplot.close(figure)


def _palette() -> Any:
    """A Pillow image with the palette of all frames.

    One made from a picture would lose the colours of small classes.
    """
    pillow = import_for_pictures("PIL.Image")
    to_rgb = import_for_pictures("matplotlib.colors").to_rgb
    strengths = np.linspace(1.0, 0.0, SHADES, endpoint=False)[:, None]
    shades = [1.0 - strengths * (1.0 - np.array(to_rgb(c))) for c in COLORS]
    colors = np.concatenate([np.ones((1, 3)), *shades])
    palette = pillow.new("P", (1, 1))
    palette.putpalette(np.round(255 * colors).astype(np.uint8).tobytes())
    return palette


def _box_of_all(figure: Any, axis: Any, titles: Sequence[str]) -> Any:
    """What a file must hold, in inches: the legend and the longest title.

    From here on the axis stays where it is, in every frame.
    """
    transforms = import_for_pictures("matplotlib.transforms")
    axis.set_title(titles[0])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    boxes = [figure.get_tightbbox()]
    for title in titles:
        axis.set_title(title)
        extent = axis.title.get_window_extent()
        boxes.append(extent.transformed(figure.dpi_scale_trans.inverted()))
    return transforms.Bbox.union(boxes).padded(0.05)


def _write_gif(
    path: pathlib.Path,
    pictures: Iterator[Any],
    count: int,
    frames_per_second: float,
) -> None:
    duration = round(1000 / frames_per_second)
    last = max(duration, round(1000 * LAST_FRAME_SECONDS))
    first = next(pictures)
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=pictures,
        duration=[duration] * (count - 1) + [last],
        loop=0,
    )


def _write_page(
    path: pathlib.Path,
    pictures: Iterator[Any],
    titles: Sequence[str],
    frames_per_second: float,
) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(_PAGE_BEGIN)
        for index, (picture, title) in enumerate(
            zip(pictures, titles, strict=True)
        ):
            png = io.BytesIO()
            picture.save(png, format="PNG", optimize=True)
            data = base64.b64encode(png.getvalue()).decode("ascii")
            hidden = " hidden" if index else ""
            file.write(
                f'<img{hidden} alt="{html.escape(title)}" '
                f'src="data:image/png;base64,{data}">\n'
            )
        milliseconds = round(1000 / frames_per_second)
        file.write(_PAGE_END.replace("MILLISECONDS", str(milliseconds)))


_PAGE_BEGIN = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Embedding</title>
<style>
body { margin: 1rem auto; max-width: 44rem; font: 1rem sans-serif;
  color: #222; background: #fff; }
img { display: block; margin: auto; max-width: 100%; }
img[hidden] { display: none; }
p { display: flex; gap: 1rem; align-items: center; }
button { width: 5rem; font: inherit; }
input { flex: 1; }
</style>
"""
_PAGE_END = """<p>
<button type="button">Play</button>
<input type="range" min="0" value="0" aria-label="Frame" autofocus>
</p>
<script>
const images = [...document.querySelectorAll("img")];
const slider = document.querySelector("input");
const button = document.querySelector("button");
let timer = null;
function show(index) {
  images.forEach((image, other) => { image.hidden = other !== index; });
  slider.value = index;
  slider.setAttribute("aria-valuetext", images[index].alt);
}
function pause() {
  clearInterval(timer);
  timer = null;
  button.textContent = "Play";
}
function play() {
  // At the end: once more from the start.
  if (Number(slider.value) === images.length - 1) show(0);
  button.textContent = "Pause";
  timer = setInterval(() => {
    if (Number(slider.value) === images.length - 1) pause();
    else show(Number(slider.value) + 1);
  }, MILLISECONDS);
}
button.addEventListener("click", () => { timer === null ? play() : pause(); });
slider.addEventListener("input", () => {
  pause();
  show(Number(slider.value));
});
slider.addEventListener("keydown", (event) => {
  if (event.key !== " ") return;
  event.preventDefault();
  button.click();
});
slider.max = images.length - 1;
show(0);
</script>
</html>
"""


def _sequence(frames: Any) -> Any:
    """What gives one frame an index, without a copy of all of them."""
    return frames if isinstance(frames, list | tuple) else to_numpy(frames)


def _check_numbers(
    path: pathlib.Path, frames_per_second: float, dpi: float
) -> None:
    if path.suffix.lower() not in (".gif", ".html"):
        raise ValueError(
            f"{_WHO}: path must end in .gif or .html, received {str(path)!r}."
        )
    if not 0 < frames_per_second <= 50:
        raise ValueError(
            f"{_WHO}: frames_per_second must be above 0 and at most 50, "
            f"received {frames_per_second!r}."
        )
    if not dpi >= 20:
        raise ValueError(f"{_WHO}: dpi must be at least 20, received {dpi!r}.")

"""An embedding over the epochs, as a GIF or a page with a slider."""

import base64
import html
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from keras_finegrain._base.checks import number
from keras_finegrain._base.files import as_path, replacing
from keras_finegrain._base.optional import import_optional
from keras_finegrain.visualization.checks import as_sequence
from keras_finegrain.visualization.embedding_scatter import (
    LabelledVectors,
    draw_classes,
    fixed_signs,
    labelled_vectors,
    place_class_numbers,
)
from keras_finegrain.visualization.palette import COLORS, class_legend

_WHO = "embedding_animation"
# Seconds that a GIF shows its last frame before it starts again.
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
    frame. A sample that rests in the picture rests in the embedding, and
    growth is seen as growth: softmax alone drives features outwards as long
    as it is trained, which would look like standing still if each frame had
    its own scale. The price is that a small beginning is drawn small. Class
    numbers that would cover each other are moved apart, with a line to their
    places.

    Two dimensions are drawn as they are, others in the plane of the two
    directions of largest variance over all frames together, one plane for
    all. (t-SNE would place every frame anew.)

    The frames are drawn one after the other: memory holds one picture and,
    for a GIF, the frames' pixels at one byte each.

    Args:
        frames: The embedding of the same samples at each epoch: array or
            tensor of any backend, `(epochs, samples, dim)`, or a sequence of
            `(samples, dim)`.
        labels: Integers `(samples,)`, not negative, or one-hot rows; they
            index `class_names` and the centers.
        path: The file to write. `.gif` for a GIF; `.html` for a page that
            needs no other file and no network. Its slider obeys the arrow
            keys, Home and End; the space bar plays and pauses. A missing
            folder is made, an existing file replaced.
        class_names: Name of each class for the legend. Defaults to numbers
            alone.
        centers: The class centers at each epoch, `(epochs, classes, dim)` or
            `(epochs, classes, centers_per_class, dim)`, or a sequence of
            those without the first axis. Defaults to none.
        titles: Title of each frame. Defaults to `"epoch 1"`, `"epoch 2"`, ….
        frames_per_second: Speed, above 0 and at most 50, the most that
            browsers show of a GIF. Defaults to 4: epochs differ much, and the
            eye has to follow.
        dpi: Pixels per inch, at least 20; a frame is about 6.5 × 5 inches.
            Defaults to 100.

    Returns:
        The path of the file.

    Raises:
        ImportError: If matplotlib or Pillow is missing.
        ValueError: If `path` has another ending, a number is out of its
            range, `centers` or `titles` are not one for each frame, frames
            differ in shape, or for what `embedding_scatter` raises, with the
            number of the frame.

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
    path = as_path(_WHO, "path", path)
    ending = path.suffix.lower()
    if ending not in (".gif", ".html"):
        raise ValueError(
            f"{_WHO}: path must end in .gif or .html, received {str(path)!r}."
        )
    number(_WHO, "frames_per_second", frames_per_second, above=0, at_most=50)
    number(_WHO, "dpi", dpi, at_least=20)
    planes = _in_one_plane(frames, labels, class_names, centers)
    if titles is None:
        titles = [f"epoch {index + 1}" for index in range(len(planes))]
    titles = as_sequence(_WHO, "titles", titles)
    if len(titles) != len(planes):
        raise ValueError(
            f"{_WHO}: titles must be one for each frame, {len(planes)}, "
            f"received {len(titles)}."
        )
    # A missing package is an error before the file is begun.
    for module in ("matplotlib.pyplot", "PIL.Image"):
        import_optional(module, _WHO)
    pictures = _drawn(planes, titles, class_names, dpi)
    duration = round(1000 / frames_per_second)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        if ending == ".gif":
            _write_gif(file, pictures, len(planes), duration)
        else:
            _write_page(file, pictures, titles, duration)
    return path


def _in_one_plane(
    frames: Any,
    labels: Any,
    class_names: Sequence[str] | None,
    centers: Any,
) -> list[LabelledVectors]:
    """The checked embedding of each frame, in the same plane for all."""
    frames = as_sequence(_WHO, "frames", frames)
    if not len(frames):
        raise ValueError(f"{_WHO}: there must be a frame, received none.")
    if centers is None:
        centers = [None] * len(frames)
    centers = as_sequence(_WHO, "centers", centers)
    if len(centers) != len(frames):
        raise ValueError(
            f"{_WHO}: centers must be one set for each frame, {len(frames)}, "
            f"received {len(centers)}."
        )

    def vectors() -> Iterator[LabelledVectors]:
        """Frame after frame: there is no copy of all in float64."""
        for index, frame in enumerate(frames):
            who = f"{_WHO}, frame {index}"
            yield labelled_vectors(
                who, frame, labels, class_names, centers[index]
            )

    dims = [frame.points.shape[1] for frame in vectors()]
    for index, dim in enumerate(dims):
        if dim != dims[0]:
            raise ValueError(
                f"{_WHO}: all frames must have the same dim, received "
                f"{dims[0]} in frame 0 and {dim} in frame {index}."
            )
    if dims[0] == 2:
        return list(vectors())
    mean = sum(frame.points.mean(axis=0) for frame in vectors()) / len(frames)
    products = np.zeros((dims[0], dims[0]))
    for frame in vectors():
        products += (frame.points - mean).T @ (frame.points - mean)
    # Directions as rows, that of the largest variance first.
    directions = np.linalg.eigh(products)[1].T[::-1][:2]
    directions *= fixed_signs(directions)[:, None]
    plane = np.pad(directions.T, [(0, 0), (0, 2 - len(directions))])
    return [
        frame._replace(
            points=(frame.points - mean) @ plane,
            stars=(frame.stars - mean) @ plane,
        )
        for frame in vectors()
    ]


def _drawn(
    planes: Sequence[LabelledVectors],
    titles: Sequence[str],
    class_names: Sequence[str] | None,
    dpi: float,
) -> Iterator[Any]:
    """Draws frame after frame, each a Pillow image with the same palette."""
    pyplot = import_optional("matplotlib.pyplot", _WHO)
    pillow = import_optional("PIL.Image", _WHO)
    figure, axis = pyplot.subplots(
        figsize=(5, 5), dpi=dpi, layout="constrained"
    )
    try:
        low, high = _limits(planes)
        box, palette = None, _palette()
        for plane, title in zip(planes, titles, strict=True):
            axis.clear()
            numbers = draw_classes(axis, plane, class_names)
            axis.set_xlim(low[0], high[0])
            axis.set_ylim(low[1], high[1])
            axis.set_aspect("equal")
            axis.locator_params(nbins=5)
            axis.tick_params(labelsize=8)
            if box is None:
                class_legend(figure, axis)
                box = _box_of_all(figure, axis, titles)
            place_class_numbers(axis, numbers)
            axis.set_title(title)
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=dpi, bbox_inches=box)
            with pillow.open(file) as opened:
                picture = opened.convert("RGB")
            yield picture.quantize(palette=palette, dither=pillow.Dither.NONE)
    finally:
        pyplot.close(figure)


def _limits(
    planes: Sequence[LabelledVectors],
) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right of a square around all frames."""
    drawn = np.concatenate([v for p in planes for v in (p.points, p.stars)])
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    # A twentieth around, so that no marker is cut.
    half = 0.55 * ((high - low).max() or 1.0)
    middle = (low + high) / 2
    return middle - half, middle + half


def _palette() -> Any:
    """A Pillow image with the palette of all frames.

    One made from a picture would lose the colours of small classes.
    """
    pillow = import_optional("PIL.Image", _WHO)
    to_rgb = import_optional("matplotlib.colors", _WHO).to_rgb
    strengths = np.linspace(1.0, 0.0, SHADES, endpoint=False)[:, None]
    shades = [1.0 - strengths * (1.0 - np.array(to_rgb(c))) for c in COLORS]
    colors = np.concatenate([np.ones((1, 3)), *shades])
    palette = pillow.new("P", (1, 1))
    palette.putpalette(np.round(255 * colors).astype(np.uint8).tobytes())
    return palette


def _box_of_all(figure: Any, axis: Any, titles: Sequence[str]) -> Any:
    """A box, in inches, around the legend and the longest title.

    From here on the axis stays at its place in every frame.
    """
    transforms = import_optional("matplotlib.transforms", _WHO)
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
    file: BinaryIO, pictures: Iterator[Any], count: int, duration: int
) -> None:
    last = max(duration, round(1000 * LAST_FRAME_SECONDS))
    next(pictures).save(
        file,
        format="GIF",
        save_all=True,
        append_images=pictures,
        duration=[duration] * (count - 1) + [last],
        loop=0,
    )


def _write_page(
    file: BinaryIO,
    pictures: Iterator[Any],
    titles: Sequence[str],
    duration: int,
) -> None:
    file.write(_PAGE_BEGIN.encode())
    for index, (picture, title) in enumerate(
        zip(pictures, titles, strict=True)
    ):
        png = io.BytesIO()
        picture.save(png, format="PNG", optimize=True)
        data = base64.b64encode(png.getvalue()).decode("ascii")
        hidden = " hidden" if index else ""
        file.write(
            f'<img{hidden} alt="{html.escape(title)}" '
            f'src="data:image/png;base64,{data}">\n'.encode()
        )
    file.write(_PAGE_END.replace("MILLISECONDS", str(duration)).encode())


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

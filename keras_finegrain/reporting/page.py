"""The pieces of a page that needs nothing but itself."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.optional import import_optional

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; margin: 0 auto;
       max-width: 68rem; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
h3 { margin: 1.5rem 0 .3rem; font-size: 1rem; }
p { max-width: 45rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd;
         text-align: left; font-variant-numeric: tabular-nums; }
td.number, th.number { text-align: right; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; overflow-x: auto; }
figcaption { color: #444; font-size: .9rem; max-width: 45rem; }
.photos { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.photos figure { margin: 0; max-width: 27rem; }
.photos img { height: 128px; width: auto; margin-right: 4px; }
footer { margin-top: 3rem; color: #555; font-size: .85rem; }
@media print { .photos figure { break-inside: avoid; } }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole HTML page.

    Args:
        title: Its title, as plain text.
        body: Pieces of HTML.

    Example:

    >>> page("Sparrows", ["<p>None.</p>"]).startswith("<!doctype html>")
    True
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        # Whatever a name of a class may hold: nothing is fetched or run.
        '<meta http-equiv="Content-Security-Policy" content="default-src '
        "'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n"
        "</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def section(heading: str, *content: str) -> str:
    """A heading and what stands under it."""
    return "\n".join([f"<h2>{html.escape(heading)}</h2>", *content])


def heading(text: str) -> str:
    """The heading of the page."""
    return f"<h1>{html.escape(text)}</h1>"


def footer(text: str) -> str:
    """What stands at the end of the page."""
    return f"<footer>{html.escape(text)}</footer>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: int
) -> str:
    """A table of plain text.

    Args:
        headings: One a column.
        rows: Cells.
        numbers: How many of the last columns hold numbers.
    """
    words = len(headings) - numbers

    def line(cells: Sequence[str], tag: str) -> str:
        written = "".join(
            f"<{tag}{' class=number' if column >= words else ''}>"
            f"{html.escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{written}</tr>"

    return "\n".join(
        ["<table>", line(headings, "th")]
        + [line(row, "td") for row in rows]
        + ["</table>"]
    )


def picture(axis: Any, alt: str, caption: str = "") -> str:
    """The figure of a matplotlib axis, which is closed.

    Args:
        axis: The axis.
        alt: What it shows, for those who cannot see it.
        caption: Plain text below it.
    """
    figure = axis.figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    import_optional("matplotlib.pyplot", "report").close(figure)
    return _figure([_image(buffer.getvalue(), "png", alt)], caption)


def photos(images: Sequence[tuple[np.ndarray, str]]) -> str:
    """Some photos side by side.

    Args:
        images: Each floats `(height, width, 3)` in [0, 1], with what it shows.
    """
    pillow = import_optional("PIL.Image", "report")
    written = []
    for image, alt in images:
        pixels = np.round(255 * image).astype(np.uint8)
        buffer = io.BytesIO()
        pillow.fromarray(pixels).save(buffer, format="JPEG", quality=88)
        written.append(_image(buffer.getvalue(), "jpeg", alt))
    return _figure(written)


def side_by_side(figures: Sequence[str]) -> str:
    """Figures of photos that share a row as far as there is room."""
    return "\n".join(['<div class="photos">', *figures, "</div>"])


def _figure(images: Sequence[str], caption: str = "") -> str:
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{''.join(images)}{text}</figure>"


def _image(content: bytes, kind: str, alt: str) -> str:
    data = base64.b64encode(content).decode()
    return (
        f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}">'
    )

"""The pieces of an HTML page that is one file."""

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
td:nth-last-child(-n+2), th:nth-last-child(-n+2) { text-align: right; }
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
        # Nothing is fetched or run, whatever a class name holds.
        '<meta http-equiv="Content-Security-Policy" content="default-src '
        "'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"{element(title, 'title')}\n<style>{_STYLE}</style>\n"
        "</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def element(text: str, tag: str = "p") -> str:
    """An HTML element that holds plain text, by default a paragraph."""
    return f"<{tag}>{html.escape(text)}</{tag}>"


def section(heading: str, *content: str) -> str:
    """A heading and the HTML below it."""
    return "\n".join([element(heading, "h2"), *content])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text, whose last two columns hold numbers."""
    lines = [[element(cell, "th") for cell in headings]]
    lines += [[element(cell, "td") for cell in row] for row in rows]
    written = "\n".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f"<table>\n{written}\n</table>"


def picture(axis: Any, alt: str, caption: str = "") -> str:
    """Turns the figure of a matplotlib axis into HTML and closes it.

    Args:
        axis: The axis.
        alt: A text for those who cannot see it.
        caption: Plain text below it.
    """
    figure, buffer = axis.figure, io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    import_optional("matplotlib.pyplot", "report").close(figure)
    text = element(caption, "figcaption") if caption else ""
    return f"<figure>{_image(buffer, 'png', alt)}{text}</figure>"


def photos(groups: Sequence[Sequence[tuple[np.ndarray, str]]]) -> str:
    """Groups of photos, as many in a row as there is room for.

    Args:
        groups: Photos that stay side by side: floats `(height, width, 3)` in
            [0, 1], each with a text for those who cannot see it.
    """
    pillow = import_optional("PIL.Image", "report")
    lines = ['<div class="photos">']
    for group in groups:
        images = []
        for photo, alt in group:
            pixels, buffer = np.round(255 * photo), io.BytesIO()
            image = pillow.fromarray(pixels.astype(np.uint8))
            image.save(buffer, format="JPEG", quality=88)
            images.append(_image(buffer, "jpeg", alt))
        lines.append(f"<figure>{''.join(images)}</figure>")
    return "\n".join([*lines, "</div>"])


def _image(content: io.BytesIO, kind: str, alt: str) -> str:
    data = base64.b64encode(content.getvalue()).decode()
    return (
        f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}">'
    )

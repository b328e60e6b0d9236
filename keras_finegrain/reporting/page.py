"""The pieces of an HTML page that is one file."""

import base64
import hashlib
import html
import importlib.resources
import io
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.optional import import_optional


class Section(NamedTuple):
    """A part of the page, with an entry in its contents.

    Attributes:
        heading: Plain text.
        content: HTML.
    """

    heading: str
    content: str

    @property
    def anchor(self) -> str:
        """Where the contents lead to."""
        return "".join(
            letter if letter.isalnum() else "-"
            for letter in self.heading.lower()
        )


class Photo(NamedTuple):
    """A small picture in the page.

    Attributes:
        jpeg: What `jpeg` returns.
        alt: A text for those who cannot see it.
        title: The first line below it, plain text.
        note: What stands below that, in one or more lines.
        mark: `"right"`, `"wrong"`, or none: its frame.
    """

    jpeg: bytes
    alt: str
    title: str = ""
    note: str = ""
    mark: str = ""


class Cell(NamedTuple):
    """A cell of a table that is a number or holds HTML.

    Attributes:
        content: HTML.
        value: The number that it is sorted and filtered by.
    """

    content: str
    value: float | None = None


def page(title: str, sections: Sequence[Section], footer: str) -> str:
    """A whole HTML page.

    Args:
        title: Its title, as plain text.
        sections: Its parts. The first says what there is to know, below the
            title.
        footer: Plain text at its end.

    Example:

    >>> page("Owls", [Section("None", "<p>0</p>")], "").startswith("<!doctype")
    True
    """
    style, script = _file("page.css"), _file("page.js")
    # Nothing is fetched, and nothing is run but the page's own script,
    # whatever a class name holds.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    links = "".join(
        f'<li><a href="#{part.anchor}">{html.escape(part.heading)}</a></li>'
        for part in sections
    )
    first, *others = sections
    body = [
        f'<section id="{first.anchor}">',
        element(title, "h1"),
        f"{first.content}</section>",
    ]
    for part in others:
        body += [
            f'<section id="{part.anchor}">',
            element(part.heading, "h2"),
            f"{part.content}</section>",
        ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"{element(title, 'title')}\n<style>{style}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#{first.anchor}">To the results</a>\n'
        '<div class="layout">\n<nav class="contents" aria-label="Contents">'
        f"<details open><summary>Contents</summary><ol>{links}</ol></details>"
        '<button class="scheme" type="button" hidden></button></nav>\n<main>\n'
        + "\n".join(body)
        + f"\n{element(footer, 'footer')}\n</main>\n</div>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _file(name: str) -> str:
    folder = importlib.resources.files("keras_finegrain.reporting")
    return folder.joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """What a policy calls the text by."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def element(text: str, tag: str = "p", kind: str = "") -> str:
    """An HTML element that holds plain text, by default a paragraph."""
    opening = f'{tag} class="{kind}"' if kind else tag
    return f"<{opening}>{html.escape(text)}</{tag}>"


def _breakable(text: str) -> str:
    """Plain text as HTML that may go to a new line within a file's name."""
    return re.sub(r"(?<=[/_])(?=[^/_])", "<wbr>", html.escape(text))


def count(number: int, name: str) -> str:
    """A number of things: "1 photo", "2,000 photos"."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def link(file: str, text: str, name: str) -> str:
    """A paragraph with a link to a file beside the page."""
    target = html.escape(urllib.parse.quote(file))
    written = element(name, "a").replace("<a>", f'<a href="{target}">', 1)
    return f"<p>{html.escape(text)}: {written}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list of plain texts."""
    return f"<ul>{''.join(element(line, 'li') for line in lines)}</ul>"


def tiles(figures: Mapping[str, str]) -> str:
    """A few figures in large letters, each with what it is."""
    items = [
        f"<li>{element(value, 'b')}{html.escape(name)}</li>"
        for name, value in figures.items()
    ]
    return f'<ul class="tiles">{"".join(items)}</ul>'


def more(summary: str, *content: str) -> str:
    """HTML that is shown by a click."""
    return (
        f'<details class="more">{element(summary, "summary")}'
        f"{''.join(content)}</details>"
    )


def percent(share: float, digits: int = 0) -> Cell:
    """A share as a cell."""
    return Cell(f"{100 * share:.{digits}f} %", float(share))


def number(value: float) -> Cell:
    """A count as a cell."""
    return Cell(f"{value:,}", float(value))


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    caption: str,
) -> str:
    """A table that a narrow screen scrolls.

    Args:
        headings: Plain texts. A column without one cannot be sorted.
        rows: Cells: plain text, or a `Cell`.
        caption: What it shows, for those who cannot see it.
    """
    first = rows[0] if rows else [""] * len(headings)
    head = [
        f'<th scope="col"{_number_class(cell)}>{html.escape(heading)}</th>'
        for heading, cell in zip(headings, first, strict=True)
    ]
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        '<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{html.escape(caption)}"><table><thead><tr>'
        f"{''.join(head)}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _number_class(cell: str | Cell) -> str:
    is_number = isinstance(cell, Cell) and cell.value is not None
    return ' class="number"' if is_number else ""


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{_breakable(cell)}</td>"
    value = "" if cell.value is None else f' data-value="{cell.value:.6g}"'
    return f"<td{value}>{cell.content}</td>"


def data_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    caption: str,
    choices: Sequence[int] = (),
    least: int | None = None,
) -> str:
    """A table that is sorted by a click, and filtered.

    Args:
        headings: As in `table`.
        rows: As in `table`.
        caption: As in `table`.
        choices: Columns of plain text of which one value can be chosen. With
            one or more, a text can be searched, too.
        least: A column of shares of which the least can be chosen.
    """
    fields = []
    if choices:
        fields.append(_label("Search", '<input type="search">'))
    for column in choices:
        values = sorted({str(row[column]) for row in rows})
        fields.append(_select(headings[column], column, "", values, values))
    if least is not None:
        shares = [0.5, 0.7, 0.8, 0.9, 0.95]
        texts = [f"at least {100 * share:.0f} %" for share in shares]
        fields.append(
            _select(headings[least], least, " data-least", shares, texts)
        )
    filters = (
        f'<div class="filters" hidden>{"".join(fields)}'
        "<span><output></output> shown</span></div>"
        if fields
        else ""
    )
    written = table(headings, rows, caption=caption)
    return f'<div class="data">{filters}{written}</div>'


def _label(text: str, field: str) -> str:
    return f"<label>{html.escape(text)}{field}</label>"


def _select(
    heading: str,
    column: int,
    kind: str,
    values: Sequence[Any],
    texts: Sequence[str],
) -> str:
    options = [
        f'<option value="{html.escape(str(value))}">{html.escape(text)}'
        "</option>"
        for value, text in zip(values, texts, strict=True)
    ]
    return _label(
        heading,
        f'<select data-column="{column}"{kind}><option value="">all</option>'
        f"{''.join(options)}</select>",
    )


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
    return (
        f'<figure><div class="picture" tabindex="0" role="region" '
        f'aria-label="{html.escape(alt)}">'
        f"{_image(buffer.getvalue(), 'png', alt)}</div>{text}</figure>"
    )


def jpeg(photo: np.ndarray, side: int | None = None) -> bytes:
    """A photo as a JPEG file.

    Args:
        photo: Floats `(height, width, 3)` in [0, 1].
        side: The longer side is at most this long. Defaults to its own size.
    """
    pillow = import_optional("PIL.Image", "report")
    image = pillow.fromarray(np.round(255 * photo).astype(np.uint8))
    if side is not None:
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def thumbnail(content: bytes, alt: str) -> Cell:
    """A cell that holds a small picture."""
    return Cell(_image(content, "jpeg", alt))


def cards(groups: Iterable[Sequence[Photo]]) -> str:
    """Groups of photos, as many in a row as there is room for."""
    written = [f'<div class="card">{_photos(group)}</div>' for group in groups]
    return f'<div class="cards">{"".join(written)}</div>'


def strips(photos: Iterable[Photo]) -> str:
    """Photos side by side, in as many rows as they need."""
    return f'<div class="many">{_photos(list(photos))}</div>'


def strip(photos: Sequence[Photo], label: str) -> str:
    """Photos in one row, which a narrow screen scrolls."""
    return (
        '<div class="strip" tabindex="0" role="region" '
        f'aria-label="{html.escape(label)}">{_photos(photos)}</div>'
    )


def _photos(photos: Sequence[Photo]) -> str:
    written = []
    for photo in photos:
        text = f"<b>{_breakable(photo.title)}</b>" if photo.title else ""
        written.append(
            f'<figure class="photo {photo.mark}">'
            f"{_image(photo.jpeg, 'jpeg', photo.alt)}"
            f"<figcaption>{text}{_breakable(photo.note)}</figcaption></figure>"
        )
    return "".join(written)


def _image(content: bytes, kind: str, alt: str) -> str:
    pillow = import_optional("PIL.Image", "report")
    data = base64.b64encode(content).decode()
    # With its size, the page does not move when it is decoded.
    with pillow.open(io.BytesIO(content)) as image:
        width, height = image.size
    return (
        f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" '
        'loading="lazy" decoding="async" '
        f'src="data:image/{kind};base64,{data}">'
    )

"""Draws the pictures of the synthetic birds into docs/images.

python benchmarks/synthetic_birds_pictures.py
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from keras_finegrain.datasets.synthetic_birds import (
    SyntheticBirdsConfig,
    draw,
    draw_portrait,
    parts_between,
    species_table,
)

_PAPER = (242, 240, 230)
_TEXT, _QUIET = (40, 38, 36), (125, 118, 110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="docs/images", type=pathlib.Path)
    output = parser.parse_args().output
    save(species_sheet(), output / "synthetic_birds_species.png")
    save(plumages(), output / "synthetic_birds_plumages.png", bits=5)
    save(photos(), output / "synthetic_birds_photos.png", bits=5)
    save(annotated(), output / "synthetic_birds_annotations.png", bits=5)


def species_sheet(columns: int = 4, size: int = 208) -> Image.Image:
    """A portrait of each species of the default, and what sets it apart."""
    table = species_table(12, 2)
    rows = -(-len(table) // columns)
    sheet = Image.new("RGB", (columns * size, rows * (size + 34)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for label, species in enumerate(table):
        x, y = label % columns * size, label // columns * (size + 34)
        sheet.paste(Image.fromarray(draw_portrait(species, size)), (x, y))
        apart = ", ".join(parts_between(table[0], species))
        middle = x + size // 2
        pen.text(
            (middle, y + size - 4),
            species.name,
            _TEXT,
            ImageFont.load_default(15),
            anchor="ma",
        )
        pen.text(
            (middle, y + size + 13),
            f"other {apart}" if apart else "the first",
            _QUIET,
            ImageFont.load_default(11),
            anchor="ma",
        )
    return sheet


def plumages(columns: int = 6, size: int = 150) -> Image.Image:
    """A column for each species of `three_plumages`, a row for each look."""
    looks = SyntheticBirdsConfig(plumages=3).plumages_of[:columns]
    sheet = Image.new("RGB", (columns * size, 3 * size + 26), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, species in enumerate(looks):
        for row, plumage in enumerate(species):
            portrait = Image.fromarray(draw_portrait(plumage, size))
            sheet.paste(portrait, (column * size, row * size))
        pen.text(
            (column * size + size // 2, 3 * size + 4),
            species[0].name,
            _TEXT,
            ImageFont.load_default(13),
            anchor="ma",
        )
    return sheet


def photos(columns: int = 12, rows: int = 3, size: int = 79) -> Image.Image:
    """A column for each species, so that its look shows."""
    table = species_table(12, 2)
    return Image.fromarray(
        np.vstack(
            [
                np.hstack(
                    [
                        draw(table[column], [row, column], size)[0]
                        for column in range(columns)
                    ]
                )
                for row in range(rows)
            ]
        )
    )


def annotated(columns: int = 4, size: int = 200) -> Image.Image:
    """Mask, bounding box, and parts: filled where they can be seen."""
    table = species_table(12, 2)
    strip = Image.new("RGB", (columns * size, size))
    for column in range(columns):
        image, annotations = draw(table[2 * column + 3], [4, column], size)
        shaded = np.where(
            annotations.mask[..., None], image, image // 2 + 40
        ).astype(np.uint8)
        photo = Image.fromarray(shaded)
        pen = ImageDraw.Draw(photo)
        ymin, xmin, ymax, xmax = (edge * size for edge in annotations.bbox)
        pen.rectangle((xmin, ymin, xmax - 1, ymax - 1), outline=(255, 214, 64))
        for point in annotations.parts.values():
            x, y = point.x * size, point.y * size
            pen.ellipse(
                (x - 3, y - 3, x + 3, y + 3),
                fill=(64, 220, 255) if point.visible else None,
                outline=(10, 60, 80) if point.visible else (255, 90, 80),
            )
        strip.paste(photo, (column * size, 0))
    return strip


def save(picture: Image.Image, path: pathlib.Path, bits: int = 8) -> None:
    # The noise of a sensor is in the lowest bits, and PNG cannot pack it.
    ImageOps.posterize(picture, bits).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

"""What decides the gallery's defaults must be computed as it is described."""

import keras
import numpy as np
import pytest
from unknown import DEFAULT, METHODS, WAYS, class_similarities, main, unit

from keras_finegrain import Gallery

pytestmark = pytest.mark.one_backend

RNG = np.random.default_rng(0)
GALLERY = unit(RNG.normal(size=(30, 4)))
LABELS = np.arange(30) % 3
QUERIES = unit(RNG.normal(size=(5, 4)))


def cosine(left, right):
    return left @ right / np.linalg.norm(left) / np.linalg.norm(right)


def near(query, photos):
    return photos.T @ np.exp(photos @ query / 0.3)


@pytest.mark.parametrize(
    ("way", "wanted"),
    [
        ("nearest", lambda q, photos: max(photos @ q)),
        ("nearest 5", lambda q, photos: np.mean(sorted(photos @ q)[-5:])),
        ("mean", lambda q, photos: cosine(q, photos.mean(axis=0))),
        ("bandwidth 0.3", lambda q, photos: cosine(q, near(q, photos))),
        (
            "mixture",
            lambda q, photos: (
                0.75 * cosine(q, photos.mean(axis=0)) + 0.25 * max(photos @ q)
            ),
        ),
    ],
)
def test_how_like_a_photo_is_to_a_class(way, wanted):
    found = class_similarities(QUERIES, GALLERY, LABELS, 3, way)

    for i, query in enumerate(QUERIES):
        for k in range(3):
            photos = GALLERY[k == LABELS]
            assert found[i, k] == pytest.approx(wanted(query, photos), abs=1e-5)


def test_the_default_is_that_of_a_gallery():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Identity()])
    made = Gallery.of_embeddings(model, GALLERY, LABELS)
    found = class_similarities(QUERIES, GALLERY, LABELS, 3, DEFAULT)

    for answer, row in zip(made.identify(QUERIES), found, strict=True):
        assert answer.class_name == f"class {row.argmax()}"
        assert answer.similarity == pytest.approx(row.max(), abs=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_photo_of_the_gallery_is_not_compared_with_itself(way):
    excluded = np.eye(30, dtype=bool)[[4, 7]]

    found = class_similarities(
        GALLERY[[4, 7]], GALLERY, LABELS, 3, way, excluded=excluded
    )

    for row, photo in enumerate((4, 7)):
        kept = np.arange(30) != photo
        without = class_similarities(
            GALLERY[[photo]], GALLERY[kept], LABELS[kept], 3, way
        )
        np.testing.assert_allclose(found[row], without[0])


def test_the_tables_of_the_page_are_made_from_the_lines(capsys):
    assert main(["--table"]) == 0

    printed = capsys.readouterr().out
    for method in METHODS:
        assert method in printed
    assert "nan" not in printed


def test_the_tables_have_the_methods_that_are_named(capsys):
    assert main(["--table", "--methods", "last_soft_triple"]) == 0

    headings = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| score |")
    ]
    assert headings
    assert set(headings) == {"| score | last_soft_triple |"}

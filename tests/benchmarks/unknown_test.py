"""What decides the gallery's defaults must be computed as it is described."""

import numpy as np
import pytest
from unknown import METHODS, class_similarities, main, unit

pytestmark = pytest.mark.one_backend

RNG = np.random.default_rng(0)
GALLERY = unit(RNG.normal(size=(30, 4)))
LABELS = np.arange(30) % 3
QUERIES = unit(RNG.normal(size=(5, 4)))


@pytest.mark.parametrize("nearest", [1, 3])
def test_a_class_is_as_like_as_its_mean_and_as_its_nearest_photos(nearest):
    means, photos = class_similarities(QUERIES, GALLERY, LABELS, 3, nearest)

    for i, query in enumerate(QUERIES):
        for k in range(3):
            of_class = GALLERY[k == LABELS]
            mean = of_class.mean(axis=0)
            np.testing.assert_allclose(
                means[i, k], query @ mean / np.linalg.norm(mean)
            )
            best = sorted(of_class @ query)[-nearest:]
            np.testing.assert_allclose(photos[i, k], np.mean(best))


def test_a_photo_of_the_gallery_is_not_compared_with_itself():
    excluded = np.eye(30, dtype=bool)[[4, 7]]

    found = class_similarities(
        GALLERY[[4, 7]], GALLERY, LABELS, 3, excluded=excluded
    )

    for row, photo in enumerate((4, 7)):
        kept = np.arange(30) != photo
        without = class_similarities(
            GALLERY[[photo]], GALLERY[kept], LABELS[kept], 3
        )
        for of_all, of_others in zip(found, without, strict=True):
            np.testing.assert_allclose(of_all[row], of_others[0])


def test_the_tables_of_the_page_are_made_from_the_lines(capsys):
    assert main(["--table"]) == 0

    printed = capsys.readouterr().out
    for method in METHODS:
        assert method in printed
    assert "nan" not in printed

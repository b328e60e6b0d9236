import numpy as np
import pytest

from keras_finegrain.datasets.errors import DatasetError, listed
from keras_finegrain.datasets.selection import (
    first_classes,
    matching_classes,
    stratified_split,
)

pytestmark = pytest.mark.one_backend

NAMES = ("House_Sparrow", "song_sparrow", "winter wren", "n02085620-wren")


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("SPARROW", [0, 1]),
        ("song sparrow", [1]),
        ("winter_wren", [2]),
        ("*wren", [2, 3]),
        ("wren*", None),
        ("n0*", [3]),
        ("[hs]*", [0, 1]),
        ("*", [0, 1, 2, 3]),
    ],
)
def test_a_pattern_selects_by_part_or_by_wildcard(pattern, labels):
    if labels is None:
        with pytest.raises(DatasetError):
            matching_classes(pattern, NAMES)
    else:
        assert matching_classes(pattern, NAMES) == labels


def test_a_misspelled_pattern_is_answered_with_near_names():
    with pytest.raises(DatasetError, match="did you mean 'House_Sparrow'"):
        matching_classes("sparow", NAMES)


def test_an_empty_pattern_does_not_select_everything():
    with pytest.raises(DatasetError, match="non-empty"):
        matching_classes("", NAMES)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_every_class_is_in_both_splits(fraction):
    labels = np.array([0] * 40 + [1] * 2 + [-1] * 3 + [2] * 10)
    is_test = stratified_split(labels, fraction, seed=0)
    assert not is_test[labels < 0].any()
    for label, size in ((0, 40), (1, 2), (2, 10)):
        count = is_test[labels == label].sum()
        assert count == min(max(round(size * fraction), 1), size - 1)


def test_a_share_of_the_classes_is_rounded_down_and_leaves_two():
    assert first_classes(200, 0.5) == 100
    assert first_classes(21, 0.5) == 10
    assert first_classes(100, 0.57) == 57
    assert first_classes(4, 0.5) == 2
    for num_classes, share in ((3, 0.5), (10, 0.1), (10, 0.95)):
        with pytest.raises(DatasetError, match="at least 2"):
            first_classes(num_classes, share)


def test_a_long_list_of_names_is_cut():
    assert listed(list("abc")) == "'a', 'b', 'c'"
    assert listed(list("abcdefgh")).endswith("'e' and 3 more")

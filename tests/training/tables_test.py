import pytest

from keras_finegrain.training.tables import (
    cell,
    markdown,
    mean_and_interval,
    plain,
)

ROWS = [["method", "top-1 %"], ["softmax", "61.0 ± 2.4"], ["mc", "7.0"]]


def test_the_interval_is_students():
    pytest.importorskip("scipy")
    # With two values the 95 % t-interval is 12.706 standard errors.
    assert mean_and_interval([0.4, 0.6]) == pytest.approx(
        (0.5, 12.7062 * 0.1), abs=1e-4
    )
    # With five it is 2.776 of them.
    _, interval = mean_and_interval([1, 2, 3, 4, 5])
    assert interval == pytest.approx(2.7764 * 0.5**0.5, abs=1e-4)


def test_one_seed_has_no_interval():
    assert mean_and_interval([0.4]) == (0.4, None)
    assert cell([0.25], 1) == "0.2"


def test_a_gain_has_its_sign_and_a_mean_only_a_minus():
    pytest.importorskip("scipy")
    assert cell([0.4, 0.6], 2, sign="+") == "+0.50 ± 1.27"
    assert cell([0.4, 0.6], 2) == "0.50 ± 1.27"
    assert cell([-0.4, -0.6], 2) == "-0.50 ± 1.27"


def test_a_page_has_numbers_to_the_right():
    assert markdown(ROWS) == (
        "| method | top-1 % |\n|---|---:|\n"
        "| softmax | 61.0 ± 2.4 |\n| mc | 7.0 |\n"
    )


def test_a_terminal_has_the_same_table_in_columns():
    assert plain(ROWS).splitlines() == [
        "method      top-1 %",
        "softmax  61.0 ± 2.4",
        "mc              7.0",
    ]

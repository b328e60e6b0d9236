"""A missing package is one line that says what to install."""

import pytest

from keras_finegrain.visualization.requirements import import_for_pictures


def test_a_missing_package_names_the_extra():
    with pytest.raises(ImportError, match=r"keras-finegrain\[examples\]"):
        import_for_pictures("a_package_that_nobody_has.module")

"""What the tests of the data room read of its errors."""

import pytest

from keras_finegrain import datasets


def message(call, *args, error=datasets.DatasetError, **kwargs):
    """The text of the error that a call raises: one line."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text

import keras
import numpy as np
import pytest

from keras_finegrain.datasets import crops, transforms
from keras_finegrain.datasets.decoding import decode, problem_of
from keras_finegrain.datasets.image_files import undecoded
from keras_finegrain.datasets.transforms import crop_to_box

pytestmark = pytest.mark.one_backend


def positions(height, width):
    """Every pixel holds its own row and column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], -1).astype("float32")


@pytest.mark.parametrize(
    "box",
    [
        (0.1, 0.3, 0.4, 0.4),  # tall
        (0.4, 0.2, 0.5, 0.7),  # wide
        (0.0, 0.0, 0.3, 0.1),  # in a corner
        (0.6, 0.8, 1.0, 1.0),  # in the other one
    ],
)
def test_the_evaluation_crop_of_a_box_holds_all_of_it(box):
    cut = np.asarray(crop_to_box(positions(200, 240), box))
    assert abs(cut.shape[0] - cut.shape[1]) <= 1
    top, left, bottom, right = np.array(box) * (200, 240, 200, 240)
    if min(box) > 0 and max(box) < 1:  # The border leaves no room around.
        cut = transforms.evaluation_crop(cut, cut.shape[0])
    assert cut[..., 0].min() <= top + 1
    assert cut[..., 1].min() <= left + 1
    assert cut[..., 0].max() >= bottom - 2
    assert cut[..., 1].max() >= right - 2
    side = max(bottom - top, right - left) / crops.EVALUATION_SIDE
    assert max(cut.shape) <= np.ceil(side)


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((0.0, 0.0, 1.0, 1.0), (20, 50, 3)),
        ((0.5, 0.5, 0.5, 0.5), (1, 1, 3)),
        ((1.0, 1.0, 1.0, 1.0), (1, 1, 3)),
        ((0.9, 0.9, 0.1, 0.1), (1, 1, 3)),
        ((-0.5, -0.5, 1.5, 1.5), (20, 50, 3)),
        ((0.0, 0.2, 1.0, 0.8), (20, 35, 3)),
    ],
)
def test_a_box_at_or_over_the_border_gives_what_there_is(box, shape):
    assert crop_to_box(positions(20, 50), box).shape == shape


def read_by_a_loop(images):
    list(images)


def read_by_fit(images):
    model = keras.Sequential([keras.layers.GlobalMaxPooling2D()])
    model.compile("sgd", "mse")
    model.fit(images.map(lambda image: (image[None], [[0.0]])), verbose=0)


@pytest.mark.parametrize("read", [read_by_a_loop, read_by_fit])
@pytest.mark.parametrize("origin", ["photo.png", 'a  b/it\'s "é"\\中.png'])
def test_an_error_of_tensorflow_tells_which_image_it_is(read, origin):
    import tensorflow as tf

    files = tf.data.Dataset.from_tensors({"encoded": b"x", "origin": origin})
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read(files.map(decode))
    assert problem_of(caught.value) == undecoded(origin)


def test_another_error_of_tensorflow_is_no_image_at_fault():
    import tensorflow as tf

    def checked(number):
        tf.debugging.assert_less(number, tf.constant(1, "int64"))
        return number

    numbers = tf.data.Dataset.range(3).map(checked)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(numbers)
    assert problem_of(caught.value) is None

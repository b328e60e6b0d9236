import numpy as np
import pytest

from keras_finegrain.datasets import crops
from keras_finegrain.datasets.crops import TRAINING_AREA, TRAINING_ASPECT
from keras_finegrain.datasets.transforms import crop_to_box, evaluation_crop

# Square, the usual 4:3 both ways, and so long that not every aspect fits.
SHAPES = [(10, 10), (9, 12), (12, 9), (6, 14), (14, 6)]
SIZES = 20 * np.array(SHAPES)
# So long that no part of the photo has both area and aspect.
STRIPES = [(10, 300), (300, 10), (3, 1)]


def random_sizes(count, high=400):
    return np.random.default_rng(0).integers(1, high, (count, 2))


def measures(boxes, sizes):
    """Area as a share of the photo, aspect, and the middle of the box."""
    boxes, sizes = np.float64(boxes), np.float64(sizes)
    extents = boxes[:, 2:] - boxes[:, :2]
    middles = (boxes[:, 2:] + boxes[:, :2]) / 2 / sizes
    return {
        "area": extents.prod(axis=1) / sizes.prod(axis=1),
        "aspect": extents[:, 1] / extents[:, 0],
        "row": middles[:, 0],
        "column": middles[:, 1],
    }


def positions(height, width):
    """Every pixel holds its own row and column."""
    return np.stack(np.mgrid[:height, :width], -1).astype("float32")


def edges(cut):
    """The box that a part of `positions` was cut from."""
    cut = np.asarray(cut)
    return [*cut[0, 0], *(cut[-1, -1] + 1)]


def test_evaluation_boxes_are_what_the_evaluation_crop_cuts():
    pytest.importorskip("tensorflow")
    # Among them sides whose 87.5 % end in a half: 4, 12, 20, 28, …
    sizes = [(side, side + 7) for side in range(1, 61)]
    sizes += [(width, height) for height, width in sizes] + [(256, 341)]
    boxes = crops.evaluation_boxes(sizes)
    assert boxes.dtype == np.float32
    for size, box in zip(sizes, boxes, strict=True):
        side = int(box[2] - box[0])
        # Resized to its own side, the crop keeps its pixels.
        cut = evaluation_crop(positions(*size), side)
        np.testing.assert_allclose(edges(cut), box, atol=1e-3)


@pytest.mark.parametrize("sizes", [SIZES, STRIPES, random_sizes(300)])
def test_training_boxes_lie_inside_their_photos(sizes):
    sizes = np.repeat(sizes, 20, axis=0)
    boxes = crops.training_boxes(sizes, np.random.default_rng(1))
    assert boxes.shape == (len(sizes), 4)
    assert boxes.dtype == np.float32
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= sizes).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_training_boxes_keep_area_and_aspect_in_their_ranges():
    sizes = np.repeat(SIZES, 400, axis=0)
    boxes = crops.training_boxes(sizes, np.random.default_rng(2))
    for name, (low, high) in (
        ("area", TRAINING_AREA),
        ("aspect", TRAINING_ASPECT),
    ):
        measured = measures(boxes, sizes)[name]
        assert measured.min() >= low - 1e-5
        assert measured.max() <= high + 1e-5


def test_a_photo_in_which_no_part_fits_is_taken_whole():
    boxes = crops.training_boxes(STRIPES, np.random.default_rng(3))
    np.testing.assert_array_equal(boxes[:, :2], 0)
    np.testing.assert_array_equal(boxes[:, 2:], STRIPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_boxes_are_distributed_as_tensorflow_draws_them(shape):
    tf = pytest.importorskip("tensorflow")
    # Enough to tell a height that is uniform from an area that is: the area's
    # distributions are 0.04 apart.
    draws = 10_000
    # So large that TensorFlow's rounding to whole pixels does not show.
    size = tuple(1000 * side for side in shape)

    def drawn(seed):
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            (*size, 3),
            tf.zeros((1, 0, 4)),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=TRAINING_ASPECT,
            area_range=TRAINING_AREA,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], begin[:2] + extent[:2]], 0)

    seeds = tf.constant([(4, i) for i in range(draws)])
    theirs = tf.function(lambda: tf.map_fn(drawn, seeds))().numpy()
    # A corner at whole pixels, below the room that is left, is spread over
    # its pixel: it shows where that room is small.
    room = theirs[:, 2:] < size
    corners = room * np.random.default_rng(5).random((draws, 2))
    theirs = theirs + np.tile(corners, 2)
    sizes = np.tile(size, (draws, 1))
    ours = crops.training_boxes(sizes, np.random.default_rng(6))
    # Two samples of one distribution are farther apart in one case of a
    # thousand (Smirnov: 1.95 is √(ln(2 / 0.001) / 2)).
    bound = 1.95 * np.sqrt(2 / draws)
    for name, their_values in measures(theirs, sizes).items():
        distance = ks_distance(measures(ours, sizes)[name], their_values)
        assert distance < bound, name


def ks_distance(first, second):
    """The largest difference of two empirical distribution functions."""
    values = np.sort(np.concatenate([first, second]))
    shares = [
        np.searchsorted(np.sort(sample), values, side="right") / sample.size
        for sample in (first, second)
    ]
    return np.abs(shares[0] - shares[1]).max()


def test_the_same_generator_gives_the_same_boxes_and_then_others():
    draws = []
    for _ in range(2):
        rng = np.random.default_rng(6)
        first = crops.training_boxes(SIZES, rng)
        second = crops.mirrored(crops.training_boxes(SIZES, rng), rng)
        draws.append((first, second))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0][0] != draws[0][1]).any(axis=1).all()


def test_what_follows_in_a_generator_does_not_depend_on_the_sizes():
    following = []
    for sizes in (SHAPES, STRIPES + SHAPES[:2]):
        rng = np.random.default_rng(7)
        crops.training_boxes(sizes, rng)
        following.append(rng.random())
    assert following[0] == following[1]


def test_half_of_the_boxes_are_mirrored_and_nothing_else_changes():
    sizes = np.tile((60, 80), (1000, 1))
    boxes = crops.training_boxes(sizes, np.random.default_rng(8))
    given = boxes.copy()
    turned = crops.mirrored(boxes, np.random.default_rng(9))
    np.testing.assert_array_equal(boxes, given)
    assert turned.dtype == np.float32
    swapped = turned[:, 1] > turned[:, 3]
    # 500 ± 16 of them.
    assert 440 < swapped.sum() < 560
    np.testing.assert_array_equal(turned[~swapped], boxes[~swapped])
    np.testing.assert_array_equal(
        turned[swapped], boxes[swapped][:, [0, 3, 2, 1]]
    )


def test_squares_around_boxes_are_what_crop_to_box_cuts():
    pytest.importorskip("tensorflow")
    rng = np.random.default_rng(10)
    sizes = random_sizes(300, high=200)
    corners = np.sort(rng.uniform(-0.1, 1.1, (300, 2, 2)), axis=1)
    boxes = corners.reshape(300, 4).astype(np.float32)
    # A point, a box the wrong way round, the whole, and a side of whole
    # pixels: 7 of them are a square of 8.
    boxes[:4] = [[0.5] * 4, [0.9, 0.9, 0.1, 0.1], [0, 0, 1, 1], [0, 0, 0.5, 1]]
    sizes[3] = (14, 7)
    squares = crops.squares_around(boxes, sizes)
    assert squares.dtype == np.float32
    for size, box, square in zip(sizes, boxes, squares, strict=True):
        cut = edges(crop_to_box(positions(*size), box))
        np.testing.assert_array_equal(cut, square)


@pytest.mark.parametrize(
    "sizes",
    [[(10, 0)], [(10.5, 20.0)], (10, 20), [(10, 20, 3)], np.ones((99, 3))],
)
@pytest.mark.parametrize(
    "call",
    [
        crops.evaluation_boxes,
        lambda sizes: crops.training_boxes(sizes, np.random.default_rng(0)),
        lambda sizes: crops.squares_around([(0, 0, 1, 1)], sizes),
    ],
    ids=["evaluation_boxes", "training_boxes", "squares_around"],
)
def test_sizes_that_are_none_are_refused_in_one_line(call, sizes):
    with pytest.raises(ValueError, match="sizes must hold") as caught:
        call(sizes)
    assert "\n" not in str(caught.value)


def test_boxes_of_another_shape_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"mirrored: boxes .*\(4,\)"):
        crops.mirrored([0, 0, 1, 1], rng)
    with pytest.raises(ValueError, match=r"squares_around: boxes .*\(1, 4\)"):
        crops.squares_around([(0, 0, 1, 1)], [(5, 5), (6, 6)])

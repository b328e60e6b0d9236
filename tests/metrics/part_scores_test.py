"""The part scores against birds whose parts are known and channels made."""

import pathlib
import re

import keras
import numpy as np
import pytest

from keras_finegrain.datasets.synthetic_birds.drawing import part_masks
from keras_finegrain.datasets.synthetic_birds.species import (
    PARTS,
    species_table,
)
from keras_finegrain.metrics.part_scores import (
    channel_part_diversity,
    deciding_part_coverage,
    part_shares,
)

SEEDS_AND_SPECIES = list(enumerate(species_table(8, 1)))


@pytest.fixture(scope="module")
def birds():
    """Masks of eight birds of which a leaf hides no part."""
    masks = np.stack(
        [part_masks(species, seed) for seed, species in SEEDS_AND_SPECIES]
    )
    assert masks.any(axis=(2, 3)).all()
    return masks


def maps_on(masks, parts):
    """Feature maps at the masks' size, a channel on each named part."""
    # A pixel on a seam belongs to two.
    alone = masks & (masks.sum(axis=1, keepdims=True) == 1)
    chosen = alone[:, [list(PARTS).index(part) for part in parts]]
    return np.moveaxis(chosen, 1, -1).astype(np.float32)


def every(images, channels):
    return np.tile(np.arange(channels), (images, 1))


def test_channels_on_three_parts_are_three_parts(birds):
    maps = maps_on(birds, ("tail", "wing", "beak"))

    scores = channel_part_diversity(maps, birds, every(8, 3))

    names = np.array(list(PARTS))[scores.parts]
    assert (names == ["tail", "wing", "beak"]).all()
    assert scores.distinct == 1.0
    assert scores.on_parts == 1.0


def test_channels_on_one_part_are_one_part(birds):
    maps = maps_on(birds, ("tail", "tail", "tail"))

    scores = channel_part_diversity(maps, birds, every(8, 3))

    assert scores.distinct == pytest.approx(1 / 3)
    assert scores.on_parts == 1.0


def test_background_and_flat_channels_sit_on_no_part(birds):
    background = ~birds.any(axis=1)
    maps = np.stack(
        [background, np.zeros_like(background), birds[:, 0]], axis=-1
    )

    scores = channel_part_diversity(maps, birds, every(8, 3))

    assert (scores.parts == [-1, -1, 0]).all()
    assert scores.distinct == pytest.approx(1 / 3)
    assert scores.on_parts == pytest.approx(1 / 3)


def test_a_flat_channel_sits_not_even_on_a_part_in_the_first_cell():
    masks = np.zeros((1, 1, 4, 4), bool)
    masks[0, 0, :2, :2] = True
    scores = channel_part_diversity(
        np.ones((1, 2, 2, 1)), masks, np.array([[0]])
    )
    assert scores.parts.tolist() == [[-1]]


def test_only_the_channels_of_the_class_are_looked_at(birds):
    maps = maps_on(birds, ("beak", "tail", "wing", "wing"))
    channels = np.array([[0, 1], [2, 3]])[np.arange(8) % 2]

    scores = channel_part_diversity(maps, birds, channels)

    assert (scores.parts[0::2] == [0, 5]).all()
    assert (scores.parts[1::2] == [3, 3]).all()
    assert scores.distinct == pytest.approx((1 + 1 / 2) / 2)


def test_a_coarse_cell_belongs_to_the_part_that_fills_most_of_it():
    masks = np.zeros((1, 2, 8, 8), bool)
    masks[0, 0, 0, :3] = True  # Three pixels of the upper left cell,
    masks[0, 1, 2:4, :4] = True  # eight of the same.
    maps = np.zeros((1, 2, 2, 1))
    maps[0, 0, 0] = 1.0

    scores = channel_part_diversity(maps, masks, np.array([[0]]))

    assert scores.parts.tolist() == [[1]]


def test_chance_is_what_channels_at_random_places_score(birds):
    rng = np.random.default_rng(0)
    masks = np.repeat(birds, 400, axis=0)

    scores = channel_part_diversity(
        rng.random((len(masks), 8, 8, 3)), masks, every(len(masks), 3)
    )

    assert scores.distinct == pytest.approx(scores.chance, abs=0.02)


def test_chance_on_parts_is_what_random_places_on_the_parts_score(birds):
    # Two channels, each at a random place on the bird in half of the photos
    # and behind it in the others, one independent of the other.
    rng = np.random.default_rng(0)
    masks = np.repeat(birds, 100, axis=0)
    bird = masks.any(axis=1)
    on_bird = (rng.random((2, *bird.shape)) + 1.0) * bird
    off_bird = (rng.random(bird.shape) + 1.0) * ~bird
    lost = rng.random(len(masks)) < 0.5
    first = np.where(lost[:, None, None], off_bird, on_bird[0])
    second = np.where(
        rng.permutation(lost)[:, None, None], off_bird, on_bird[1]
    )

    scores = channel_part_diversity(
        np.stack([first, second], axis=-1), masks, every(len(masks), 2)
    )

    assert scores.on_parts == pytest.approx(0.5, abs=0.05)
    assert scores.distinct == pytest.approx(scores.chance_on_parts, abs=0.03)
    assert scores.chance < 0.5 * scores.chance_on_parts


def test_a_bird_behind_leaves_has_no_part_to_sit_on():
    masks = np.zeros((1, 7, 8, 8), bool)

    scores = channel_part_diversity(np.eye(8)[None, ..., None], masks, [[0]])

    assert scores.distinct == scores.chance == scores.chance_on_parts == 0.0


def test_a_map_on_the_deciding_parts_covers_them(birds):
    deciding = birds[:, [0, 5]].any(axis=1)

    scores = deciding_part_coverage(deciding.astype(float), deciding)

    assert scores.share == pytest.approx(1.0)
    assert scores.hits == 1.0
    assert scores.ratio == pytest.approx(1.0 / deciding.mean())


def test_a_map_elsewhere_covers_nothing(birds):
    deciding = birds[:, 0]

    scores = deciding_part_coverage(1.0 - deciding, deciding)

    assert scores.share == scores.hits == 0.0


def test_a_flat_map_covers_the_area(birds):
    deciding = birds[:, 3]

    scores = deciding_part_coverage(np.ones((8, 8, 8)), deciding)

    assert scores.share == pytest.approx(scores.area)
    assert scores.area == pytest.approx(deciding.mean())
    assert scores.ratio == pytest.approx(1.0)


def test_random_peaks_hit_by_chance(birds):
    deciding = np.repeat(birds[:, 3], 400, axis=0)
    maps = np.random.default_rng(0).random((len(deciding), 8, 8))

    scores = deciding_part_coverage(maps, deciding)

    assert scores.hits == pytest.approx(scores.hit_chance, abs=0.03)
    assert scores.hit_chance > scores.area


def test_hidden_parts_are_left_out_and_an_empty_map_covers_nothing():
    masks = np.zeros((3, 4, 4), bool)
    masks[:2, :2, :2] = True
    maps = np.zeros((3, 2, 2))
    maps[0, 0, 0] = 2.0
    maps[2, 1, 1] = 2.0

    scores = deciding_part_coverage(maps, masks)

    # Full and none; the third has no mask.
    assert scores.share == scores.hits == 0.5
    assert scores.area == 0.25


def test_the_share_is_the_mean_of_the_images_whatever_their_mass():
    masks = np.zeros((2, 2, 2), bool)
    masks[:, 0, 0] = True
    maps = np.array([[[1.0, 3.0], [0.0, 0.0]], [[100.0, 0.0], [0.0, 0.0]]])

    assert deciding_part_coverage(maps, masks).share == (0.25 + 1.0) / 2


def test_the_shares_of_a_map_follow_the_pixels_of_its_cells():
    masks = np.zeros((1, 2, 4, 4), bool)
    masks[0, 0, :2, :1] = True  # Half of the upper left cell,
    masks[0, 1] = True  # and all cells.
    maps = np.array([[[4.0, 0.0], [0.0, 4.0]]])

    np.testing.assert_allclose(part_shares(maps, masks), [[0.25, 1.0]])


def test_takes_tensors_of_the_backend(birds):
    maps = maps_on(birds, ("tail", "wing", "beak"))
    tensor = keras.ops.convert_to_tensor(maps)
    masks = keras.ops.convert_to_tensor(birds)
    channels = keras.ops.convert_to_tensor(every(8, 3))

    scores = channel_part_diversity(tensor, masks, channels)

    assert scores.distinct == 1.0
    np.testing.assert_allclose(
        part_shares(tensor[..., 0], masks), part_shares(maps[..., 0], birds)
    )
    assert deciding_part_coverage(tensor[..., 0], masks[:, 5]).share == 1.0


MAPS = np.ones((2, 4, 4, 3))
MASKS = np.ones((2, 7, 8, 8), bool)
CHANNELS = np.zeros((2, 3), int)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MAPS[0], MASKS, CHANNELS), "feature_maps must have 4 axes"),
        ((MAPS * np.nan, MASKS, CHANNELS), "feature_maps must be finite"),
        ((MAPS, MASKS * 1.0, CHANNELS), "part_masks must be booleans"),
        ((MAPS, MASKS[:1], CHANNELS), "have 2 images.*received 1"),
        ((MAPS, MASKS[..., :6], CHANNELS), r"of the maps' \(4, 4\).*\(8, 6\)"),
        ((MAPS, MASKS, CHANNELS[0]), r"channels must be integers \(2, ξ\)"),
        ((MAPS, MASKS, CHANNELS - 1), r"in \[0, 3\).*from -1 to -1"),
        ((MAPS, MASKS, CHANNELS + 3), r"in \[0, 3\).*from 3 to 3"),
        ((MAPS, MASKS, CHANNELS * 1.0), "channels must be integers.*float64"),
    ],
)
def test_impossible_channels_are_named(arguments, message):
    with pytest.raises(
        ValueError, match=f"channel_part_diversity: .*{message}"
    ):
        channel_part_diversity(*arguments)


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (MAPS[..., 0] - 2.0, MASKS[:, 0], "not be negative.*minimum of -1"),
        (MAPS, MASKS[:, 0], "heat_maps must have 3 axes"),
        (MAPS[..., 0], MASKS, "masks must be booleans with 3 axes"),
        (MAPS[..., 0], ~MASKS[:, 0], "at least one image.*2 empty ones"),
    ],
)
def test_impossible_heat_maps_are_named(maps, masks, message):
    with pytest.raises(
        ValueError, match=f"deciding_part_coverage: .*{message}"
    ):
        deciding_part_coverage(maps, masks)


def test_shares_of_negative_maps_are_refused():
    with pytest.raises(ValueError, match="part_shares: heat_maps must not be"):
        part_shares(-MAPS[..., 0], MASKS)


def test_the_code_on_the_page_runs(capsys):
    page = pathlib.Path(__file__).parents[2] / "docs" / "part_scores.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {}

    exec(compile(block, str(page), "exec"), names)

    assert names["drops"].shape == (4, len(PARTS))
    assert f"ρ = {names['correlation']:.2f}" in capsys.readouterr().out

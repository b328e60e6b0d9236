import subprocess
import sys

import numpy as np
import pytest

from keras_finegrain.datasets.synthetic_birds.bird import (
    PART_POINTS,
    Pose,
    draw_bird,
    reach,
)
from keras_finegrain.datasets.synthetic_birds.drawing import (
    PartPoint,
    bounding_box,
    draw,
    draw_portrait,
    part_masks,
)
from keras_finegrain.datasets.synthetic_birds.raster import Layer
from keras_finegrain.datasets.synthetic_birds.scene import (
    background,
    in_front,
    perch,
    sample_plumage,
    sample_pose,
)
from keras_finegrain.datasets.synthetic_birds.species import (
    PARTS,
    Species,
    species_table,
)

pytestmark = pytest.mark.one_backend

PLAIN = Species((0,) * 7)
SPECIES = species_table(40, 1)

# The mean colours of 4 x 4 blocks of one photo.
THUMBNAIL = [
    [
        203.34,
        232.02,
        204.74,
        158.68,
        185.33,
        154.7,
        132.77,
        146.63,
        133.3,
        185.72,
        216.52,
        189.86,
    ],
    [
        174.62,
        208.81,
        160.05,
        133.68,
        157.59,
        123.3,
        160.04,
        171.27,
        156.45,
        183.4,
        219.15,
        172.49,
    ],
    [
        159.08,
        195.41,
        136.14,
        161.27,
        186.71,
        152.96,
        170.59,
        174.5,
        126.22,
        124.38,
        146.34,
        97.8,
    ],
    [
        140.66,
        165.77,
        102.46,
        149.66,
        170.67,
        110.71,
        145.38,
        180.54,
        107.77,
        185.23,
        224.43,
        167.79,
    ],
]


def with_state(part, state):
    states = [0] * len(PARTS)
    states[list(PARTS).index(part)] = state
    return Species(tuple(states))


def test_one_seed_gives_one_photo():
    first, annotations = draw(SPECIES[3], seed=11)
    second, again = draw(SPECIES[3], seed=11)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(annotations.mask, again.mask)
    assert annotations.bbox == again.bbox
    assert annotations.parts == again.parts
    assert not np.array_equal(first, draw(SPECIES[3], seed=12)[0])


def test_another_process_draws_the_same_photo_without_tfds():
    code = """
import sys
sys.modules["tensorflow_datasets"] = None  # As if it were not installed.
from keras_finegrain.datasets import MissingPackageError, synthetic_birds
bird = synthetic_birds.Species((0,) * 7)
print(synthetic_birds.draw(bird, seed=5)[0].tobytes().hex())
try:
    synthetic_birds.SyntheticBirds
except MissingPackageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    photo, error = done.stdout.splitlines()
    assert photo == draw(PLAIN, seed=5)[0].tobytes().hex()
    assert "[tensorflow]" in error


def test_the_photo_of_version_1_0_0_has_not_changed():
    # Pixels that a change of the drawing would move: raise VERSION with them.
    image, _ = draw(Species((2, 1, 3, 2, 2, 3, 1)), seed=2024, size=64)
    thumbnail = image.reshape(4, 16, 4, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(thumbnail.reshape(4, 12), THUMBNAIL, atol=0.02)


@pytest.mark.parametrize("size", [32, 96, 131])
@pytest.mark.parametrize("seed", range(12))
def test_the_box_is_tight_around_the_mask(seed, size):
    image, annotations = draw(SPECIES[3 * seed], seed, size)
    mask = annotations.mask
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    ymin, xmin, ymax, xmax = (round(edge * size) for edge in annotations.bbox)
    assert mask[ymin:ymax, xmin:xmax].sum() == mask.sum() > 0
    for side in (
        mask[ymin, :],
        mask[ymax - 1, :],
        mask[:, xmin],
        mask[:, xmax - 1],
    ):
        assert side.any()


@pytest.mark.parametrize("seed", range(8))
def test_outside_the_birds_two_species_share_every_pixel(seed):
    # The proof that nothing but the parts tells the species: not the light,
    # the background, the leaves, the pose or the noise.
    first, second = (
        draw(species, seed, 96)[0].astype(int)
        for species in (PLAIN, Species((3, 3, 3, 3, 3, 3, 3)))
    )
    rng = np.random.RandomState(seed)
    pose, plumage = sample_pose(rng, 96), sample_plumage(rng, 96)
    touched = np.zeros((96, 96), dtype=bool)
    for species in (PLAIN, Species((3, 3, 3, 3, 3, 3, 3))):
        layer = Layer(96, 96)
        draw_bird(layer, species, pose, plumage)
        touched |= layer.alpha > 0.0
    np.testing.assert_array_equal(first[~touched], second[~touched])
    assert (first[touched] != second[touched]).any()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("state", [1, 2, 3])
def test_every_state_of_every_part_shows(part, state):
    # At the default size, in the photos themselves: a part that no pixel
    # shows would make two species one.
    changed = [
        (draw(PLAIN, seed)[0] != draw(with_state(part, state), seed)[0])
        .any(axis=-1)
        .sum()
        for seed in range(6)
    ]
    assert np.median(changed) >= 6


@pytest.mark.parametrize("seed", range(25))
def test_a_bird_of_any_species_stays_in_the_frame(seed):
    rng = np.random.RandomState(seed)
    pose, plumage = sample_pose(rng, 96), sample_plumage(rng, 96)
    low, high = reach(pose)
    assert low.min() >= -1e-6
    assert high.max() <= 96 + 1e-6
    wide = Pose(
        centre=(pose.centre[0] + 48, pose.centre[1] + 48),
        **{
            name: getattr(pose, name)
            for name in Pose.__dataclass_fields__
            if name != "centre"
        },
    )
    for species in (PLAIN, Species((1, 0, 3, 0, 0, 3, 0)), SPECIES[seed]):
        layer = Layer(192, 192)
        large = sample_plumage(np.random.RandomState(seed), 192)
        draw_bird(layer, species, wide, large)
        inside = layer.alpha[47:145, 47:145].sum()
        assert inside == pytest.approx(layer.alpha.sum())
    assert plumage.texture.shape == (96, 96)


@pytest.mark.parametrize("seed", range(10))
def test_part_points_are_those_of_cub(seed):
    _, annotations = draw(SPECIES[seed], seed)
    assert tuple(annotations.parts) == PART_POINTS
    assert len(PART_POINTS) == 15
    for point in annotations.parts.values():
        assert 0.0 <= point.x <= 1.0
        assert 0.0 <= point.y <= 1.0


def test_the_far_eye_and_the_far_wing_are_never_visible():
    facing = set()
    for seed in range(12):
        _, annotations = draw(PLAIN, seed, 96)
        rng = np.random.RandomState(seed)
        far = "right" if sample_pose(rng, 96).mirrored else "left"
        facing.add(far)
        assert not annotations.parts[f"{far} eye"].visible
        assert not annotations.parts[f"{far} wing"].visible
    assert facing == {"left", "right"}


def test_visible_part_points_lie_on_the_visible_bird():
    on_mask = [
        annotations.mask[int(point.y * 96), int(point.x * 96)]
        for seed in range(40)
        for annotations in [draw(SPECIES[seed], seed, 96)[1]]
        for name, point in annotations.parts.items()
        # Legs are thinner than a pixel.
        if point.visible and not name.endswith("leg")
    ]
    assert len(on_mask) > 300
    assert all(on_mask)


def test_a_part_behind_a_leaf_is_hidden_and_not_in_the_mask():
    hidden = 0
    for seed in range(40):
        _, annotations = draw(PLAIN, seed, 96)
        for name, point in annotations.parts.items():
            if name.startswith(("left", "right")):
                continue  # The far ones are hidden by the bird itself.
            if not point.visible:
                hidden += 1
                pixel = int(point.y * 96), int(point.x * 96)
                assert not annotations.mask[pixel]
    assert hidden > 5


def test_the_eye_point_is_in_the_middle_of_the_eye():
    # The red eye differs from the yellow one in the iris and nowhere else.
    for seed in range(10):
        yellow, annotations = draw(with_state("eye", 2), seed, 192)
        red, _ = draw(with_state("eye", 3), seed, 192)
        rows, columns = np.nonzero((yellow != red).any(axis=-1))
        eye = [
            point
            for name, point in annotations.parts.items()
            if name.endswith("eye") and point.visible
        ]
        if not eye or rows.size < 20:
            continue
        middle = (
            (columns.min() + columns.max() + 1) / 2,
            (rows.min() + rows.max() + 1) / 2,
        )
        expected = (192 * eye[0].x, 192 * eye[0].y)
        np.testing.assert_allclose(middle, expected, atol=4.0)


def test_bounding_box_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        bounding_box(np.zeros((3, 3), dtype=bool))


@pytest.mark.parametrize(
    "function",
    [
        lambda size: draw(PLAIN, 0, size),
        lambda size: draw_portrait(PLAIN, size),
    ],
    ids=["draw", "draw_portrait"],
)
def test_photos_too_small_for_an_eye_are_refused(function):
    with pytest.raises(ValueError, match="size must be at least 32"):
        function(31)


@pytest.mark.parametrize("seed", [-1, 2**32, "one", 1.5])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(ValueError, match=r"seed must be an integer"):
        draw(PLAIN, seed)


def test_portraits_differ_between_species():
    portraits = {draw_portrait(s, 64).tobytes() for s in SPECIES}
    assert len(portraits) == len(SPECIES)


def layers_of(species, seed, size, *withouts):
    """The bird alone, once for each set of parts that are left out."""
    rng = np.random.RandomState(seed)
    pose, plumage = sample_pose(rng, size), sample_plumage(rng, size)
    layers = []
    for without in withouts:
        layer = Layer(size, size)
        draw_bird(layer, species, pose, plumage, without)
        layers.append(layer)
    return layers


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_of_its_state_is_left_of_a_deleted_part(part, seed):
    # A network that reads the state from what remains would see no deletion.
    deleted = [
        draw(with_state(part, state), seed, without=(part,))[0]
        for state in range(4)
    ]
    for other in deleted[1:]:
        np.testing.assert_array_equal(deleted[0], other)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("state", range(4))
def test_a_deleted_part_looks_like_none_of_its_states(part, state):
    # Not even like a plain crown, a plain breast or a wing with no bar.
    species = with_state(part, state)
    changed = [
        (draw(species, seed)[0] != draw(species, seed, without=(part,))[0])
        .any(axis=-1)
        .sum()
        for seed in range(6)
    ]
    assert np.median(changed) >= 6


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", range(3))
def test_no_pixel_outside_the_part_changes(part, seed):
    species = SPECIES[7 * seed]
    others = [other for other in PARTS if other != part]
    # What the part paints on a bird that has no other.
    alone, nothing = layers_of(species, seed, 96, others, tuple(PARTS))
    touched = (alone.rgb != nothing.rgb).any(axis=-1)
    touched |= alone.alpha != nothing.alpha

    whole, _ = draw(species, seed, 96)
    deleted, _ = draw(species, seed, 96, without=(part,))

    np.testing.assert_array_equal(whole[~touched], deleted[~touched])
    assert touched.mean() < 0.15
    assert (whole[touched] != deleted[touched]).any()


@pytest.mark.parametrize("seed", range(3))
def test_birds_without_any_part_are_all_alike(seed):
    first, second = (
        draw(species, seed, without=PARTS)[0]
        for species in (PLAIN, Species((3, 3, 3, 3, 3, 3, 3)))
    )
    np.testing.assert_array_equal(first, second)


def test_the_annotations_are_those_of_what_is_drawn():
    checked = 0
    for seed in range(6):
        _, whole = draw(PLAIN, seed, 96)
        _, cut = draw(PLAIN, seed, 96, without=("legs", "eye", "tail"))
        assert cut.mask.sum() < whole.mask.sum()
        assert cut.bbox == bounding_box(cut.mask)
        for name, point in whole.parts.items():
            gone = name.endswith((" leg", " eye")) or name == "tail"
            seen = point.visible and not gone
            assert cut.parts[name] == PartPoint(point.x, point.y, seen)
            checked += gone and point.visible
    assert checked >= 12


@pytest.mark.parametrize(
    "without", ["tail", ("tails",), ("Tail",), (0,), ("tail", "left leg")]
)
def test_parts_that_no_bird_has_are_refused(without):
    with pytest.raises(
        ValueError, match=r"without must hold .* beak.*received"
    ):
        draw(PLAIN, 0, without=without)


@pytest.mark.parametrize("seed", range(4))
def test_the_masks_lie_where_the_part_points_do(seed):
    species = SPECIES[5 * seed]
    _, annotations = draw(species, seed, 96)
    masks = dict(zip(PARTS, part_masks(species, seed, 96), strict=True))
    assert all(m.shape == (96, 96) and m.dtype == bool for m in masks.values())
    found = 0
    for name, point in annotations.parts.items():
        part = name.split()[-1]
        # The points of breast and wing can be behind the other's edge, legs
        # are thinner than a pixel.
        if part in ("beak", "eye", "crown", "tail") and point.visible:
            assert masks[part][int(point.y * 96), int(point.x * 96)]
            found += 1
    assert found >= 2


@pytest.mark.parametrize("seed", range(6))
def test_what_a_leaf_hides_is_in_no_mask(seed):
    rng = np.random.RandomState(seed)
    pose = sample_pose(rng, 96)
    sample_plumage(rng, 96)
    perch(rng, background(rng, 96), pose)
    leaves = in_front(rng, pose, 96)

    masks = part_masks(SPECIES[seed], seed, 96)

    assert not masks[:, leaves.alpha == 1.0].any()


def test_the_masks_are_small_and_apart():
    masks = np.stack(
        [part_masks(species, seed) for seed, species in enumerate(SPECIES[:8])]
    )
    # All seven make up the bird less its flank and cheek, about a sixth of a
    # photo; only seams are in two of them.
    assert 0.10 < masks.any(axis=1).mean() < 0.25
    assert (masks.sum(axis=1) > 1).mean() < 0.2 * masks.any(axis=1).mean()

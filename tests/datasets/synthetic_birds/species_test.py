import numpy as np
import pytest

from keras_finegrain.datasets.synthetic_birds.species import (
    PARTS,
    Species,
    max_species,
    parts_between,
    species_table,
)

pytestmark = pytest.mark.one_backend


def distances(table):
    words = np.array([species.states for species in table])
    distance = (words[:, None] != words[None]).sum(axis=-1)
    np.fill_diagonal(distance, len(PARTS) + 1)
    return distance


@pytest.mark.parametrize("num_species", [2, 3, 12, "all"])
@pytest.mark.parametrize("parts_apart", range(1, 8))
def test_every_species_has_its_nearest_at_exactly_the_distance(
    parts_apart, num_species
):
    most = max_species(parts_apart)
    count = most if num_species == "all" else min(num_species, most)
    nearest = distances(species_table(count, parts_apart)).min(axis=1)
    np.testing.assert_array_equal(nearest, parts_apart)


@pytest.mark.parametrize("parts_apart", [1, 2, 3])
def test_a_table_of_200_species_exists_up_to_three_parts_apart(parts_apart):
    table = species_table(200, parts_apart)
    assert len(set(table)) == 200


@pytest.mark.parametrize("parts_apart", [1, 2, 3])
def test_a_small_table_uses_every_part(parts_apart):
    words = np.array([s.states for s in species_table(12, parts_apart)])
    assert all(len(set(column)) >= 2 for column in words.T)


def test_a_longer_table_begins_with_the_shorter():
    assert species_table(200, 2)[:12] == species_table(12, 2)


def test_names_are_two_words_and_unique():
    names = {species.name for species in species_table(256, 1)}
    names |= {species.name for species in species_table(256, 2)}
    species = {*species_table(256, 1), *species_table(256, 2)}
    assert len(names) == len(species)
    assert all(len(name.split()) == 2 for name in names)


def test_the_description_gives_the_state_of_every_part():
    species = Species((3, 1, 2, 0, 1, 2, 3))
    assert species.description == (
        "long down-curved beak, white-ringed eye, black-capped crown, no bar "
        "on the wing, streaked breast, short forked tail, blue legs"
    )


def test_parts_between_names_the_parts():
    first = Species((0, 0, 0, 0, 0, 0, 0))
    second = Species((0, 0, 3, 0, 0, 1, 0))
    assert parts_between(first, second) == ("crown", "tail")
    assert parts_between(first, first) == ()


@pytest.mark.parametrize(
    ("num_species", "parts_apart", "message"),
    [
        (1, 2, r"num_species must lie in \[2, 256\].*received 1"),
        (257, 1, r"num_species must lie in \[2, 256\].*received 257"),
        (5, 7, r"num_species must lie in \[2, 4\] for parts_apart=7"),
        (12, 0, r"parts_apart must be an integer in \[1, 7\].*received 0"),
        (12, 8, r"parts_apart must be an integer in \[1, 7\].*received 8"),
    ],
)
def test_impossible_tables_are_refused(num_species, parts_apart, message):
    with pytest.raises(ValueError, match=message):
        species_table(num_species, parts_apart)


@pytest.mark.parametrize("states", [(0,) * 6, (4, 0, 0, 0, 0, 0, 0)])
def test_impossible_species_are_refused(states):
    with pytest.raises(ValueError, match="states must be 7 integers"):
        Species(states)


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="part must be one of beak, eye"):
        Species((0,) * 7).state("ear")

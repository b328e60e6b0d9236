"""A table must not say more than its runs do."""

import numpy as np
import pytest
from evidence_tables import photo_interval, tables, tables_against

pytestmark = pytest.mark.one_backend

VERSIONS = {"keras": "3.15.1", "backend": "jax", "jax": "0.10.2"}


def a_line(arm, seed, top_1, ratio=0.5, right=(), **changed):
    """A run of which the photos in `right`, of 0 to 9, are predicted."""
    line = {
        "arm": arm,
        "protocol": "closed",
        "seed": seed,
        "data": {"name": "birds", "digest": "abcdef0123", "test": 10},
        "settings": {"lr": 0.01},
        "versions": VERSIONS,
        "device": "cpu, 2 cores",
        "seconds": {"fit": 1.0, "whole": 2.0 + seed**2},
        "figures": {"top_1": top_1, "intra_inter_distance_ratio": ratio},
        "photos": list(range(10)),
        "labels": [3] * 10,
        "predictions": [3 if photo in right else 4 for photo in range(10)],
    }
    return {**line, **changed}


def rows_of(text):
    """The cells of each row by what stands in its first column."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return [(row[0], row[1:]) for row in rows]


THREE = [
    *(a_line("tail/softmax", s, t) for s, t in enumerate((0.60, 0.62, 0.64))),
    *(
        a_line("tail/center", s, t, ratio=0.4)
        for s, t in enumerate((0.61, 0.64, 0.67))
    ),
]


def test_means_and_intervals_are_those_computed_by_hand():
    rows = dict(rows_of(tables(THREE))[:3])

    assert rows["arm"] == [
        *("top-1 %", "intra/inter", "seeds", "seconds a run")
    ]
    # 62 ± 4.3027 · 2 / √3, and 64 ± 4.3027 · 3 / √3: t of 2 degrees.
    assert rows["tail/softmax"] == ["62.0 ± 5.0", "0.500 ± 0.000", "3", "3.0"]
    assert rows["tail/center"] == ["64.0 ± 7.5", "0.400 ± 0.000", "3", "3.0"]


def test_a_difference_is_paired_by_seed():
    heading, center = rows_of(tables(THREE[::-1]))[3:]

    assert heading[0] == "against tail/softmax"
    # Of 1, 2 and 3: 2 ± 4.3027 · 1 / √3. Unpaired it would be ± 6 or so.
    assert center[0] == "tail/center"
    assert center[1][:2] == ["+2.0 ± 2.5", "-0.100 ± 0.000"]
    assert center[1][-1] == "3"


def test_only_shared_seeds_are_compared():
    lines = [
        *(a_line("tail/softmax", seed, 0.5) for seed in (0, 1)),
        *(a_line("tail/center", seed, 0.5 + seed / 10) for seed in (1, 2)),
    ]

    (arm, cells) = rows_of(tables(lines))[-1]

    assert arm == "tail/center"
    assert cells[0] == "+10.0"
    assert cells[-1] == "1"


def test_arms_that_share_no_seed_are_not_compared_and_the_table_says_so():
    lines = [a_line("tail/softmax", 0, 0.5), a_line("tail/center", 1, 0.6)]

    (arm, cells) = rows_of(tables(lines))[-1]

    assert arm == "tail/center"
    assert cells == ["–", "–", "–", "none shared"]


def test_photos_are_paired_by_their_number_not_by_their_place():
    base = a_line("tail/softmax", 0, 0.4, right=(0, 1, 2, 3))
    better = a_line("tail/center", 0, 0.5, right=(0, 1, 2, 3, 4))
    for field in ("photos", "labels", "predictions"):
        better[field] = better[field][::-1]

    (_, cells) = rows_of(tables([base, better]))[-1]

    # One of ten photos differs: in 10 draws of 10 it comes 0 to 3 times.
    assert cells[2] == "+10.0 [+0.0, +30.0]"


def test_each_photo_counts_once_however_many_seeds_test_it():
    base = [a_line("tail/softmax", seed, 0.0) for seed in (0, 1)]
    center = [
        a_line("tail/center", 0, 1.0, right=range(10)),
        a_line("tail/center", 1, 0.0),
    ]

    (_, cells) = rows_of(tables([*base, *center]))[-1]

    # Half of the seeds on every photo: the photos agree, the seeds do not.
    assert cells[2] == "+50.0 [+50.0, +50.0]"
    assert cells[0].startswith("+50.0 ± 635")


def test_the_photo_interval_holds_the_known_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    # Right minus right there of 200 photos; the mean is 0.3 - 0.1.
    held = [
        low <= 0.2 <= high
        for low, high in (
            photo_interval(rng.choice([1, 0, -1], 200, p=[0.3, 0.6, 0.1]), 1000)
            for _ in range(300)
        )
    ]

    assert 0.91 < np.mean(held) < 0.98


def test_the_photo_interval_is_that_of_drawing_the_photos_themselves():
    differences = np.random.default_rng(0).choice([-1, 0, 0.5, 1], 100)
    rng = np.random.default_rng(1)
    means = differences[rng.integers(0, 100, (10_000, 100))].mean(axis=1)

    np.testing.assert_allclose(
        photo_interval(differences),
        np.percentile(means, [2.5, 97.5]),
        atol=0.011,
    )
    assert photo_interval(differences) == photo_interval(differences)


def test_open_set_compares_no_photos_of_classes_that_nobody_can_name():
    lines = [
        a_line(arm, 0, 0.5, protocol="open_set", right=(1, 2))
        for arm in ("tail/softmax", "tail/center")
    ]

    assert "over photos" not in tables(lines).split("±")[0]


def test_groups_protocols_and_photos_are_not_mixed():
    other = {"name": "cars", "digest": "ffffffffff"}
    lines = [
        a_line("tail/softmax", 0, 0.1),
        a_line("head/softmax", 0, 0.2),
        a_line("tail/softmax", 0, 0.3, protocol="cv"),
        a_line("tail/softmax", 0, 0.4, data=other),
    ]

    text = tables(lines)

    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "### tail, closed, birds (abcdef01)",
        "### head, closed, birds (abcdef01)",
        "### tail, cv, birds (abcdef01)",
        "### tail, closed, cars (ffffffff)",
    ]
    # One arm has nothing to be compared with.
    assert "against" not in text


def test_without_softmax_the_first_arm_is_the_baseline():
    text = tables([a_line("lr/a", 0, 0.5), a_line("lr/b", 0, 0.6)])

    assert [name for name, _ in rows_of(text)][3:] == ["against lr/a", "lr/b"]


def test_a_choice_of_arms_keeps_its_baseline():
    text = tables(THREE, only=["*/cen*"])

    assert [name for name, _ in rows_of(text)] == [
        *("arm", "tail/center", "against tail/softmax", "tail/center")
    ]
    assert tables(THREE, only=["head/*"]) == ""


def test_an_arm_of_another_group_can_be_the_baseline():
    other = [a_line("head/softmax", s, 0.6 + s / 100) for s in range(3)]
    elsewhere = a_line("head/center", 0, 0.1, protocol="boxes")

    text = tables_against(
        "head/softmax", [*THREE, *other, elsewhere], only=["tail/*"]
    )

    heading, softmax, center = rows_of(text)
    assert heading[0] == "against head/softmax"
    # Of 0, 1 and 2, and of 1, 3 and 5, paired by seed.
    assert (softmax[0], softmax[1][0]) == ("tail/softmax", "+1.0 ± 2.5")
    assert (center[0], center[1][0]) == ("tail/center", "+3.0 ± 5.0")
    assert (
        "`python benchmarks/evidence.py --table --against head/softmax "
        "--only 'tail/*'`" in text
    )


def test_the_caption_names_machine_versions_and_the_command():
    gpu = a_line("tail/softmax", 4, 0.6, device="NVIDIA H100")

    caption = tables([*THREE, gpu]).splitlines()[-1]

    assert "cpu, 2 cores; NVIDIA H100; Keras 3.15.1 on jax 0.10.2" in caption
    assert "seeds 0, 1, 2, 4." in caption
    assert (
        "`python benchmarks/evidence.py --only 'tail/*' --protocol closed "
        "--seeds 5`" in caption
    )


def test_a_column_that_one_run_lacks_is_left_out_not_averaged_over_fewer():
    lines = [
        a_line("tail/softmax", 0, 0.5),
        a_line("tail/softmax", 1, 0.5, figures={"top_1": 0.5}),
    ]

    assert "intra/inter" not in tables(lines)


def test_runs_that_are_no_repetitions_are_not_averaged():
    with pytest.raises(ValueError, match="tail/softmax, closed, seed 0 twice"):
        tables([THREE[0], THREE[0]])
    with pytest.raises(ValueError, match=r"same settings.*seeds 0 and 9"):
        tables([THREE[0], a_line("tail/softmax", 9, 0.5, settings={"lr": 1})])

import numpy as np
import pytest

from keras_finegrain.datasets.balanced_plan import (
    number_of_batches,
    plan_epoch,
)


def labels_of(sizes):
    """Labels of classes of these sizes, in mixed order."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).permutation(labels)


def drawn_case(seed):
    """Labels, P and M: few or many classes, alike or of very unlike sizes."""
    draw = np.random.default_rng(seed)
    num_classes = int(draw.integers(2, 15))
    sizes = draw.integers(1, draw.choice([3, 12, 60]), num_classes)
    if seed % 3 == 0:
        sizes[0] = 100
    classes_per_batch = int(draw.integers(2, num_classes + 1))
    return labels_of(sizes), classes_per_batch, int(draw.integers(2, 7))


CASES = [drawn_case(seed) for seed in range(60)]


def plan_of(case, seed=0):
    return plan_epoch(*case, np.random.default_rng(seed))


@pytest.mark.parametrize("case", CASES)
def test_every_image_is_seen(case):
    plan = plan_of(case)
    assert set(plan.ravel()) == set(range(len(case[0])))


@pytest.mark.parametrize("case", CASES)
def test_a_batch_has_m_images_of_each_of_p_different_classes(case):
    labels, classes_per_batch, images_per_class = case
    plan = plan_of(case)
    assert plan.dtype == np.int64
    assert plan.shape[1:] == (classes_per_batch, images_per_class)
    classes = labels[plan]
    assert (classes == classes[:, :, :1]).all()
    assert all(len(set(row)) == classes_per_batch for row in classes[:, :, 0])


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_batches_is_the_least_that_holds_every_image(case):
    labels, classes_per_batch, images_per_class = case
    sizes = np.bincount(labels)
    groups = np.ceil(sizes / images_per_class)
    wanted = max(groups.max(), np.ceil(groups.sum() / classes_per_batch))
    assert number_of_batches(*case) == wanted
    assert len(plan_of(case)) == wanted


@pytest.mark.parametrize(
    ("sizes", "classes_per_batch", "images_per_class", "batches"),
    [
        ([8, 8, 8, 8], 2, 4, 4),  # nothing to fill up
        ([8, 8, 8, 8], 4, 4, 2),
        ([8, 8, 8], 2, 4, 3),
        ([8, 8, 8], 2, 3, 5),  # nine groups, and a tenth drawn again
        ([20, 4, 4, 4, 4], 2, 4, 5),  # the large one meets all others
        ([100, 4, 4], 2, 4, 25),  # and has to meet some again
        ([1, 1], 2, 4, 1),
    ],
)
def test_number_of_batches_of_cases_counted_by_hand(
    sizes, classes_per_batch, images_per_class, batches
):
    case = labels_of(sizes), classes_per_batch, images_per_class
    assert number_of_batches(*case) == len(plan_of(case)) == batches


@pytest.mark.parametrize("case", CASES)
def test_an_image_is_in_a_group_twice_only_where_the_class_is_too_small(case):
    labels, _, images_per_class = case
    sizes = np.bincount(labels)
    for group in plan_of(case).reshape(-1, images_per_class):
        counts = np.unique(group, return_counts=True)[1]
        size = sizes[labels[group[0]]]
        assert len(counts) == min(size, images_per_class)
        assert np.ptp(counts) <= 1


@pytest.mark.parametrize("case", CASES)
def test_second_draws_are_spread_evenly_over_the_images_of_a_class(case):
    labels = case[0]
    uses = np.bincount(plan_of(case).ravel())
    for label in np.unique(labels):
        assert np.ptp(uses[labels == label]) <= 1


@pytest.mark.parametrize("case", CASES)
def test_filler_groups_are_spread_evenly_over_the_classes_with_room(case):
    labels, _, images_per_class = case
    plan = plan_of(case)
    groups = np.bincount(labels[plan[:, :, 0].ravel()])
    added = groups - np.ceil(np.bincount(labels) / images_per_class)
    assert (added >= 0).all()
    # Those with a place in every batch take no more.
    with_room = groups < len(plan)
    assert added.max() - added[with_room].min(initial=added.max()) <= 1


@pytest.mark.parametrize(
    ("sizes", "classes_per_batch"),
    [([12] * 10, 5), ([4, 8, 12, 16, 20], 3), ([40, 20, 20], 2)],
)
def test_nothing_is_drawn_twice_where_the_groups_come_out_even(
    sizes, classes_per_batch
):
    plan = plan_of((labels_of(sizes), classes_per_batch, 4))
    assert sorted(plan.ravel()) == list(range(sum(sizes)))


def test_the_plan_hangs_on_the_state_of_the_generator_alone():
    case = CASES[1]
    np.testing.assert_array_equal(plan_of(case), plan_of(case))
    assert not np.array_equal(plan_of(case), plan_of(case, seed=1))
    labels, *rest = case
    renamed = 3 * labels - 7  # numbers with gaps, some of them negative
    np.testing.assert_array_equal(plan_of(case), plan_of((renamed, *rest)))
    generator = np.random.default_rng(0)
    epochs = [plan_epoch(*case, generator) for _ in range(2)]
    assert not np.array_equal(*epochs)


def test_a_class_meets_all_others_and_not_the_same_few_again():
    labels = labels_of([40] * 20)
    classes = labels[plan_of((labels, 5, 4))][:, :, 0]
    for label in range(20):
        met = classes[(classes == label).any(1)]
        assert len(set(met.ravel())) > 15


def test_a_large_class_does_not_wait_for_the_end_of_the_epoch():
    labels = labels_of([160, *[12] * 40])  # in 40 of 54 batches
    middles = []
    for seed in range(20):
        plan = plan_of((labels, 3, 4), seed)
        is_in = (labels[plan] == 0).any((1, 2))
        middles.append(np.flatnonzero(is_in).mean() / (len(plan) - 1))
    assert abs(np.mean(middles) - 0.5) < 0.03


def test_groups_order_and_classes_are_all_drawn():
    labels = labels_of([8] * 6)
    first, second = (plan_of((labels, 3, 4), seed) for seed in range(2))

    def groups(plan):
        return {frozenset(group) for group in plan.reshape(-1, 4).tolist()}

    def meetings(plan):
        return {frozenset(row) for row in labels[plan[:, :, 0]].tolist()}

    assert groups(first) != groups(second)
    assert meetings(first) != meetings(second)

"""The written gradients of the centers' cosines equal the derived ones."""

import numpy as np
import pytest
from keras import ops

from keras_finegrain._ops.center_cosines import (
    cosines_with_centers,
    cosines_within_classes,
    lengths_on_diagonal,
    products_within_classes,
    read_centers,
    squared_lengths,
)
from keras_finegrain._ops.numerics import unit_length
from keras_finegrain._ops.soft_maximum import soft_maximum
from tests.gradients import value_and_gradients

DIMS = [6, 128]


def batch_and_centers(dim):
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(3, dim))
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    centers = generator.normal(size=(4, 5, dim)) * generator.uniform(
        0.1, 9.0, size=(4, 5, 1)
    )
    return embeddings, centers


def assert_same(written, derived, arrays, shape):
    """Compares value and gradients under one upstream gradient."""
    upstream = np.random.default_rng(1).normal(size=shape)

    def total(function):
        return lambda *tensors: ops.sum(
            ops.convert_to_tensor(upstream) * function(*tensors)
        )

    value, gradients = value_and_gradients(total(written), arrays)
    expected, expected_gradients = value_and_gradients(total(derived), arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    for own, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dim", DIMS)
def test_cosines_with_embeddings_equal_products_of_unit_vectors(float64, dim):
    assert_same(
        lambda embeddings, centers: cosines_with_centers(
            embeddings, centers, squared_lengths(centers)
        ),
        lambda embeddings, centers: ops.einsum(
            "ckd,bd->ckb", unit_length(centers), embeddings
        ),
        batch_and_centers(dim),
        (4, 5, 3),
    )


@pytest.mark.parametrize("dim", DIMS)
def test_lengths_of_either_kind_give_the_same_cosines(float64, dim):
    def with_diagonal(embeddings, centers):
        products = products_within_classes(centers)
        squared = lengths_on_diagonal(products)
        return cosines_with_centers(embeddings, centers, squared)

    assert_same(
        with_diagonal,
        lambda embeddings, centers: cosines_with_centers(
            embeddings, centers, squared_lengths(centers)
        ),
        batch_and_centers(dim),
        (4, 5, 3),
    )


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dim", DIMS)
def test_products_within_a_class(float64, dim, count):
    # One that is not symmetric: each triangle has a gradient of its own.
    assert_same(
        products_within_classes,
        lambda centers: ops.einsum("csd,ctd->cst", centers, centers),
        [batch_and_centers(dim)[1][:, :count]],
        (4, count, count),
    )


@pytest.mark.parametrize("dim", DIMS)
def test_cosines_within_a_class_equal_products_of_unit_vectors(float64, dim):
    assert_same(
        lambda centers: cosines_within_classes(
            products_within_classes(centers)
        ),
        lambda centers: ops.einsum(
            "csd,ctd->cst", unit_length(centers), unit_length(centers)
        ),
        batch_and_centers(dim)[1:],
        (4, 5, 5),
    )


@pytest.mark.parametrize("centers", [1, 4, 33])
@pytest.mark.parametrize("largest", [10.0, 1e3, np.inf])
def test_soft_maximum_equals_a_softmax_and_a_sum(float64, centers, largest):
    values = np.random.default_rng(2).uniform(-10, 10, size=(3, centers, 4))
    assert_same(
        lambda v: soft_maximum(v, largest),
        lambda v: ops.sum(ops.softmax(v, axis=1) * v, axis=1),
        [values],
        (3, 4),
    )


@pytest.mark.parametrize("largest", [29.9, 1e3, np.inf])
def test_soft_maximum_at_the_ends_of_its_range(largest):
    values = np.array([[29.9, -29.9, 0.0], [-29.9, -29.9, -29.9]], "float32")
    value, (gradient,) = value_and_gradients(
        lambda v: ops.sum(soft_maximum(v, largest)), [values[..., None]]
    )
    np.testing.assert_allclose(value, 0, atol=1e-5)
    np.testing.assert_allclose(
        gradient[..., 0], [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-5
    )


@pytest.mark.parametrize("dim", DIMS)
def test_a_zero_center_has_the_cosine_and_the_gradient_zero(dim):
    embeddings, centers = batch_and_centers(dim)
    embeddings = embeddings.astype("float32")
    centers = centers.astype("float32")
    centers[1, 2] = 0
    _, (_, gradient) = value_and_gradients(
        lambda x, w: ops.sum(cosines_with_centers(x, w, squared_lengths(w))),
        [embeddings, centers],
    )
    np.testing.assert_array_equal(gradient[1, 2], 0)
    _, (gradient,) = value_and_gradients(
        lambda w: ops.sum(cosines_within_classes(products_within_classes(w))),
        [centers],
    )
    np.testing.assert_array_equal(gradient[1, 2], 0)
    products = products_within_classes(read_centers(ops.array(centers)))
    cosines = cosines_within_classes(products)
    np.testing.assert_array_equal(ops.convert_to_numpy(cosines)[1, 2], 0)

"""The database must hold the gallery's records, each once."""

import keras
import numpy as np
import pytest

from keras_finegrain import Gallery

qdrant = pytest.importorskip("qdrant_client")


def gallery(dim=4):
    model = keras.Sequential([keras.Input((dim,)), keras.layers.Identity()])
    x = np.random.default_rng(0).normal(size=(30, dim))
    keys = [f"photo{number}.jpg" for number in range(30)]
    return Gallery.of(model, (x, np.arange(30) % 3), keys=keys)


def test_the_collection_finds_what_the_gallery_finds():
    made, client = gallery(), qdrant.QdrantClient(":memory:")

    made.to_qdrant(client, "photos")
    made.to_qdrant(client, "photos")  # replaces its records

    assert client.count("photos").count == 30
    query = np.ones(4)
    found = client.query_points(
        "photos", made.embed(query)[0].tolist(), limit=5
    ).points
    for point, match in zip(found, made.search(query, 5)[0], strict=True):
        assert point.payload == {
            "key": match.key,
            "class_name": match.class_name,
        }
        assert point.score == pytest.approx(match.similarity, abs=1e-5)


def test_a_collection_of_other_vectors_is_refused():
    client = qdrant.QdrantClient(":memory:")
    gallery().to_qdrant(client, "photos")
    with pytest.raises(ValueError, match=r"vector of size 5.*another"):
        gallery(5).to_qdrant(client, "photos")

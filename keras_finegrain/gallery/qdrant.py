"""The records of a gallery in a vector database, Qdrant."""

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_finegrain._base.optional import import_optional

# Records that are sent at a time.
_BATCH = 500


def upload(
    client: Any,
    collection: str,
    vectors: np.ndarray,
    keys: Sequence[str],
    class_names: Sequence[str],
) -> None:
    """Puts records into a collection, which is made where there is none."""
    who = "Gallery.to_qdrant"
    models = import_optional("qdrant_client.models", who, "qdrant")
    dim = vectors.shape[1]
    cosine = models.Distance.COSINE
    if not client.collection_exists(collection):
        client.create_collection(
            collection, models.VectorParams(size=dim, distance=cosine)
        )
    there = client.get_collection(collection).config.params.vectors
    if (
        not isinstance(there, models.VectorParams)
        or there.size != dim
        or there.distance != cosine
    ):
        raise ValueError(
            f"{who}: collection must hold one vector of size {dim} compared by "
            f"cosine, received {collection!r} with {there!r:.200}. Name "
            "another collection."
        )
    for start in range(0, len(keys), _BATCH):
        rows = range(start, min(start + _BATCH, len(keys)))
        client.upsert(
            collection,
            [
                models.PointStruct(
                    # The same photo replaces its record.
                    id=str(uuid.uuid5(uuid.NAMESPACE_URL, keys[row])),
                    vector=vectors[row].tolist(),
                    payload={"key": keys[row], "class_name": class_names[row]},
                )
                for row in rows
            ],
        )

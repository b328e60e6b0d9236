"""The faults of the data of a report, and the photos that show them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain.embedding import embed, embedding_model
from keras_finegrain.reporting import data_faults
from keras_finegrain.reporting.read import Photos, Results, read_photos
from keras_finegrain.reporting.sections import MOST_COPIES, Copies


def suspected(results: Results) -> tuple[list[int] | None, str]:
    """The samples whose label is probably wrong.

    Returns:
        The samples, or `None` and why they are not known. (Without scores
        there is nothing to say.)
    """
    if results.probabilities is None:
        return None, ""
    try:
        return data_faults.suspects(results.labels, results.probabilities), ""
    except ImportError as error:
        # The page is worth having without: it says what would bring it.
        return None, str(error)


def find_copies(
    results: Results,
    photos: Photos,
    data: Any,
    known: Any,
    known_keys: Sequence[str] | None,
    layer: str | keras.layers.Layer | None,
    batch_size: int,
) -> tuple[Copies, Copies | None, np.ndarray | None]:
    """Photos that are twice in the data, or in the training data, too.

    Returns:
        Those within the data, those in both (`None` without training data),
        and the labels of the training data.

    Raises:
        ValueError: If there is another number of known keys than of samples.
    """
    hashes, to_photo = np.stack(photos.hashes), photos.to_photo
    within = data_faults.duplicates(hashes, results.embeddings)
    between: list[data_faults.Duplicate] = []
    labels = None
    if known is not None:
        known_model = embedding_model(results.model, layer)
        embeddings, labels = embed(known_model, known, batch_size)
        if labels.min() < 0 or labels.max() >= len(results.class_names):
            raise ValueError(
                "report: known must have labels of the classes of data, "
                f"received labels from {labels.min()} to {labels.max()} and "
                f"{len(results.class_names)} classes. Pass class_names of "
                "all classes."
            )
        if known_keys is None:
            known_keys = [f"known {index}" for index in range(len(labels))]
        if len(known_keys) != len(labels):
            raise ValueError(
                "report: known_keys must have one entry for each sample of "
                f"known, received {len(known_keys)} and {len(labels)} "
                "samples. Pass the train_keys of the data set that known was "
                "made of."
            )
        seen = read_photos(known, batch_size, to_photo, labels, ())
        if seen is not None:
            between = data_faults.duplicates(
                hashes,
                results.embeddings,
                np.stack(seen.hashes),
                embeddings.astype(np.float64),
            )
    shown = within[:MOST_COPIES] + between[:MOST_COPIES]
    own = {pair.sample for pair in shown}
    own |= {pair.other for pair in within[:MOST_COPIES]}
    if own:
        own_photos = read_photos(
            data, batch_size, to_photo, results.labels, own
        )
        photos = photos if own_photos is None else own_photos
    names = [results.name_of(sample) for sample in range(len(results.labels))]
    copies = Copies(within, photos, photos, results.keys, names)
    if labels is None or known_keys is None or seen is None:
        return copies, None, labels
    if between:
        chosen = {pair.other for pair in between[:MOST_COPIES]}
        seen = read_photos(known, batch_size, to_photo, labels, chosen) or seen
    known_names = [results.class_names[label] for label in labels]
    return (
        copies,
        Copies(between, photos, seen, known_keys, known_names),
        labels,
    )

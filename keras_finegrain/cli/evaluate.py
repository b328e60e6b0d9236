"""`evaluate`: how good a model is on photos with known classes."""

import argparse
from typing import Any

import numpy as np

from keras_finegrain.cli.output import DONE, Output
from keras_finegrain.cli.trained import add_data, add_run, model_and_data

_MEANING = {
    "top_1": "the right class comes first",
    "top_5": "the right class is among the first five",
    "recall_at_1": "the most similar other photo is of the same class",
    "map_at_r": "how far up the photos of the same class come (MAP@R)",
    "ece": "by how much the probabilities are off (ECE)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_run(parser, or_model=True)
    add_data(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    """Measures the model, with 95 % intervals over the draw of the photos."""
    bundle, photos = model_and_data(options, out)
    measured = measure(bundle, photos.batches(bundle.image_size))
    for name, (value, low, high) in measured.items():
        interval = "" if low is None else f" ({low:.1%} to {high:.1%})"
        out.answer(f"{value:6.1%}{interval:20}  {_MEANING[name]}")
    out.result(
        {
            "data": photos.name,
            "photos": len(photos.keys),
            "metrics": {
                name: dict(zip(("value", "low", "high"), each, strict=True))
                for name, each in measured.items()
            },
        }
    )
    return DONE


def measure(bundle: Any, batches: Any) -> dict[str, tuple[Any, Any, Any]]:
    """Value and ends of the interval of each metric that there is."""
    import keras

    from keras_finegrain.embedding import embed, embedding_model
    from keras_finegrain.metrics import (
        embedding_metrics,
        expected_calibration_error,
    )
    from keras_finegrain.metrics.embedding_metrics import share

    model = bundle.model
    outputs = {
        "embedding": embedding_model(model).outputs[0],
        "scores": model.outputs[0],
    }
    given, labels = embed(keras.Model(model.inputs, outputs), batches)
    scores = given["scores"]
    found: dict[str, tuple[Any, Any, Any]] = {}
    # Of equal scores the first class comes first, as in argmax.
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.argmax(order == labels[:, None], axis=1)
    found["top_1"] = share(ranks < 1)
    if scores.shape[1] > 5:
        found["top_5"] = share(ranks < 5)
    # No photo is like another where each is alone in its class.
    if np.bincount(labels).max() > 1:
        near = embedding_metrics(
            given["embedding"], labels, ("recall@1", "map@r")
        )
        found["recall_at_1"] = near["recall@1"]
        found["map_at_r"] = near["map@r"]
    probabilities = bundle.probabilities(scores)
    # A model without a temperature may give logits.
    if np.allclose(probabilities.sum(1), 1, atol=1e-3) and (
        probabilities.min() >= 0
    ):
        error = expected_calibration_error(probabilities, labels)
        found["ece"] = (error, None, None)
    return found

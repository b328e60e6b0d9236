"""`evaluate`: how good a model is on photos with known classes."""

import argparse
import pathlib
from typing import Any

import numpy as np

from keras_finegrain.cli.output import DONE, Output
from keras_finegrain.cli.trained import add_data, add_run, model_and_data

_MEANING = {
    "top_1": "the right class comes first, by the model's scores",
    "top_5": "the right class is among the first five",
    "identify": "the right class comes first in what identify answers",
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
    bundle, folder, photos = model_and_data(options, out)
    is_own = photos.known is not None
    is_chosen = is_own and _was_chosen(folder, options)
    cross_fits = is_own and bundle.temperature is not None
    measured = measure(bundle, photos.batches(bundle.image_size), cross_fits)
    for name, (value, low, high) in measured.items():
        interval = "" if low is None else f" ({low:.1%} to {high:.1%})"
        out.answer(f"{value:6.1%}{interval:20}  {_MEANING[name]}")
    if cross_fits and "ece" in measured:
        out.answer(
            "The temperature was set on these photos. For ECE it is set on "
            "one half of them and measured on the other, both ways."
        )
    if is_chosen:
        out.answer(
            "The method was chosen by these photos, which flatters it a "
            "little. Photos that chose nothing give the accuracy to expect."
        )
    out.result(
        {
            "data": photos.name,
            "photos": len(photos.keys),
            "temperature_cross_fitted": cross_fits,
            "method_chosen_on_these": is_chosen,
            "metrics": {
                name: dict(zip(("value", "low", "high"), each, strict=True))
                for name, each in measured.items()
            },
        }
    )
    return DONE


def _was_chosen(
    folder: pathlib.Path | None, options: argparse.Namespace
) -> bool:
    """Whether the model is taken because it is the run's best."""
    from keras_finegrain.bundle import bundles_in

    run = pathlib.Path(options.run)
    return not options.method and folder != run and len(bundles_in(run)) > 1


def measure(
    bundle: Any, batches: Any, cross_fits: bool = False
) -> dict[str, tuple[Any, Any, Any]]:
    """Value and ends of the interval of each metric that there is.

    Args:
        bundle: The model.
        batches: Images and labels.
        cross_fits: Whether the bundle's temperature is of these photos, so
            that the error of its probabilities needs others.
    """
    import keras

    from keras_finegrain._base.arrays import true_class_ranks
    from keras_finegrain.bundle import named_right
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
    ranks = true_class_ranks(scores, labels)
    found["top_1"] = share(ranks <= 1)
    if scores.shape[1] > 5:
        found["top_5"] = share(ranks <= 5)
    if bundle.gallery is not None:
        # It answers by the known photos, and exported files by the scores.
        found["identify"] = share(
            named_right(
                *(bundle.gallery, given["embedding"], labels),
                bundle.class_names,
            )
        )
    # No photo is like another where each is alone in its class.
    if np.bincount(labels).max() > 1:
        near = embedding_metrics(
            given["embedding"], labels, ("recall@1", "map@r")
        )
        found["recall_at_1"] = near["recall@1"]
        found["map_at_r"] = near["map@r"]
    if cross_fits:
        if (error := cross_fitted_error(scores, labels)) is not None:
            found["ece"] = (error, None, None)
        return found
    probabilities = bundle.probabilities(scores)
    # A model without a temperature may give logits.
    if np.allclose(probabilities.sum(1), 1, atol=1e-3) and (
        probabilities.min() >= 0
    ):
        error = expected_calibration_error(probabilities, labels)
        found["ece"] = (error, None, None)
    return found


def cross_fitted_error(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """The calibration error, by temperatures that other photos have set.

    Each half's scores are divided by the temperature of the other half. None
    if a half has no temperature: it is at chance, or has no photo.
    """
    from keras_finegrain._base.arrays import softmax
    from keras_finegrain.metrics import (
        expected_calibration_error,
        fit_temperature,
    )

    if len(labels) < 2:
        return None
    # By turns in the order of the classes: each half has all of them.
    halves = np.empty(len(labels), bool)
    halves[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    probabilities = np.empty_like(scores, dtype="float64")
    try:
        for half in (halves, ~halves):
            temperature = fit_temperature(scores[~half], labels[~half])
            probabilities[half] = softmax(scores[half] / temperature)
    except ValueError:
        return None
    return expected_calibration_error(probabilities, labels)

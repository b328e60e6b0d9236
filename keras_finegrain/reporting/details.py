"""What a report shows below what a person acts on: pictures and figures."""

import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_finegrain import visualization
from keras_finegrain._base.arrays import true_class_ranks
from keras_finegrain._base.private_keras import Call
from keras_finegrain.distribution import scope_of
from keras_finegrain.embedding import find_tensor
from keras_finegrain.layers import CenterLoss, MCLoss
from keras_finegrain.metrics import (
    EMBEDDING_METRICS,
    Estimate,
    embedding_metrics,
)
from keras_finegrain.metrics.embedding_metrics import parse_metric, share
from keras_finegrain.metrics.embedding_set import unit_rows
from keras_finegrain.reporting import choose, page
from keras_finegrain.reporting.page import Section
from keras_finegrain.reporting.read import Photos, Results

_SHARES = ("recall", "precision", "r_precision", "map", "knn_accuracy", "top")
# t-SNE of twice as many takes several times as long and shows no more.
_SCATTERED = 1500
_SIDE = 160  # Pixels of a photo among many.
_OF_SEVERAL_CLASSES = ("nmi", "ami", "silhouette", "intra_inter_distance_ratio")
# The metrics that a sentence says.
_IN_WORDS = {
    "top-1 accuracy": "Its answer is right",
    "top-5 accuracy": "The right class is among its five best answers",
    "recall@1": "The most similar other photo shows the same class",
    "recall@8": "One of the eight most similar shows the same class",
}


def metrics(results: Results, seed: int) -> Section:
    """In plain words what the metrics say, and all of them by a click."""
    are_several = len(np.unique(results.labels)) > 1
    possible = [
        name
        for name in EMBEDDING_METRICS
        if parse_metric("report", name)[1] < len(results.labels)
        and (are_several or name not in _OF_SEVERAL_CLASSES)
    ]
    estimates = _accuracies(results)
    if np.bincount(results.labels).max() > 1:
        estimates |= embedding_metrics(
            results.embeddings, results.labels, possible, seed=seed
        )
    rows = [[name, *_written(name, estimates[name])] for name in estimates]
    said = [
        f"{words}: {_written(name, estimates[name])[0]} (95 % interval "
        f"{_written(name, estimates[name])[1]})."
        for name, words in _IN_WORDS.items()
        if name in estimates
    ]
    return Section(
        "Figures",
        page.bullets(said)
        + page.more(
            "All figures, by their technical names",
            page.element(
                "Each has a 95 % confidence interval over the draw of the "
                "samples (NMI and AMI: over starts of k-means). The interval "
                "does not cover another training run. Neighbours are by "
                "cosine similarity; a sample is not its own neighbour. An "
                "intra_inter_distance_ratio of 0 means that each class is one "
                "point, of 1 that the classes cannot be told apart.",
            ),
            page.table(
                ["metric", "value", "95 % interval"],
                rows,
                caption="All figures",
            ),
            page.element(_subject(results)),
        ),
    )


def _subject(results: Results) -> str:
    """The size of the data and of the model."""
    model, (samples, dim) = results.model, results.embeddings.shape
    return (
        f"{samples:,} samples of {len(np.unique(results.labels))} classes; an "
        f"embedding of {dim} dimensions; a model of {model.count_params():,} "
        f"parameters, whose last layer is {type(model.layers[-1]).__name__}."
    )


def _accuracies(results: Results) -> dict[str, Estimate]:
    """Top-1 and top-5 accuracy, if there are scores."""
    scores = results.scores
    if scores is None:
        return {}
    ranks = true_class_ranks(scores, results.labels)
    possible = [k for k in (1, 5) if k < scores.shape[1]]
    return {f"top-{k} accuracy": share(ranks <= k) for k in possible}


def _written(name: str, estimate: Estimate) -> list[str]:
    """The value and its interval."""
    if name.startswith(_SHARES):
        value, low, high = (100 * number for number in estimate)
        return [f"{value:.1f} %", f"{low:.1f} – {high:.1f} %"]
    value, low, high = estimate
    return [f"{value:.3f}", f"{low:.3f} – {high:.3f}"]


def scatter(results: Results, seed: int) -> Section:
    """The embedding in two dimensions."""
    samples = np.arange(len(results.labels))
    note = ""
    if len(samples) > _SCATTERED:
        draw = np.random.default_rng(seed)
        samples = np.sort(draw.choice(samples, _SCATTERED, replace=False))
        note = f" {_SCATTERED:,} samples, drawn at random, are shown."
    vectors = results.embeddings[samples]
    axis = visualization.embedding_scatter(
        vectors if vectors.shape[1] == 2 else unit_rows(vectors),
        results.labels[samples],
        results.class_names,
        seed=seed,
    )
    return Section(
        "A map of the photos",
        page.picture(
            axis,
            "Scatter of the embeddings, one colour and marker a class",
            "Each point is a photo; photos that the model finds similar lie "
            f"together. Distances between far groups mean nothing.{note}",
        )
        + page.more(
            "How the map is made",
            page.element(
                "The points are the embedding. More than two dimensions are "
                "reduced by t-SNE, of the embeddings scaled to length 1."
            ),
        ),
    )


def confusion_matrix(results: Results) -> Section:
    """Which classes are taken for which."""
    judged = results.taken_for >= 0
    axis = visualization.look_alike_confusions(
        results.labels[judged], results.taken_for[judged], results.class_names
    )
    return Section(
        "Who is taken for whom",
        page.picture(
            axis,
            "Confusion matrix of the classes most confused",
            "A row for each class, a column for each answer.",
        ),
    )


def retrieval(
    results: Results, chosen: np.ndarray, photos: Photos
) -> Section | None:
    """Nearest neighbours of some photos, if some class has two."""
    if not len(chosen):
        return None
    names, labels = results.class_names, results.labels
    rows = []
    for query, *nearest in chosen.tolist():
        own = names[labels[query]]
        shown = [
            page.Photo(
                page.jpeg(photos[query], _SIDE),
                f"A {own}",
                own,
                results.keys[query],
            )
        ]
        for sample in nearest:
            is_right = labels[sample] == labels[query]
            name = names[labels[sample]]
            shown.append(
                page.Photo(
                    page.jpeg(photos[sample], _SIDE),
                    f"A {name}",
                    name if is_right else f"\u2717 {name}",
                    results.keys[sample],
                    "right" if is_right else "wrong",
                )
            )
        rows.append(page.strip(shown, f"What is most similar to a {own}"))
    return Section(
        "The most similar photos",
        page.element(
            "Each row starts with a photo; the photos behind it are those "
            "that the model finds most similar, the most similar first. Green "
            "frames show the same class, red ones (\u2717) another."
        )
        + "".join(rows),
    )


def centers(
    results: Results, chosen: choose.Centers, photos: Photos | None
) -> Section | None:
    """The distances of class centers, and the photos nearest to them."""
    content = []
    for layer, samples in chosen:
        is_raw = isinstance(layer, CenterLoss) and not layer.normalize
        axis = visualization.center_distances(
            layer.centers,
            results.class_names,
            distance="euclidean" if is_raw else "cosine",
        )
        content += [
            page.element(layer.name, "h3"),
            page.picture(axis, "Heat map of the distances of class centers"),
        ]
        if photos is None or not len(samples):
            continue
        axis = visualization.center_images(
            layer.centers,
            results.embeddings,
            results.labels,
            photos,
            results.class_names,
            choose.PHOTOS_OF_A_CENTER,
            classes=np.unique(results.labels[samples]),
        )
        content.append(
            page.picture(axis, "The photos nearest to each center of a class")
        )
    return Section("Class centers", "".join(content)) if content else None


def channels(
    results: Results, samples: np.ndarray, photos: Photos
) -> Section | None:
    """What the channels of MCLoss look at."""
    model = results.model
    layers: list[MCLoss] = []

    def input_of_mc_loss(call: Call) -> keras.KerasTensor | None:
        if not isinstance(call.layer, MCLoss):
            return None
        layers.append(call.layer)
        channels: keras.KerasTensor | None = call.named.get("channels")
        return call.inputs[0] if channels is None else channels

    with scope_of(model):
        feature_map = find_tensor(model, input_of_mc_loss)
        if feature_map is None:
            return None
        (layer,) = layers
        (image, *_) = (i for i in model.inputs if len(i.shape) == 4)
        to_map = keras.Model(image, feature_map)
    content = []
    for sample in samples:
        maps = to_map.predict(photos.inputs[sample][None], verbose=0)[0]
        if layer.data_format == "channels_first":
            maps = np.moveaxis(maps, 0, -1)
        label = int(results.labels[sample])
        own = visualization.class_channels(
            maps.shape[-1], layer.num_classes, label, layer.channels_per_class
        )
        photo, name = photos[sample], results.class_names[label]
        content += [
            page.picture(
                visualization.channel_strip(photo, maps, own, name),
                f"The channels of {name} on one of its photos",
            ),
            page.picture(
                visualization.channel_overlay(photo, maps, own),
                f"The channels of {name} in one picture",
            ),
        ]
    return Section(
        "What it looks at",
        page.element(
            "The strongest channels of a class in the mutual-channel loss. If "
            "they look at different places, the model recognises the class by "
            "several parts.",
        )
        + "".join(content),
    )


def classes(results: Results, samples: np.ndarray, photos: Photos) -> Section:
    """Some photos of each class, or of those most confused."""
    content = []
    for label in np.unique(results.labels[samples]):
        name = results.class_names[label]
        shown = [
            page.Photo(
                page.jpeg(photos[sample], _SIDE),
                f"A {name}",
                note=results.keys[sample],
            )
            for sample in samples[results.labels[samples] == label]
        ]
        content += [page.element(name, "h3"), page.strip(shown, name)]
    return Section("The classes", "".join(content))


def settings(given: Mapping[str, Any]) -> Section:
    """What the model was trained with."""
    rows = [
        [str(name), value if isinstance(value, str) else _as_json(value)]
        for name, value in given.items()
    ]
    return Section(
        "Settings",
        page.more(
            "What the model was trained with",
            page.table(["setting", "value"], rows, caption="Settings"),
        ),
    )


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

"""The sections of a report, each from the evidence to HTML."""

import html
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.private_keras import calls_of
from keras_finegrain.distribution import scope_of
from keras_finegrain.layers import CenterLoss, MCLoss
from keras_finegrain.layers.centers import layers_with_centers
from keras_finegrain.metrics import (
    EMBEDDING_METRICS,
    Estimate,
    embedding_metrics,
)
from keras_finegrain.metrics.confusions import ConfusedPair
from keras_finegrain.metrics.embedding_metrics import share
from keras_finegrain.metrics.embedding_set import unit_rows
from keras_finegrain.reporting import page
from keras_finegrain.reporting.evidence import Evidence
from keras_finegrain.visualization.center_distances import center_distances
from keras_finegrain.visualization.center_images import center_images
from keras_finegrain.visualization.channel_overlay import channel_overlay
from keras_finegrain.visualization.channel_strip import (
    channel_strip,
    class_channels,
)
from keras_finegrain.visualization.class_confusions import (
    look_alike_confusions,
)
from keras_finegrain.visualization.class_grid import class_grid
from keras_finegrain.visualization.embedding import embedding_scatter
from keras_finegrain.visualization.grad_cam import grad_cam
from keras_finegrain.visualization.heat_map import laid_over
from keras_finegrain.visualization.retrieval_gallery import retrieval_gallery

_SHARES = ("recall", "precision", "r_precision", "map", "knn_accuracy", "top")
_SCATTERED = 3000
_WORST = 8
_PHOTOS_OF_A_PAIR = 3
_CLASSES_OF_CENTERS = 4
_CENTER_CLASSES = 200
_CHANNEL_PHOTOS = 3
_GRID_CLASSES = 25


class SamplePhotos(Sequence[Any]):
    """Photos of an evidence, as the drawing functions take them.

    Args:
        evidence: The evidence.
        samples: The indices of the samples. Defaults to all.
    """

    def __init__(
        self, evidence: Evidence, samples: np.ndarray | None = None
    ) -> None:
        self._evidence = evidence
        self._samples = (
            np.arange(len(evidence.labels)) if samples is None else samples
        )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        return self._evidence.photo(int(self._samples[index]))


def figures(evidence: Evidence, seed: int) -> str:
    """All figures with their intervals."""
    found = embedding_metrics(
        evidence.embeddings, evidence.labels, _possible(evidence), seed=seed
    )
    rows = [
        [name, *_written(name, figure)]
        for name, figure in [*_accuracies(evidence), *found.items()]
    ]
    return page.section(
        "Figures",
        page.paragraph(
            "Each with a 95 % confidence interval over the draw of the samples "
            "(of NMI and AMI: over starts of k-means). It does not hold for "
            "another training run. Neighbours are by cosine similarity, a "
            "sample never its own; at 0 in intra_inter_distance_ratio each "
            "class is one point, at 1 classes cannot be told apart."
        ),
        page.table(["figure", "value", "95 % interval"], rows, numbers=2),
    )


def _possible(evidence: Evidence) -> list[str]:
    """The figures that a set of this size has."""
    return [
        name
        for name in EMBEDDING_METRICS
        if name != "knn_accuracy@5" or len(evidence.labels) > 5
    ]


def _accuracies(evidence: Evidence) -> Iterator[tuple[str, Estimate]]:
    """Top-1 and top-5, where there are scores."""
    if evidence.scores is None:
        return
    own = np.take_along_axis(evidence.scores, evidence.labels[:, None], axis=1)
    # Classes with the same score count as better.
    ranks = np.sum(evidence.scores >= own, axis=1)
    for k in (1, 5):
        if k < evidence.scores.shape[1]:
            yield f"top-{k} accuracy", share(ranks <= k)


def _written(name: str, figure: Estimate) -> list[str]:
    if name.startswith(_SHARES):
        value, low, high = (100 * number for number in figure)
        return [f"{value:.1f} %", f"{low:.1f} – {high:.1f} %"]
    return [f"{figure.value:.3f}", f"{figure.low:.3f} – {figure.high:.3f}"]


def scatter(evidence: Evidence, seed: int) -> str:
    """The embedding in two dimensions."""
    samples = np.arange(len(evidence.labels))
    note = ""
    if len(samples) > _SCATTERED:
        draw = np.random.default_rng(seed)
        samples = np.sort(draw.choice(samples, _SCATTERED, replace=False))
        note = f" {_SCATTERED:,} samples, drawn at random, are shown."
    vectors = unit_rows(evidence.embeddings[samples])
    if evidence.embeddings.shape[1] == 2:
        vectors = evidence.embeddings[samples]
    axis = embedding_scatter(
        vectors,
        evidence.labels[samples],
        _names(evidence),
        seed=seed,
    )
    return page.section(
        "The embedding",
        page.picture(
            axis,
            "Scatter of the embeddings, one colour and marker a class",
            "Near points are near in the embedding; by t-SNE where it has more "
            "than two dimensions: distances between far groups then mean "
            f"nothing.{note}",
        ),
    )


def worst_confusions(evidence: Evidence) -> str:
    """The pairs of classes with the most errors, and photos of them."""
    worst = evidence.confusions.worst(_WORST)
    by = "the nearest other sample" if evidence.scores is None else "the scores"
    if not worst:
        return page.section(
            "Worst confusions", page.paragraph(f"None by {by}.")
        )
    rows = [
        [
            evidence.name(pair.label),
            evidence.name(pair.taken_for),
            str(pair.count),
            f"{100 * pair.share:.0f} %",
        ]
        for pair in worst
    ]
    content = [
        page.paragraph(f"What samples were taken for by {by}."),
        page.table(["class", "taken for", "samples", "of its class"], rows, 2),
    ]
    if evidence.photos is not None:
        content.extend(_photos_of_pairs(evidence, worst))
    return page.section("Worst confusions", *content)


def _photos_of_pairs(
    evidence: Evidence, pairs: Sequence[ConfusedPair]
) -> list[str]:
    """Some mistaken samples of each pair, each beside its look-alike."""
    mistaken = [
        np.flatnonzero(
            (evidence.labels == pair.label)
            & (evidence.taken_for == pair.taken_for)
        )[:_PHOTOS_OF_A_PAIR]
        for pair in pairs
    ]
    reasons, note = _reasons(evidence, np.concatenate(mistaken))
    written = [
        page.paragraph(
            "From left to right: the sample; what speaks for the other class "
            "in it (Grad-CAM), where the model gives scores; the sample of "
            f"the other class that is nearest to it. {note}"
        )
    ]
    for pair, samples in zip(pairs, mistaken, strict=True):
        name, other = evidence.name(pair.label), evidence.name(pair.taken_for)
        rows = []
        for index in samples:
            shown = [(evidence.photo(index), f"A {name}")]
            if index in reasons:
                shown.append((reasons[index], f"What speaks for {other}"))
            if np.any(evidence.labels == pair.taken_for):
                nearest = evidence.nearest_of(pair.taken_for, index)
                shown.append((evidence.photo(nearest), f"A {other}"))
            rows.append(page.photos(shown))
        written += [
            f"<h3>{html.escape(name)} taken for {html.escape(other)}</h3>",
            page.side_by_side(rows),
        ]
    return written


def _reasons(
    evidence: Evidence, samples: np.ndarray
) -> tuple[dict[int, np.ndarray], str]:
    """What speaks for the class that each sample was taken for.

    Returns:
        Pixels by sample, and in words why there are none.
    """
    assert evidence.photos is not None
    if evidence.scores is None:
        return {}, ""
    inputs = np.stack([evidence.photos[index] for index in samples])
    if not evidence.photos.are_read:
        return {}, ""
    try:
        heat = grad_cam(
            evidence.model, inputs, evidence.taken_for[samples].tolist()
        )
    except ValueError as error:
        # Not every model has a feature map: the page says so.
        return {}, f"There is no Grad-CAM here: {error}"
    return {
        index: laid_over(evidence.photo(index), own)
        for index, own in zip(samples.tolist(), heat, strict=True)
    }, ""


def confusion_matrix(evidence: Evidence) -> str:
    """Who is taken for whom."""
    axis = look_alike_confusions(
        evidence.labels[evidence.judged],
        evidence.taken_for[evidence.judged],
        _names(evidence),
    )
    return page.section(
        "Confusions among look-alikes",
        page.picture(axis, "Confusion matrix of the classes most confused"),
    )


def retrieval(evidence: Evidence) -> str:
    """Nearest neighbours of some photos."""
    axis = retrieval_gallery(
        SamplePhotos(evidence),
        evidence.embeddings,
        evidence.labels,
        class_names=_names(evidence),
    )
    return page.section(
        "Nearest neighbours",
        page.picture(axis, "Photos, each with its nearest neighbours"),
    )


def centers(evidence: Evidence) -> str:
    """Where class centers stand, and the photos around them."""
    content = []
    for layer in layers_with_centers(evidence.model):
        values = np.asarray(keras.ops.convert_to_numpy(layer.centers))
        if values.shape[-1] != evidence.embeddings.shape[1]:
            continue
        if len(values) < 2:
            continue
        content.append(f"<h3>{html.escape(layer.name)}</h3>")
        is_raw = isinstance(layer, CenterLoss) and not layer.normalize
        axis = center_distances(
            values,
            _names(evidence),
            distance="euclidean" if is_raw else "cosine",
            most=_CENTER_CLASSES,
        )
        content.append(
            page.picture(axis, "Heat map of the distances of class centers")
        )
        if evidence.photos is None or values.ndim == 2:
            continue
        present = np.unique(evidence.labels)[:_CLASSES_OF_CENTERS]
        axis = center_images(
            values,
            evidence.embeddings,
            evidence.labels,
            SamplePhotos(evidence),
            _names(evidence),
            classes=present,
        )
        content.append(
            page.picture(axis, "The photos nearest to each center of a class")
        )
    return page.section("Class centers", *content) if content else ""


def channels(evidence: Evidence) -> str:
    """What the channels of MCLoss look at."""
    found = [
        call
        for call in calls_of(evidence.model)
        if isinstance(call.layer, MCLoss)
    ]
    if not found or evidence.photos is None:
        return ""
    layer, (feature_map, *_), _ = found[0]
    with scope_of(evidence.model):
        (image, *_) = (i for i in evidence.model.inputs if len(i.shape) == 4)
        to_map = keras.Model(image, feature_map)
    content = []
    for label in np.unique(evidence.labels)[:_CHANNEL_PHOTOS]:
        index = int(np.flatnonzero(evidence.labels == label)[0])
        maps = to_map.predict(evidence.photos[index][None], verbose=0)[0]
        if layer.data_format == "channels_first":
            maps = np.moveaxis(maps, 0, -1)
        own = class_channels(
            maps.shape[-1],
            layer.num_classes,
            int(label),
            layer.channels_per_class,
        )
        photo, name = evidence.photo(index), evidence.name(label)
        content.append(
            page.picture(
                channel_strip(photo, maps, own, name),
                f"The channels of {name} on one of its photos",
            )
        )
        content.append(
            page.picture(
                channel_overlay(photo, maps, own),
                f"The channels of {name} in one picture",
            )
        )
    return page.section(
        "Channels of the mutual-channel loss",
        page.paragraph(
            "The strongest ones of each class. Where they lie on different "
            "places the class has several parts to be recognised by."
        ),
        *content,
    )


def classes(evidence: Evidence) -> str:
    """Some photos of each class, or of those most confused."""
    order = np.unique(evidence.labels)
    if len(order) > _GRID_CLASSES:
        pairs = evidence.confusions.worst(_GRID_CLASSES)
        confused = [label for p in pairs for label in (p.label, p.taken_for)]
        order = np.unique([*confused, *order][:_GRID_CLASSES])
    samples = np.flatnonzero(np.isin(evidence.labels, order))
    axis = class_grid(
        SamplePhotos(evidence, samples),
        evidence.labels[samples],
        _names(evidence),
    )
    return page.section(
        "The classes", page.picture(axis, "Some photos of each class")
    )


def _names(evidence: Evidence) -> list[str]:
    return [evidence.name(label) for label in range(len(evidence.class_names))]

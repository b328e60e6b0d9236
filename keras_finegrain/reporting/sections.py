"""The sections of a report, each drawn from the samples chosen for it."""

import keras
import numpy as np

from keras_finegrain import visualization
from keras_finegrain._base.private_keras import calls_of
from keras_finegrain.distribution import scope_of
from keras_finegrain.layers import CenterLoss, MCLoss
from keras_finegrain.metrics import (
    EMBEDDING_METRICS,
    Estimate,
    embedding_metrics,
)
from keras_finegrain.metrics.embedding_metrics import parse_metric, share
from keras_finegrain.metrics.embedding_set import unit_rows
from keras_finegrain.reporting import choose, page
from keras_finegrain.reporting.read import Photos, Results
from keras_finegrain.visualization.heat_map_overlay import laid_over

_SHARES = ("recall", "precision", "r_precision", "map", "knn_accuracy", "top")
_SCATTERED = 3000
_CENTER_CLASSES = 200


def subject(results: Results) -> str:
    """The size of the data and of the model."""
    model, (samples, dim) = results.model, results.embeddings.shape
    return page.element(
        f"{samples:,} samples of {len(np.unique(results.labels))} classes; an "
        f"embedding of {dim} dimensions; a model of {model.count_params():,} "
        f"parameters, whose last layer is {type(model.layers[-1]).__name__}.",
    )


def metrics(results: Results, seed: int) -> str:
    """All metrics with their intervals."""
    possible = [
        name
        for name in EMBEDDING_METRICS
        if parse_metric("report", name)[1] < len(results.labels)
    ]
    estimates = _accuracies(results) | embedding_metrics(
        results.embeddings, results.labels, possible, seed=seed
    )
    rows = [[name, *_written(name, estimates[name])] for name in estimates]
    return page.section(
        "Metrics",
        page.element(
            "Each metric has a 95 % confidence interval over the draw of the "
            "samples (NMI and AMI: over starts of k-means). The interval does "
            "not cover another training run. Neighbours are by cosine "
            "similarity; a sample is not its own neighbour. An "
            "intra_inter_distance_ratio of 0 means that each class is one "
            "point, of 1 that the classes cannot be told apart.",
        ),
        page.table(["metric", "value", "95 % interval"], rows),
    )


def _accuracies(results: Results) -> dict[str, Estimate]:
    """Top-1 and top-5 accuracy, if there are scores."""
    scores = results.scores
    if scores is None:
        return {}
    own = np.take_along_axis(scores, results.labels[:, None], axis=1)
    # Classes with the same score count as better.
    ranks = np.sum(scores >= own, axis=1)
    possible = [k for k in (1, 5) if k < scores.shape[1]]
    return {f"top-{k} accuracy": share(ranks <= k) for k in possible}


def _written(name: str, estimate: Estimate) -> list[str]:
    """The value and its interval."""
    if name.startswith(_SHARES):
        value, low, high = (100 * number for number in estimate)
        return [f"{value:.1f} %", f"{low:.1f} – {high:.1f} %"]
    value, low, high = estimate
    return [f"{value:.3f}", f"{low:.3f} – {high:.3f}"]


def scatter(results: Results, seed: int) -> str:
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
    return page.section(
        "The embedding",
        page.picture(
            axis,
            "Scatter of the embeddings, one colour and marker a class",
            "Points that are near here are near in the embedding. More than "
            "two dimensions are reduced by t-SNE: distances between far "
            f"groups then mean nothing.{note}",
        ),
    )


def worst_confusions(
    results: Results, chosen: list[choose.Confusion], photos: Photos | None
) -> str:
    """The pairs of classes with the most errors, and photos of them."""
    names = results.class_names
    by = "the nearest other sample" if results.scores is None else "the scores"
    if not chosen:
        none = page.element(f"No confusions by {by}.")
        return page.section("Worst confusions", none)
    rows = []
    for label, taken_for, errors, _ in chosen:
        percent = f"{100 * errors / np.sum(results.labels == label):.0f} %"
        rows.append([names[label], names[taken_for], str(errors), percent])
    content = [
        page.element(f"The classes that samples were taken for, by {by}."),
        page.table(["class", "taken for", "samples", "of its class"], rows),
    ]
    if photos is not None:
        content += _photos_of_confusions(results, chosen, photos)
    return page.section("Worst confusions", *content)


def _photos_of_confusions(
    results: Results, chosen: list[choose.Confusion], photos: Photos
) -> list[str]:
    """Mistaken samples of each pair, each beside its look-alike."""
    names = results.class_names
    mistaken = np.concatenate([confusion.rows[:, 0] for confusion in chosen])
    evidence, note = _grad_cams(results, mistaken, photos)
    written = [
        page.element(
            "From left to right: the sample; the evidence for the other class "
            "in it (Grad-CAM), if the model gives scores; the nearest sample "
            f"of the other class. {note}",
        )
    ]
    for label, taken_for, _, rows in chosen:
        name, other = names[label], names[taken_for]
        groups = []
        for sample, *look_alike in rows:
            shown = [(photos[sample], f"A {name}")]
            if sample in evidence:
                shown.append((evidence[sample], f"Evidence for {other}"))
            shown += [(photos[index], f"A {other}") for index in look_alike]
            groups.append(shown)
        written += [
            page.element(f"{name} taken for {other}", "h3"),
            page.photos(groups),
        ]
    return written


def _grad_cams(
    results: Results, samples: np.ndarray, photos: Photos
) -> tuple[dict[int, np.ndarray], str]:
    """The evidence for the class that each sample was taken for.

    Returns:
        Pixels by sample, and a sentence that says why there are none.
    """
    if results.scores is None:
        return {}, ""
    inputs = np.stack([photos.inputs[sample] for sample in samples])
    taken_for = results.taken_for[samples].tolist()
    try:
        heat = visualization.grad_cam(results.model, inputs, taken_for)
    except ValueError as error:
        # Not every model has a feature map: the page says so.
        return {}, f"There is no Grad-CAM here: {error}"
    return {
        sample: laid_over(photos[sample], own)
        for sample, own in zip(samples.tolist(), heat, strict=True)
    }, ""


def confusion_matrix(results: Results) -> str:
    """Which classes are taken for which."""
    judged = results.taken_for >= 0
    axis = visualization.look_alike_confusions(
        results.labels[judged], results.taken_for[judged], results.class_names
    )
    content = page.picture(
        axis, "Confusion matrix of the classes most confused"
    )
    return page.section("Confusions among look-alikes", content)


def retrieval(results: Results, chosen: np.ndarray, photos: Photos) -> str:
    """Nearest neighbours of some photos."""
    axis = visualization.retrieval_gallery(
        photos,
        results.embeddings,
        results.labels,
        queries=chosen[:, 0],
        class_names=results.class_names,
        neighbours=chosen.shape[1] - 1,
    )
    content = page.picture(axis, "Photos, each with its nearest neighbours")
    return page.section("Nearest neighbours", content)


def centers(
    results: Results, chosen: choose.Centers, photos: Photos | None
) -> str:
    """The distances of class centers, and the photos nearest to them."""
    content = []
    for layer, samples in chosen:
        is_raw = isinstance(layer, CenterLoss) and not layer.normalize
        axis = visualization.center_distances(
            layer.centers,
            results.class_names,
            distance="euclidean" if is_raw else "cosine",
            most=_CENTER_CLASSES,
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
    return page.section("Class centers", *content) if content else ""


def channels(results: Results, samples: np.ndarray, photos: Photos) -> str:
    """What the channels of MCLoss look at."""
    model = results.model
    found = [c for c in calls_of(model) if isinstance(c.layer, MCLoss)]
    if not found:
        return ""
    layer, (feature_map, *_), _ = found[0]
    with scope_of(model):
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
    return page.section(
        "Channels of the mutual-channel loss",
        page.element(
            "The strongest channels of a class. If they look at different "
            "places, the model recognises the class by several parts.",
        ),
        *content,
    )


def classes(results: Results, samples: np.ndarray, photos: Photos) -> str:
    """Some photos of each class, or of those most confused."""
    axis = visualization.class_grid(
        [photos[sample] for sample in samples],
        results.labels[samples],
        results.class_names,
    )
    content = page.picture(axis, "Some photos of each class")
    return page.section("The classes", content)

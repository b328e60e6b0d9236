"""The sections of a report, each from what it shows to HTML."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_finegrain._base.private_keras import calls_of
from keras_finegrain.distribution import scope_of
from keras_finegrain.layers import CenterLoss, MCLoss
from keras_finegrain.metrics import FIGURES, Figure, embedding_figures
from keras_finegrain.metrics.embedding_set import unit_rows
from keras_finegrain.metrics.figures import share
from keras_finegrain.reporting import choose, page
from keras_finegrain.reporting.read import Images, Measurements
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
_CENTER_CLASSES = 200


def metrics(measured: Measurements, seed: int) -> str:
    """All metrics with their intervals."""
    possible = [
        name
        for name in FIGURES
        if name != "knn_accuracy@5" or len(measured.labels) > 5
    ]
    found = embedding_figures(
        measured.embeddings, measured.labels, possible, seed=seed
    )
    rows = [
        [name, *_written(name, estimate)]
        for name, estimate in [*_accuracies(measured), *found.items()]
    ]
    return page.section(
        "Metrics",
        page.element(
            "p",
            "Each with a 95 % confidence interval over the draw of the samples "
            "(of NMI and AMI: over starts of k-means). It does not hold for "
            "another training run. Neighbours are by cosine similarity, a "
            "sample never its own; at 0 in intra_inter_distance_ratio each "
            "class is one point, at 1 classes cannot be told apart.",
        ),
        page.table(["metric", "value", "95 % interval"], rows, numbers=2),
    )


def _accuracies(measured: Measurements) -> Iterator[tuple[str, Figure]]:
    """Top-1 and top-5, if there are scores."""
    if measured.scores is None:
        return
    own = np.take_along_axis(measured.scores, measured.labels[:, None], axis=1)
    # Classes with the same score count as better.
    ranks = np.sum(measured.scores >= own, axis=1)
    for k in (1, 5):
        if k < measured.scores.shape[1]:
            yield f"top-{k} accuracy", share(ranks <= k)


def _written(name: str, estimate: Figure) -> list[str]:
    if name.startswith(_SHARES):
        value, low, high = (100 * number for number in estimate)
        return [f"{value:.1f} %", f"{low:.1f} – {high:.1f} %"]
    value, low, high = estimate
    return [f"{value:.3f}", f"{low:.3f} – {high:.3f}"]


def scatter(measured: Measurements, seed: int) -> str:
    """The embedding in two dimensions."""
    samples = np.arange(len(measured.labels))
    note = ""
    if len(samples) > _SCATTERED:
        draw = np.random.default_rng(seed)
        samples = np.sort(draw.choice(samples, _SCATTERED, replace=False))
        note = f" {_SCATTERED:,} samples, drawn at random, are shown."
    vectors = measured.embeddings[samples]
    axis = embedding_scatter(
        vectors if vectors.shape[1] == 2 else unit_rows(vectors),
        measured.labels[samples],
        measured.class_names,
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


def worst_confusions(
    model: keras.Model,
    measured: Measurements,
    chosen: Sequence[choose.Confusion],
    images: Images | None,
) -> str:
    """The pairs of classes with the most errors, and photos of them."""
    names = measured.class_names
    by = "the nearest other sample" if measured.scores is None else "the scores"
    if not chosen:
        return page.section(
            "Worst confusions", page.element("p", f"None by {by}.")
        )
    rows = [
        [
            names[pair.label],
            names[pair.taken_for],
            str(pair.count),
            f"{100 * pair.share:.0f} %",
        ]
        for pair, *_ in chosen
    ]
    content = [
        page.element("p", f"What samples were taken for by {by}."),
        page.table(["class", "taken for", "samples", "of its class"], rows, 2),
    ]
    if images is not None:
        content += _photos_of_confusions(model, measured, chosen, images)
    return page.section("Worst confusions", *content)


def _photos_of_confusions(
    model: keras.Model,
    measured: Measurements,
    chosen: Sequence[choose.Confusion],
    images: Images,
) -> list[str]:
    """Mistaken samples of each pair, each beside its look-alike."""
    mistaken = np.concatenate([confusion.samples for confusion in chosen])
    evidence, note = _grad_cams(model, measured, mistaken, images)
    written = [
        page.element(
            "p",
            "From left to right: the sample; what speaks for the other class "
            "in it (Grad-CAM), where the model gives scores; the sample of "
            f"the other class that is nearest to it. {note}",
        )
    ]
    for pair, samples, look_alikes in chosen:
        name = measured.class_names[pair.label]
        other = measured.class_names[pair.taken_for]
        rows = []
        for place, sample in enumerate(samples):
            shown = [(images.photo(sample), f"A {name}")]
            if sample in evidence:
                shown.append((evidence[sample], f"What speaks for {other}"))
            if len(look_alikes):
                shown.append((images.photo(look_alikes[place]), f"A {other}"))
            rows.append(page.photos(shown))
        written += [
            page.element("h3", f"{name} taken for {other}"),
            page.side_by_side(rows),
        ]
    return written


def _grad_cams(
    model: keras.Model,
    measured: Measurements,
    samples: np.ndarray,
    images: Images,
) -> tuple[dict[int, np.ndarray], str]:
    """The evidence for the class that each sample was taken for.

    Returns:
        Pixels by sample, and a sentence that says why there are none.
    """
    if measured.scores is None:
        return {}, ""
    inputs = np.stack([images.inputs[sample] for sample in samples])
    try:
        heat = grad_cam(model, inputs, measured.taken_for[samples].tolist())
    except ValueError as error:
        # Not every model has a feature map: the page says so.
        return {}, f"There is no Grad-CAM here: {error}"
    return {
        sample: laid_over(images.photo(sample), own)
        for sample, own in zip(samples.tolist(), heat, strict=True)
    }, ""


def confusion_matrix(measured: Measurements) -> str:
    """Which classes are taken for which."""
    judged = measured.taken_for >= 0
    axis = look_alike_confusions(
        measured.labels[judged],
        measured.taken_for[judged],
        measured.class_names,
    )
    return page.section(
        "Confusions among look-alikes",
        page.picture(axis, "Confusion matrix of the classes most confused"),
    )


def retrieval(
    measured: Measurements, chosen: choose.Retrieval, images: Images
) -> str:
    """Nearest neighbours of some photos."""
    shown = np.column_stack(chosen)
    axis = retrieval_gallery(
        images.photos(shown, len(measured.labels)),
        measured.embeddings,
        measured.labels,
        chosen.queries,
        measured.class_names,
        chosen.neighbours.shape[1],
    )
    return page.section(
        "Nearest neighbours",
        page.picture(axis, "Photos, each with its nearest neighbours"),
    )


def centers(
    measured: Measurements,
    chosen: Sequence[choose.Centers],
    images: Images | None,
) -> str:
    """Where class centers stand, and the photos around them."""
    content = []
    for layer, values, classes, samples in chosen:
        is_raw = isinstance(layer, CenterLoss) and not layer.normalize
        axis = center_distances(
            values,
            measured.class_names,
            distance="euclidean" if is_raw else "cosine",
            most=_CENTER_CLASSES,
        )
        content += [
            page.element("h3", layer.name),
            page.picture(axis, "Heat map of the distances of class centers"),
        ]
        if images is None or not len(samples):
            continue
        axis = center_images(
            values,
            measured.embeddings,
            measured.labels,
            images.photos(samples, len(measured.labels)),
            measured.class_names,
            choose.PHOTOS_OF_A_CENTER,
            classes,
        )
        content.append(
            page.picture(axis, "The photos nearest to each center of a class")
        )
    return page.section("Class centers", *content) if content else ""


def channels(
    model: keras.Model,
    measured: Measurements,
    samples: np.ndarray,
    images: Images,
) -> str:
    """What the channels of MCLoss look at."""
    found = [c for c in calls_of(model) if isinstance(c.layer, MCLoss)]
    if not found:
        return ""
    layer, (feature_map, *_), _ = found[0]
    with scope_of(model):
        (image, *_) = (i for i in model.inputs if len(i.shape) == 4)
        to_map = keras.Model(image, feature_map)
    content = []
    for sample in samples:
        maps = to_map.predict(images.inputs[sample][None], verbose=0)[0]
        if layer.data_format == "channels_first":
            maps = np.moveaxis(maps, 0, -1)
        label = int(measured.labels[sample])
        own = class_channels(
            maps.shape[-1],
            layer.num_classes,
            label,
            layer.channels_per_class,
        )
        photo, name = images.photo(sample), measured.class_names[label]
        content += [
            page.picture(
                channel_strip(photo, maps, own, name),
                f"The channels of {name} on one of its photos",
            ),
            page.picture(
                channel_overlay(photo, maps, own),
                f"The channels of {name} in one picture",
            ),
        ]
    return page.section(
        "Channels of the mutual-channel loss",
        page.element(
            "p",
            "The strongest ones of each class. Where they lie on different "
            "places the class has several parts to be recognised by.",
        ),
        *content,
    )


def classes(measured: Measurements, samples: np.ndarray, images: Images) -> str:
    """Some photos of each class, or of those most confused."""
    axis = class_grid(
        [images.photo(sample) for sample in samples],
        measured.labels[samples],
        measured.class_names,
    )
    return page.section(
        "The classes", page.picture(axis, "Some photos of each class")
    )

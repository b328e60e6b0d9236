"""The photos that a run is trained and tested on, and its metrics.

A photo's number is its place in the arrays of all photos. The random parts have
fixed seeds: fold 2 and draw 2 are the same on every machine.

| protocol | trained on | tested |
|---|---|---|
| closed | the official training photos | the official test photos |
| boxes | the same, cropped to bounding boxes | the same, cropped |
| cv | four of five folds of the training photos | the fifth |
| zero_shot | the first half of the classes | the other half, by retrieval |
| open_set | training photos of 5/7 of the classes | test photos of all |

All tuning happens under cv: it never sees a test photo.
"""

import dataclasses

import numpy as np

PROTOCOLS = ("closed", "boxes", "cv", "zero_shot", "open_set")
# Seeds of five runs see each fold, or each draw, once.
PARTS = 5
_FOLD_SEED, _DRAW_SEED = 20110, 20111


@dataclasses.dataclass(frozen=True)
class Split:
    """The photos that one run is trained and tested on.

    Attributes:
        train: Numbers of the photos to train on, rising.
        test: Numbers of the photos to test on, rising.
        classes: Labels of the training photos, rising: the model's class k is
            `classes[k]`.
        crop_to_boxes: Whether all photos are cropped to their bounding boxes.
        unknown: Numbers of photos of classes that it has not seen and should
            not accept, rising; empty except for open_set.
    """

    train: np.ndarray
    test: np.ndarray
    classes: np.ndarray
    crop_to_boxes: bool
    unknown: np.ndarray

    @property
    def tested(self) -> np.ndarray:
        """Numbers of all photos that are tested: `test`, then `unknown`."""
        return np.concatenate([self.test, self.unknown])


def split(
    protocol: str, labels: np.ndarray, is_test: np.ndarray, seed: int
) -> Split:
    """Divides the photos for one run.

    cv divides each class among five folds, as evenly as possible; seed s tests
    fold s mod 5. zero_shot trains on the first half of the classes (the
    smaller half of an odd number) in the order of their labels. open_set holds
    out 2/7 of the classes (6 of 21): draw s mod 5, and the five draws hold out
    each class once or twice.

    Args:
        protocol: One of `PROTOCOLS`.
        labels: Classes of all photos, integers `(photos,)`. They need not be
            consecutive.
        is_test: Whether a photo is an official test photo, `(photos,)`.
        seed: Of the run, at least 0; chooses the fold or the draw.

    Raises:
        ValueError: If an argument is out of its range, the shapes disagree, or
            the photos do not allow the protocol.
    """
    _check_protocol("split", protocol)
    labels, is_test = np.asarray(labels), np.asarray(is_test, bool)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            "split: labels must be integers of the shape (photos,), received "
            f"{labels.dtype} of the shape {labels.shape}."
        )
    if is_test.shape != labels.shape:
        raise ValueError(
            f"split: is_test must have the shape {labels.shape} of labels, "
            f"received {is_test.shape}. Give one value a photo."
        )
    if seed < 0:
        raise ValueError(
            f"split: seed must be at least 0, received {seed}. Count from 0."
        )
    unknown = np.zeros(len(labels), bool)
    if protocol == "zero_shot":
        trains = np.isin(labels, _first_half(np.unique(labels)))
        train, test = trains, ~trains
    elif protocol == "cv":
        fold = _folds(labels, is_test) == seed % PARTS
        train, test = ~is_test & ~fold, fold
    else:
        train, test = ~is_test, is_test
    if protocol == "open_set":
        held_out = _held_out(np.unique(labels), seed % PARTS)
        unknown = test & np.isin(labels, held_out)
        train = train & ~np.isin(labels, held_out)
        test = test & ~unknown
    classes = np.unique(labels[train])
    needed = {"training": train, "test": test}
    if protocol == "open_set":
        needed["unknown"] = unknown
    for name, chosen in needed.items():
        if not chosen.any():
            raise ValueError(
                f"split: {protocol} needs {name} photos, received none among "
                f"{len(labels)}. Did you mean another is_test?"
            )
    untrained = np.setdiff1d(labels[test], classes)
    if protocol != "zero_shot" and len(untrained):
        raise ValueError(
            f"split: {protocol} must train every class that it tests, received "
            f"no training photo of class {untrained[0]}. Leave that class "
            "out, or add photos of it."
        )
    return Split(
        train=np.flatnonzero(train),
        test=np.flatnonzero(test),
        classes=classes,
        crop_to_boxes=protocol == "boxes",
        unknown=np.flatnonzero(unknown),
    )


def metrics(
    protocol: str,
    split: Split,
    labels: np.ndarray,
    embeddings: np.ndarray,
    scores: np.ndarray,
) -> dict[str, float]:
    """The metrics of a run.

    | protocol | metrics |
    |---|---|
    | closed, boxes, cv | top_1, top_5, recall_at_1, distance ratio |
    | zero_shot | recall_at_1, recall_at_2, recall_at_4, recall_at_8, nmi |
    | open_set | top_1, auroc, fpr_at_95, oscr |

    A class with the same score as the right one counts as better. In open_set,
    top_1 is over the photos of known classes. The others measure how well the
    maximum score separates those from the rest: see `metrics.open_set`.

    Args:
        protocol: One of `PROTOCOLS`.
        split: The photos of the run.
        labels: Classes of all photos, `(photos,)`.
        embeddings: Of `split.tested`, `(tested, dim)`.
        scores: Of the same photos, `(tested, classes)`; the highest one wins.
            zero_shot does not use them.

    Returns:
        The metrics by name: intra_inter_distance_ratio is not negative, all
        others lie in [0, 1].

    Raises:
        ValueError: If the shapes disagree, or an embedding is not finite.
    """
    from keras_finegrain._base.arrays import true_class_ranks
    from keras_finegrain.metrics import nmi, open_set, recall_at_k
    from keras_finegrain.training.runs import test_metrics

    _check_outputs("metrics", protocol, split, embeddings, scores)
    tested = np.asarray(labels)[split.tested]
    if protocol == "zero_shot":
        return {
            **{
                f"recall_at_{k}": recall_at_k(embeddings, tested, k)
                for k in (1, 2, 4, 8)
            },
            "nmi": nmi(embeddings, tested),
        }
    known = len(split.test)
    own = np.searchsorted(split.classes, tested[:known])
    if protocol != "open_set":
        return test_metrics(embeddings, scores, own)
    highest = np.max(scores, axis=1)
    right = true_class_ranks(scores[:known], own) <= 1
    found = open_set(highest[:known], highest[known:], right, resamples=1)
    return {
        "top_1": float(np.mean(right)),
        **{name: estimate.value for name, estimate in found.items()},
    }


def predictions(
    protocol: str,
    split: Split,
    labels: np.ndarray,
    embeddings: np.ndarray,
    scores: np.ndarray,
) -> list[int]:
    """The predicted class of each tested photo.

    Args:
        protocol: As in `metrics`.
        split: As in `metrics`.
        labels: As in `metrics`.
        embeddings: As in `metrics`.
        scores: As in `metrics`.

    Returns:
        One of `labels` for each of `split.tested`: that of the highest score,
        and in zero_shot that of the nearest other tested photo by cosine
        similarity, as in `recall_at_1`: among equally near ones another class
        comes first; -1 for the only photo of a class.

    Raises:
        ValueError: As in `metrics`.
    """
    from keras_finegrain.metrics.confusions import nearest_classes
    from keras_finegrain.metrics.embedding_set import CHUNK_SIZE, retrieval_set

    _check_outputs("predictions", protocol, split, embeddings, scores)
    if protocol != "zero_shot":
        return split.classes[np.argmax(scores, axis=1)].tolist()
    found = retrieval_set(
        "predictions",
        embeddings,
        np.asarray(labels)[split.tested],
        None,
        None,
        "cosine",
    )
    nearest = nearest_classes(found, CHUNK_SIZE)
    return np.where(nearest < 0, -1, found.classes[nearest]).tolist()


def _first_half(classes: np.ndarray) -> np.ndarray:
    from keras_finegrain.datasets.selection import first_classes

    if len(classes) < 4:
        raise ValueError(
            "split: zero_shot needs at least 4 classes, two to train and two "
            f"to tell apart, received {len(classes)}."
        )
    return classes[: first_classes(len(classes), 0.5)]


def _folds(labels: np.ndarray, is_test: np.ndarray) -> np.ndarray:
    """The fold of each photo, `(photos,)`; -1 for a test photo."""
    photos = np.flatnonzero(~is_test)
    shuffled = photos[_order(len(photos), _FOLD_SEED)]
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.full(len(labels), -1)
    # Dealt without a break, so that the folds are as even as the classes.
    folds[by_class] = np.arange(len(photos)) % PARTS
    return folds


def _held_out(classes: np.ndarray, draw: int) -> np.ndarray:
    if len(classes) < 4:
        raise ValueError(
            "split: open_set needs at least 4 classes, of which one is held "
            f"out, received {len(classes)}."
        )
    count = round(len(classes) * 2 / 7)
    # Each draw goes on where the one before ended.
    places = np.arange(draw * count, (draw + 1) * count)
    return np.take(
        classes[_order(len(classes), _DRAW_SEED)], places, mode="wrap"
    )


def _order(count: int, seed: int) -> np.ndarray:
    """A random order. NumPy promises the same raw integers in all versions."""
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def _check_protocol(who: str, protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"{who}: protocol must be one of {', '.join(PROTOCOLS)}, "
            f"received {protocol!r}."
        )


def _check_outputs(
    who: str,
    protocol: str,
    split: Split,
    embeddings: np.ndarray,
    scores: np.ndarray,
) -> None:
    _check_protocol(who, protocol)
    tested, classes = len(split.tested), len(split.classes)
    if len(embeddings) != tested:
        raise ValueError(
            f"{who}: embeddings must have {tested} rows, one for each of "
            f"split.tested, received {len(embeddings)}."
        )
    if protocol != "zero_shot" and np.shape(scores) != (tested, classes):
        raise ValueError(
            f"{who}: scores must have the shape ({tested}, {classes}), of "
            f"split.tested and split.classes, received {np.shape(scores)}."
        )

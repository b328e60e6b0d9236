"""Whether probabilities hold, and the temperature that makes them."""

from typing import Any, NamedTuple

import numpy as np

from keras_finegrain._base.checks import positive_integer, real_array
from keras_finegrain.labels.forms import integer_labels

# How far from 1 the probabilities of a sample may sum up: half precision.
_SUM_TOLERANCE = 0.01
# Temperatures are searched between the spread of the scores over this number
# and times it.
_WIDEST = 1e6


class ReliabilityBins(NamedTuple):
    """Samples by how sure the model is of them.

    Attributes:
        edges: Limits of the bins in [0, 1], `(bins + 1,)`. A bin has its upper
            limit, not its lower one.
        counts: Samples in each bin, `(bins,)`.
        confidence: Mean of their highest probabilities, `(bins,)`, NaN where
            the bin is empty.
        accuracy: Share of them that are right, `(bins,)`, NaN likewise.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability_bins(
    probabilities: Any, labels: Any, bins: int = 15
) -> ReliabilityBins:
    """Compares confidence and accuracy in bins of equal width.

    A sample's confidence is its highest probability; it is right if that is
    its class's, of equal ones the first.

    Args:
        probabilities: Array or tensor of any backend, `(samples, classes)`, of
            rows that sum up to 1.
        labels: Integers `(samples,)` in [0, classes), or one-hot rows.
        bins: Number of bins. Defaults to 15.

    Returns:
        `ReliabilityBins`.

    Raises:
        ValueError: If the shapes disagree, a row holds no probabilities, a
            label is out of its range, or `bins` is no integer of at least 1.

    Example:
    >>> found = reliability_bins([[0.9, 0.1], [0.7, 0.3]], [0, 1], bins=2)
    >>> found.counts.tolist(), round(float(found.confidence[1]), 3)
    ([0, 2], 0.8)
    """
    return binned("reliability_bins", probabilities, labels, bins)


def expected_calibration_error(
    probabilities: Any, labels: Any, bins: int = 15
) -> float:
    """The expected calibration error of Guo et al. (ICML 2017).

    The mean, over samples, of |accuracy - confidence| of a sample's bin. The
    bins have equal widths, as in the paper. Chance alone makes it larger than
    0, the more so the fewer samples there are: compare only values of as many.

    Args:
        probabilities: As in `reliability_bins`.
        labels: As in `reliability_bins`.
        bins: Number of bins. Defaults to 15.

    Returns:
        The error, in [0, 1]; 0 is best.

    Raises:
        ValueError: As in `reliability_bins`.

    Example:
    >>> rows = [[0.9, 0.1], [0.9, 0.1]]
    >>> round(expected_calibration_error(rows, [0, 1]), 3)
    0.4
    """
    found = binned("expected_calibration_error", probabilities, labels, bins)
    return error_of(found)


def error_of(found: ReliabilityBins) -> float:
    """The expected calibration error of samples in bins."""
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(gaps * found.counts) / found.counts.sum())


def fit_temperature(scores: Any, labels: Any) -> float:
    """The temperature T with which `softmax(scores / T)` holds best.

    T minimises the cross-entropy of these samples (Guo et al., ICML 2017). It
    changes no ranking. Take samples that the model was not trained on: of the
    others it is too sure.

    If all samples are right, the cross-entropy falls with T to 0. So T is at
    least the temperature at which the mean confidence is (n + 1) / (n + 2): n
    right ones of n support no more (Laplace's rule of succession).

    Args:
        scores: What the highest of wins, `(samples, classes)`: logits or
            similarities, array or tensor of any backend.
        labels: Integers `(samples,)` in [0, classes), or one-hot rows.

    Returns:
        T, above 0.

    Raises:
        ValueError: If the shapes disagree, a score is not finite, a label is
            out of its range, or the scores tell the classes no better than
            chance, so that no T is best.

    Example:
    >>> scores = [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]
    >>> round(fit_temperature(scores, [0, 0, 0, 1]), 3)  # 2 / ln 3
    1.82
    """
    who = "fit_temperature"
    values = _of_classes(who, "scores", scores)
    classes = _labels(who, labels, values)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{who}: scores must be finite, received NaN or infinity. Pass "
            "logits or similarities, not logarithms of 0."
        )
    values = values - values.max(axis=1, keepdims=True)
    own = np.take_along_axis(values, classes[:, None], axis=1)[:, 0]
    spread = -float(values.min(axis=1).mean())
    # As T grows, all classes become equally likely.
    if not own.mean() > values.mean():
        raise ValueError(
            f"{who}: scores must be higher for the right classes than for "
            f"others, received means of {own.mean():.4g} and "
            f"{values.mean():.4g} below the highest. Are their columns in the "
            "order of the labels?"
        )
    supported = (len(own) + 1) / (len(own) + 2)

    def is_too_cold(temperature: float) -> bool:
        shares = np.exp(values / temperature)
        shares /= shares.sum(axis=1, keepdims=True)
        # The cross-entropy is convex in 1 / T: this is the sign of its slope.
        too_sure = float(np.mean((shares * values).sum(axis=1) - own)) > 0
        return too_sure or float(shares.max(axis=1).mean()) > supported

    low, high = np.log(spread / _WIDEST), np.log(spread * _WIDEST)
    while high - low > 1e-9:
        middle = (low + high) / 2
        if is_too_cold(np.exp(middle)):
            low = middle
        else:
            high = middle
    return float(np.exp(high))


def binned(
    who: str, probabilities: Any, labels: Any, bins: int
) -> ReliabilityBins:
    """As `reliability_bins`, for several public functions."""
    rows = _of_classes(who, "probabilities", probabilities)
    classes = _labels(who, labels, rows)
    bins = positive_integer(who, "bins", bins)
    off = np.abs(rows.sum(axis=1) - 1)
    # (`not <=` is true of NaN, too.)
    wrong = ~(off <= _SUM_TOLERANCE) | (rows < 0).any(axis=1)
    if wrong.any():
        row = rows[np.argmax(wrong)]
        raise ValueError(
            f"{who}: probabilities must be rows of shares that sum up to 1, "
            f"received one with a minimum of {row.min():.4g} and a sum of "
            f"{row.sum():.4g}. Pass softmax(scores / temperature)."
        )
    highest = rows.max(axis=1)
    right = rows.argmax(axis=1) == classes
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, highest) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    sizes = np.where(counts, counts, np.nan)
    return ReliabilityBins(
        edges,
        counts,
        np.bincount(places, highest, minlength=bins) / sizes,
        np.bincount(places, right, minlength=bins) / sizes,
    )


def _of_classes(who: str, name: str, values: Any) -> np.ndarray:
    """Float64 `(samples, classes)`, at least one and two."""
    rows = real_array(who, name, values)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] < 2:
        raise ValueError(
            f"{who}: {name} must have the shape (samples, classes) with at "
            f"least one sample and two classes, received {rows.shape}."
        )
    return rows.astype(np.float64)


def _labels(who: str, labels: Any, rows: np.ndarray) -> np.ndarray:
    """Integers `(samples,)` in the range of the rows' classes."""
    classes = integer_labels(who, labels, len(rows)).astype(np.int64)
    if classes.min() < 0 or classes.max() >= rows.shape[1]:
        raise ValueError(
            f"{who}: labels must lie in [0, {rows.shape[1]}), received a "
            f"minimum of {classes.min()} and a maximum of {classes.max()}. "
            "Leave out samples of other classes."
        )
    return classes

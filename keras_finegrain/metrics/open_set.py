"""How well a score tells samples of known classes from all others."""

from typing import Any

import numpy as np

from keras_finegrain._base.checks import number, positive_integer, real_array
from keras_finegrain._base.checks import seed as check_seed
from keras_finegrain.metrics.embedding_metrics import Estimate

# Samples of each score, from the highest score to the lowest.
_Counts = tuple[np.ndarray, np.ndarray, np.ndarray]


def open_set(
    known_scores: Any,
    unknown_scores: Any,
    known_correct: Any = None,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Measures how well a score tells known classes from unknown ones.

    A model accepts a sample as one of its classes if the sample's score, such
    as its highest similarity, is at least a threshold.

    - `auroc`: share of pairs of a known and an unknown sample in which the
      known one scores higher; 1 is best, 0.5 is chance.
    - `fpr_at_95`: share of unknown samples that are accepted by the highest
      threshold that accepts at least 95 % of the known ones; 0 is best.
    - `oscr`: share of those pairs in which the known sample scores higher and
      is given its right class; the accuracy at best.

    A tie counts as half in `auroc` and `oscr`, which are areas under a curve
    over all thresholds: of the share of known samples that are accepted, or
    accepted and right, against the share of unknown ones that are accepted
    (Dhamija et al., NeurIPS 2018). The intervals are percentiles of a bootstrap
    over the draw of the samples, known and unknown ones apart. If the score
    separates all samples the interval has no width: how likely it is to fail on
    others, a bootstrap cannot tell.

    Args:
        known_scores: Scores of samples of the model's classes, array or tensor
            of any backend, `(known,)`. High means known.
        unknown_scores: Scores of samples of other classes, `(unknown,)`.
        known_correct: Whether each known sample is given its right class,
            `(known,)`. Defaults to `None`: no `oscr`.
        confidence: Share of the draws that an interval spans, in (0, 1).
            Defaults to 0.95.
        resamples: Number of draws of the bootstrap, at least 1. Defaults to
            1000.
        seed: Seed of the draws. Defaults to 0.

    Returns:
        An `Estimate(value, low, high)`, in [0, 1], for each name.

    Raises:
        ValueError: If scores are not finite numbers of the shape `(samples,)`
            with at least one, `known_correct` holds anything but one bool for
            each known sample, or an argument is out of its range.

    Example:
    >>> found = open_set([0.9, 0.8, 0.4], [0.1, 0.5], [True, False, True])
    >>> {name: round(estimate.value, 3) for name, estimate in found.items()}
    {'auroc': 0.833, 'fpr_at_95': 0.5, 'oscr': 0.5}
    """
    who = "open_set"
    known = _scores(who, "known_scores", known_scores)
    unknown = _scores(who, "unknown_scores", unknown_scores)
    correct = None
    if known_correct is not None:
        correct = _correct(who, known_correct, len(known))
    confidence = number(who, "confidence", confidence, above=0, below=1)
    resamples = positive_integer(who, "resamples", resamples)
    generator = np.random.default_rng(check_seed(who, "seed", seed))

    # The place of each score among all, 0 for the highest.
    places = np.unique(-np.concatenate([known, unknown]), return_inverse=True)[
        1
    ]
    of_known, of_unknown = places[: len(known)], places[len(known) :]
    size = int(places.max()) + 1
    counted_right = np.ones(len(known), bool) if correct is None else correct

    def counts(chosen: np.ndarray, others: np.ndarray) -> _Counts:
        right = chosen[counted_right[chosen]]
        return (
            np.bincount(of_known[chosen], minlength=size),
            np.bincount(of_known[right], minlength=size),
            np.bincount(of_unknown[others], minlength=size),
        )

    value = _of_counts(counts(np.arange(len(known)), np.arange(len(unknown))))
    draws = [
        _of_counts(
            counts(
                generator.integers(len(known), size=len(known)),
                generator.integers(len(unknown), size=len(unknown)),
            )
        )
        for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    names = ("auroc", "fpr_at_95", "oscr")
    return {
        name: Estimate(value[i], float(low[i]), float(high[i]))
        for i, name in enumerate(names if correct is not None else names[:2])
    }


def _of_counts(counts: _Counts) -> tuple[float, float, float]:
    """AUROC, FPR at 95 % TPR and OSCR."""
    known, right, unknown = counts
    num_known, num_unknown = int(known.sum()), int(unknown.sum())
    accepted = np.cumsum(unknown)
    # Unknown samples that score lower, ties by half. (Whole numbers: exact.)
    lower = 2 * num_unknown - 2 * accepted + unknown
    pairs = 2 * num_known * num_unknown
    # In integers: 0.95 times a number of samples may be rounded up.
    threshold = np.argmax(100 * np.cumsum(known) >= 95 * num_known)
    return (
        int(known @ lower) / pairs,
        int(accepted[threshold]) / num_unknown,
        int(right @ lower) / pairs,
    )


def _scores(who: str, name: str, values: Any) -> np.ndarray:
    """Finite float64 `(samples,)`, at least one."""
    scores = real_array(who, name, values)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(
            f"{who}: {name} must have the shape (samples,) with at least one, "
            f"received {scores.shape}. Give each sample one score, such as the "
            "highest of its classes."
        )
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        place = int(np.argmin(np.isfinite(scores)))
        raise ValueError(
            f"{who}: {name} must be finite, received {scores[place]} at place "
            f"{place}. Leave such samples out, or find where they come from."
        )
    return scores


def _correct(who: str, values: Any, samples: int) -> np.ndarray:
    """Bools `(samples,)`."""
    correct = real_array(who, "known_correct", values)
    if correct.shape != (samples,) or not np.isin(correct, (0, 1)).all():
        raise ValueError(
            f"{who}: known_correct must be one bool for each of the {samples} "
            f"known scores, received {correct.dtype} of the shape "
            f"{correct.shape}. Pass predicted == labels."
        )
    return correct.astype(bool)

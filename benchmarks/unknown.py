"""Which score tells photos of nothing known, and how a gallery compares them.

    python benchmarks/unknown.py --weights FOLDER
    python benchmarks/unknown.py --table

Heads on a frozen backbone learn 15 of 21 species; the other 6 are unknown. Each
of five draws of the 6 has two fits: one on four fifths of the training photos,
whose held-out fifth, with training photos of the unknown species, sets
temperatures and thresholds; and one on all training photos, which is measured
on the test photos. A finished draw is a line of `--results` and is not run
again.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from evidence_ledger import Ledger, LedgerError
from protocols import PARTS, split

HERE = Path(__file__).parent
# `features`: what the frozen backbone gives, pooled, with no head at all;
# `centered`: the same less the mean of the training photos; `last_…`: the last
# block is trained too, where the others have a linear layer of 256.
LAST: dict[str, dict[str, Any]] = {
    "last_softmax": {"method": "softmax", "lr": 0.001},
    "last_softmax_003": {"method": "softmax"},
    "last_soft_triple": {"method": "soft_triple"},
    "last_center": {"method": "center"},
    "last_normface": {"method": "normface"},
    "last_softmax_average_001": {
        "method": "softmax",
        "pooling": "average",
        "lr": 0.001,
    },
    "last_softmax_average": {"method": "softmax", "pooling": "average"},
    "last_center_average": {"method": "center", "pooling": "average"},
}
METHODS = (
    *("softmax", "soft_triple", "normface", "features", "centered"),
    *LAST,
)
# The losses that are compared draw by draw, the first with the second.
PAIRS = (
    *((loss, "softmax") for loss in ("soft_triple", "normface")),
    ("last_softmax_003", "last_softmax"),
    *(
        (f"last_{loss}", softmax)
        for softmax in ("last_softmax_003", "last_softmax_average")
        for loss in ("soft_triple", "center", "normface")
    ),
    ("last_softmax_average", "last_softmax_average_001"),
    ("last_center_average", "last_softmax_average"),
    ("last_center_average", "last_softmax_average_001"),
)
# How like a photo is to a class: the cosine to its mean in which nearer photos
# weigh more (see `Gallery`), from the nearest photo alone to the plain mean;
# the mean cosine to five; a quarter of the nearest, the rest of the mean.
BANDWIDTHS = {f"bandwidth {b:g}": b for b in (0.05, 0.1, 0.2, 0.3, 0.5)}
WAYS = ("nearest", *BANDWIDTHS, "mean", "nearest 5", "mixture")
DEFAULT = "bandwidth 0.2"
# Photos of a new class, and how often they are drawn.
FEW, PICKS = 5, 10
FALSE_ALARMS = 0.05
# Whose metrics are compared draw by draw.
WAYS_COMPARED = (
    *((DEFAULT, way) for way in WAYS if way not in BANDWIDTHS),
    ("bandwidth 0.1", DEFAULT),
    ("bandwidth 0.3", DEFAULT),
    ("head", DEFAULT),
)
SCORES_COMPARED = (
    *WAYS_COMPARED,
    (f"tempered {DEFAULT}", DEFAULT),
    (f"both {DEFAULT}", DEFAULT),
    ("tempered head", DEFAULT),
)
# Of the loss: its softmax has seen the scores times this.
SCALES = {
    **{"softmax": 1.0, "soft_triple": 20.0, "normface": 20.0},
    **{
        name: 1.0 if own["method"] in ("softmax", "center") else 20.0
        for name, own in LAST.items()
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given = parser().parse_args(argv)
    from keras_finegrain.training import Settings

    ledger = Ledger(given.results, dataclasses.asdict(Settings()))
    try:
        if not given.table:
            run_all(given, ledger)
        print("\n\n".join(tables(ledger.lines, given.methods)))
    except LedgerError as error:
        print(f"unknown.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def run_all(given: argparse.Namespace, ledger: Ledger) -> None:
    """Makes the draws that are not finished yet."""
    from keras_finegrain.datasets import Photos
    from keras_finegrain.training import FeatureCache, PhotosOnDevice

    photos = Photos.load(given.data)
    on_device, cache = PhotosOnDevice(photos), FeatureCache(given.cache)
    far: dict[str, np.ndarray] = {}
    for draw in range(PARTS):
        for method in given.methods:
            settings = settings_of(method)
            named = dataclasses.asdict(settings)
            place = f"unknown/{method}", "open_set", draw
            if ledger.find(*place, named, photos.digest) is not None:
                continue
            started = time.perf_counter()
            located = located_in(given.weights, settings, given.cache)
            far = far or far_images(settings.image_size)
            line = one_draw(method, located, draw, on_device, cache, far)
            seconds = round(time.perf_counter() - started, 2)
            ledger.append(
                {
                    **line,
                    "arm": place[0],
                    "protocol": place[1],
                    "seed": draw,
                    "settings": named,
                    "seconds": {"whole": seconds},
                }
            )
            print(f"{method}, draw {draw}: {seconds:.0f} s", flush=True)


def settings_of(method: str) -> Any:
    """As `head_256/*` behind the pooling, and as `last/*`, of the arms."""
    from keras_finegrain.training import Settings

    shared = {"backbone": "efficientnet_lite0_imagenet.keras"}
    if method in LAST:
        own = {"lr": 0.003, "pooling": "gem"} | LAST[method]
        return Settings(**shared, freeze="block14_add", views=8, **own)
    return Settings(
        **shared,
        method=method if method in SCALES else "softmax",
        freeze="pooled",
        views=4,
        lr=0.003,
        embedding_size=256,
    )


def located_in(weights: Path, settings: Any, folder: Path) -> Any:
    """The settings with the path of their backbone."""
    if settings.freeze == "pooled":
        return with_pooling(settings, weights, folder)
    return dataclasses.replace(
        settings, backbone=str(weights / settings.backbone)
    )


def with_pooling(settings: Any, weights: Path, folder: Path) -> Any:
    """The settings with a backbone that ends in its own mean, in a file.

    The features that are kept have one number where a map has 49.
    """
    import keras

    from keras_finegrain.training.backbones import build_backbone

    path = folder / f"pooled_{settings.backbone}"
    if not path.exists():
        whole = dataclasses.replace(
            settings, backbone=str(weights / settings.backbone), freeze=None
        )
        backbone = build_backbone(whole)
        pooling = keras.layers.GlobalAveragePooling2D(
            keepdims=True, name="pooled"
        )
        folder.mkdir(parents=True, exist_ok=True)
        keras.Model(backbone.input, pooling(backbone.output)).save(path)
    return dataclasses.replace(settings, backbone=str(path))


def one_draw(
    method: str,
    settings: Any,
    draw: int,
    on_device: Any,
    cache: Any,
    far: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Both fits of one draw; returns its line's metrics and photos."""
    from keras_finegrain.training.versions import device_name, versions

    photos = on_device.photos
    outer = split("open_set", photos.labels, photos.is_test, draw)
    fold = split("cv", photos.labels, photos.is_test, draw).test
    label_of = np.full(photos.num_classes, -1, np.int32)
    label_of[outer.classes] = np.arange(len(outer.classes))
    labels = label_of[photos.labels]
    strangers = np.flatnonzero(~photos.is_test & (labels < 0))

    def outputs(train: np.ndarray) -> "Outputs":
        run = fitted(
            method, settings, draw, on_device, cache, labels, train, outer, far
        )
        # What lies far off has the numbers after those of the photos.
        others = np.full(len(run[0]) - len(labels), -1)
        known = np.concatenate([labels, others])
        return Outputs(*run, known, train, len(outer.classes))

    inner = outputs(np.setdiff1d(outer.train, fold))
    held_out = np.intersect1d(outer.train, fold)
    final = outputs(outer.train)
    figures: dict[str, float] = {}
    temperatures = inner.temperatures(held_out)
    known_scores = inner.held_out_scores(held_out, temperatures)
    for where, of, known, unknown in (
        ("tuning", inner, held_out, strangers),
        ("test", final, outer.test, outer.unknown),
    ):
        found = separation(
            of, method, known, unknown, temperatures, known_scores
        )
        for name, value in found.items():
            figures[f"{where}/{name}"] = value
    first = len(labels)
    for name, features in far.items():
        others = np.arange(first, first + len(features))
        first += len(features)
        found = separation(
            final, method, outer.test, others, temperatures, known_scores
        )
        for score, value in found.items():
            if score.endswith("/auroc"):
                figures[f"far {name}/{score}"] = value
    figures |= thresholds(inner, final, held_out, outer)
    figures |= new_classes(final, photos.labels, outer, strangers, draw)
    figures |= calibration(inner, final, method, held_out, outer, draw)
    winners = final.by_way(DEFAULT, outer.tested).argmax(axis=1)
    return {
        "data": {
            "name": photos.name,
            "digest": photos.digest,
            "train": len(outer.train),
            "test": len(outer.tested),
        },
        "versions": versions(),
        "device": device_name(),
        "figures": figures,
        "photos": outer.tested.tolist(),
        "labels": photos.labels[outer.tested].tolist(),
        "predictions": outer.classes[winners].tolist(),
    }


def far_images(size: int) -> dict[str, np.ndarray]:
    """Pictures that show no sparrow, by what they show."""
    from keras import ops
    from sklearn.datasets import load_sample_images

    from keras_finegrain.datasets import synthetic_birds

    count = 100
    species = synthetic_birds.species_table(20, 2)
    drawn = [
        synthetic_birds.draw(species[number % 20], number, size)[0]
        for number in range(count)
    ]
    generator = np.random.default_rng(0)
    crops = []
    for number in range(count):
        photo = load_sample_images().images[number % 2]
        side = int(generator.integers(size, min(photo.shape[:2]) + 1))
        top, left = (
            generator.integers(0, length - side + 1)
            for length in photo.shape[:2]
        )
        crops.append(photo[top : top + side, left : left + side])
    resized = [
        ops.convert_to_numpy(
            ops.image.resize(ops.cast(crop, "float32")[None], (size, size))
        )[0]
        for crop in crops
    ]
    return {
        "drawn birds": np.stack(drawn).astype("float32"),
        "a temple and a flower": np.stack(resized),
    }


def fitted(
    method: str,
    settings: Any,
    seed: int,
    on_device: Any,
    cache: Any,
    labels: np.ndarray,
    train: np.ndarray,
    outer: Any,
    far: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeddings and scores of all photos, then of what lies far off."""
    from keras import Model

    from keras_finegrain import embedding_model
    from keras_finegrain.training import PhotoSplit
    from keras_finegrain.training import train as fit
    from keras_finegrain.training.runs import build

    everything = np.arange(len(labels))
    source = PhotoSplit(
        on_device, labels, train, everything, len(outer.classes)
    )
    others = np.concatenate([*far.values()])
    if method in SCALES:
        run = fit(settings, seed, source, cache=cache)
        embedding = embedding_model(run.model).outputs[0]
        whole = Model(run.model.input, [embedding, run.model.outputs[0]])
        embeddings, scores = whole.predict(others, verbose=0)
        return (
            np.concatenate([run.embeddings, embeddings]),
            np.concatenate([run.scores, scores]),
        )
    model, cut, _ = build(settings, seed, source.num_classes)
    front = Model(model.input, cut)
    frozen = source.frozen(settings, front, cache)
    pooled = np.concatenate([frozen.plain, front.predict(others, verbose=0)])
    if method == "centered":
        pooled -= pooled[train].mean(axis=0)
    return pooled, None


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What one fit says about all photos, and the gallery of its own.

    Attributes:
        embeddings: `(photos, dim)`.
        scores: The head's `(photos, classes)`, or None.
        labels: Classes of all photos, -1 for the unknown.
        gallery: Numbers of the photos in the gallery.
        num_classes: Number of classes.
    """

    embeddings: np.ndarray
    scores: np.ndarray | None
    labels: np.ndarray
    gallery: np.ndarray
    num_classes: int

    def by_way(
        self, way: str, photos: np.ndarray, *, without_self: bool = False
    ) -> np.ndarray:
        """How like photos are to each class, `(photos, classes)`.

        Args:
            way: One of `WAYS`.
            photos: Numbers of photos.
            without_self: Whether a photo of the gallery is compared with the
                others alone.
        """
        return class_similarities(
            unit(self.embeddings[photos]),
            unit(self.embeddings[self.gallery]),
            self.labels[self.gallery],
            self.num_classes,
            way,
            np.equal.outer(photos, self.gallery) if without_self else None,
        )

    def temperatures(self, photos: np.ndarray) -> dict[str, float]:
        """That of each way, and of the head, on these photos."""
        from keras_finegrain.metrics import fit_temperature

        scores = {way: self.by_way(way, photos) for way in WAYS}
        if self.scores is not None:
            scores["head"] = self.scores[photos]
        return {
            name: fit_temperature(rows, self.labels[photos])
            for name, rows in scores.items()
        }

    def held_out_scores(
        self, photos: np.ndarray, temperatures: Mapping[str, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The similarities and the probabilities, rising."""
        alike = self.by_way(DEFAULT, photos)
        shares = highest_share(alike / temperatures[DEFAULT])
        return np.sort(alike.max(axis=1)), np.sort(shares)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def class_similarities(
    queries: np.ndarray,
    gallery: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    way: str,
    excluded: np.ndarray | None = None,
) -> np.ndarray:
    """As `Outputs.by_way`, of unit rows.

    `excluded` says which photos of the gallery count for which query not.
    """
    if way == "mixture":
        parts = [
            class_similarities(
                queries, gallery, labels, num_classes, part, excluded
            )
            for part in ("mean", "nearest")
        ]
        return 0.75 * parts[0] + 0.25 * parts[1]
    cosines = queries @ gallery.T
    if excluded is not None:
        cosines = np.where(excluded, -np.inf, cosines)
    columns = []
    for k in range(num_classes):
        of_class = cosines[:, labels == k]
        if way.startswith("nearest"):
            count = int(way.removeprefix("nearest") or 1)
            best = np.sort(of_class, axis=1)[:, -count:]
            columns.append(best.mean(axis=1))
            continue
        # (Of what is excluded the weight is zero.)
        weights = np.exp(of_class / BANDWIDTHS.get(way, 1e6))
        means = unit(weights @ gallery[labels == k])
        columns.append(np.sum(queries * means, axis=1))
    return np.stack(columns, axis=1)


def candidates(
    of: Outputs,
    method: str,
    photos: np.ndarray,
    temperatures: Mapping[str, float],
    known_scores: tuple[np.ndarray, np.ndarray],
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, score of being known and class, of each way to decide."""
    from scipy.special import logsumexp

    if of.scores is not None:
        scores = of.scores[photos] * SCALES[method]
        winners = scores.argmax(axis=1)
        yield "head", scores.max(axis=1), winners
        yield "probability", highest_share(scores), winners
        held = highest_share(of.scores[photos] / temperatures["head"])
        yield "tempered head", held, winners
        yield "energy", logsumexp(scores, axis=1), winners
    for way in WAYS:
        alike = of.by_way(way, photos)
        yield way, alike.max(axis=1), alike.argmax(axis=1)
    alike = of.by_way(DEFAULT, photos)
    held = highest_share(alike / temperatures[DEFAULT])
    yield f"tempered {DEFAULT}", held, alike.argmax(axis=1)
    # Where it stands among held-out known photos, by the worse of the two.
    places = [
        np.interp(values, of_known, np.linspace(0, 1, len(of_known)))
        for values, of_known in zip(
            (alike.max(axis=1), held), known_scores, strict=True
        )
    ]
    yield f"both {DEFAULT}", np.min(places, axis=0), alike.argmax(axis=1)


def separation(
    of: Outputs,
    method: str,
    known: np.ndarray,
    unknown: np.ndarray,
    temperatures: Mapping[str, float],
    known_scores: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """Open-set metrics and top-1 of each way to decide."""
    from keras_finegrain.metrics import open_set

    found: dict[str, float] = {}
    both = zip(
        candidates(of, method, known, temperatures, known_scores),
        candidates(of, method, unknown, temperatures, known_scores),
        strict=True,
    )
    for (name, accepted, winners), (_, strange, _) in both:
        right = winners == of.labels[known]
        found[f"{name}/top_1"] = float(right.mean())
        estimates = open_set(accepted, strange, right, resamples=1)
        for metric, estimate in estimates.items():
            found[f"{name}/{metric}"] = estimate.value
    return found


def thresholds(
    inner: Outputs, final: Outputs, held_out: np.ndarray, outer: Any
) -> dict[str, float]:
    """What a threshold for 5 % false alarms does on the test photos.

    It is set on photos that were held out, or on the gallery's own, each
    compared with the others.
    """
    found = {}
    temperature = inner.temperatures(held_out)[DEFAULT]
    kinds = {
        **{way: (way, lambda rows: rows.max(axis=1)) for way in WAYS},
        f"tempered {DEFAULT}": (
            DEFAULT,
            lambda rows: highest_share(rows / temperature),
        ),
    }
    for kind, (way, score) in kinds.items():
        own = final.by_way(way, final.gallery, without_self=True)
        for name, rows in (
            ("held out", inner.by_way(way, held_out)),
            ("own", own),
        ):
            limit = np.quantile(score(rows), FALSE_ALARMS, method="lower")
            for who, photos in (
                ("known", outer.test),
                ("unknown", outer.unknown),
            ):
                tested = score(final.by_way(way, photos))
                key = f"threshold {name}/{kind}/{who} refused"
                found[key] = float(np.mean(tested < limit))
    return found


def highest_share(rows: np.ndarray) -> np.ndarray:
    """The highest probability of each row's softmax."""
    from scipy.special import softmax

    return softmax(rows, axis=1).max(axis=1)


def new_classes(
    final: Outputs,
    labels: np.ndarray,
    outer: Any,
    strangers: np.ndarray,
    draw: int,
) -> dict[str, float]:
    """Top-1 over all classes after adding each other one with five photos."""
    added = np.unique(labels[outer.unknown])
    names = np.concatenate([outer.classes, added])
    number = np.full(names.max() + 1, -1)
    number[names] = np.arange(len(names))
    generator = np.random.default_rng(draw)
    sums: dict[str, list[float]] = {}
    old = len(outer.classes)
    is_old = np.isin(outer.tested, outer.test)
    wanted = number[labels[outer.tested]]
    queries = unit(final.embeddings[outer.tested])
    for _ in range(PICKS):
        few = np.concatenate(
            [
                generator.choice(strangers[labels[strangers] == c], FEW, False)
                for c in added
            ]
        )
        gallery = np.concatenate([final.gallery, few])
        known = unit(final.embeddings[gallery])
        classes = number[labels[gallery]]
        for way in WAYS:
            alike = class_similarities(queries, known, classes, len(names), way)
            answers = {way: alike.argmax(axis=1)}
            if final.scores is not None and way == DEFAULT:
                head = final.scores[outer.tested].argmax(axis=1)
                answers[f"head, {way}"] = np.where(
                    alike.argmax(axis=1) < old, head, alike.argmax(axis=1)
                )
            for name, winners in answers.items():
                right = winners == wanted
                parts = right[is_old].mean(), right[~is_old].mean()
                for what, value in (
                    ("old", parts[0]),
                    ("new", parts[1]),
                    ("harmonic", statistics.harmonic_mean(parts)),
                ):
                    key = f"added/{name}/{what}"
                    sums.setdefault(key, []).append(float(value))
    return {key: statistics.fmean(values) for key, values in sums.items()}


def calibration(
    inner: Outputs,
    final: Outputs,
    method: str,
    held_out: np.ndarray,
    outer: Any,
    draw: int,
) -> dict[str, float]:
    """The calibration error before a temperature and after.

    The temperature of half of the test photos is measured on the other half,
    both ways; that of the held-out fifth on the same halves.
    """
    from scipy.special import softmax

    from keras_finegrain.metrics import (
        expected_calibration_error,
        fit_temperature,
    )

    shuffled = np.random.default_rng(draw).permutation(outer.test)
    halves = shuffled[::2], shuffled[1::2]
    sources = {DEFAULT: (inner.by_way, final.by_way, 1.0)}
    if final.scores is not None:
        sources["head"] = (
            lambda _, photos: inner.scores[photos],
            lambda _, photos: final.scores[photos],
            1 / SCALES[method],
        )
    found: dict[str, list[float]] = {}
    for name, (tuned, tested, before) in sources.items():
        of_fold = fit_temperature(tuned(name, held_out), inner.labels[held_out])
        for fit_on, measured_on in (halves, halves[::-1]):
            of_half = fit_temperature(
                tested(name, fit_on), final.labels[fit_on]
            )
            scores = tested(name, measured_on)
            for what, temperature in (
                ("before", before),
                ("half", of_half),
                ("held out", of_fold),
            ):
                found.setdefault(f"ece/{name}/{what}", []).append(
                    expected_calibration_error(
                        softmax(scores / temperature, axis=1),
                        final.labels[measured_on],
                    )
                )
            found.setdefault(f"temperature/{name}/half", []).append(of_half)
        found[f"temperature/{name}/held out"] = [of_fold]
    return {name: statistics.fmean(values) for name, values in found.items()}


def tables(
    lines: Sequence[Mapping[str, Any]], methods: Sequence[str] = METHODS
) -> Iterator[str]:
    """All tables of the finished draws of these methods, as Markdown.

    A cell is the mean over the draws, in percent, and half its 95 % interval
    (Student's t).
    """
    of_method = {
        method: [
            line["figures"]
            for line in lines
            if line["arm"] == f"unknown/{method}"
        ]
        for method in methods
    }
    draws = {method: runs for method, runs in of_method.items() if runs}
    heads = [method for method in draws if method in SCALES]
    far = {key.split("/")[0]: None for key in _keys(draws, "far ")}
    for what in far:
        yield _table(
            f"AUROC where the unknown are no sparrows: {what[4:]}, %",
            ["score", *draws],
            [
                [
                    score,
                    *(_mean(draws[m], f"{what}/{score}/auroc") for m in draws),
                ]
                for score in {
                    k.split("/")[1]: None for k in _keys(draws, f"{what}/")
                }
            ],
        )
    for title, metric in (
        ("AUROC of each score of being known", "auroc"),
        ("Unknown photos accepted where 95 % of the known are", "fpr_at_95"),
        ("OSCR", "oscr"),
        ("Top-1 of the known species", "top_1"),
    ):
        scores = {key.split("/")[1]: None for key in _keys(draws, "test/")}
        rows = [
            [name, *(_mean(draws[m], f"test/{name}/{metric}") for m in draws)]
            for name in scores
        ]
        if metric == "top_1":
            rows = [
                r for r in rows if r[0].split()[0] not in ("tempered", "both")
            ]
            rows = [r for r in rows if r[0] not in ("probability", "energy")]
            rows.append(
                [
                    "best on held-out photos",
                    *map(_tuned_top_1, draws.values()),
                ]
            )
        yield _table(f"{title}, %", ["score", *draws], rows)
    yield _table(
        "Top-1 on the held-out fifth of the training photos, %",
        ["score", *draws],
        [
            [way, *(_mean(draws[m], f"tuning/{way}/top_1") for m in draws)]
            for way in WAYS
        ],
    )
    yield _table(
        "Paired differences, in points of a percent",
        ["metric", "first", "second", *draws],
        [
            [
                metric,
                first,
                second,
                *(
                    _mean(
                        runs,
                        f"{place}/{first}/{figure}",
                        f"{place}/{second}/{figure}",
                    )
                    for runs in draws.values()
                ),
            ]
            for metric, place, figure, pairs in (
                ("AUROC, other sparrows", "test", "auroc", SCORES_COMPARED),
                *(
                    (f"AUROC, {what[4:]}", what, "auroc", SCORES_COMPARED)
                    for what in far
                ),
                ("OSCR", "test", "oscr", SCORES_COMPARED),
                ("top-1", "test", "top_1", WAYS_COMPARED),
            )
            for first, second in pairs
        ],
    )
    yield _table(
        f"After adding six species with {FEW} photos each: top-1 of the old "
        "species, of the new, and their harmonic mean, %",
        ["answer", *(f"{m}: old, new, mean" for m in draws)],
        [
            [
                name,
                *(
                    ", ".join(
                        _mean(runs, f"added/{name}/{what}", short=True)
                        for what in ("old", "new", "harmonic")
                    )
                    for runs in draws.values()
                ),
            ]
            for name in dict.fromkeys(
                key.split("/")[1] for key in _keys(draws, "added/")
            )
        ],
    )
    pairs = [pair for pair in PAIRS if {*pair} <= draws.keys()]
    yield _table(
        f"Between losses, {DEFAULT}, in points of a percent",
        ["metric", *map(" - ".join, pairs)],
        [
            [
                name,
                *(
                    _cell(
                        [
                            100 * (run[key] - other[key])
                            # (Of one that is not finished, the first draws.)
                            for run, other in zip(
                                draws[method], draws[base], strict=False
                            )
                        ],
                        sign="+",
                    )
                    for method, base in pairs
                ),
            ]
            for name, key in (
                ("AUROC, other sparrows", f"test/{DEFAULT}/auroc"),
                ("OSCR", f"test/{DEFAULT}/oscr"),
                ("top-1 of the known species", f"test/{DEFAULT}/top_1"),
                ("the same, the head's scores", "test/head/top_1"),
                ("top-1 of the added species", f"added/{DEFAULT}/new"),
                ("harmonic mean with the old", f"added/{DEFAULT}/harmonic"),
            )
        ],
    )
    yield _table(
        f"A threshold for {FALSE_ALARMS:.0%} false alarms: refused photos of "
        "known species, of unknown ones, %",
        ["set on, score", *draws],
        [
            [
                key.removeprefix("threshold ").replace("/", ", "),
                *(
                    " / ".join(
                        _mean(runs, f"{key}/{who} refused", short=True)
                        for who in ("known", "unknown")
                    )
                    for runs in draws.values()
                ),
            ]
            for key in dict.fromkeys(
                key.rpartition("/")[0] for key in _keys(draws, "threshold ")
            )
        ],
    )
    yield _table(
        "Expected calibration error, %, by where the temperature is from",
        ["scores", "temperature", *draws],
        [
            [
                name,
                what,
                *(_mean(runs, f"ece/{name}/{what}") for runs in draws.values()),
            ]
            for name in (["head"] if heads else []) + [DEFAULT]
            for what in ("before", "held out", "half")
        ],
    )


def _keys(
    draws: Mapping[str, list[Mapping[str, float]]], start: str
) -> list[str]:
    """The figures of any method that start so, in their order."""
    found = dict.fromkeys(
        key for runs in draws.values() for run in runs for key in run
    )
    return [key for key in found if key.startswith(start)]


def _mean(
    runs: list[Mapping[str, float]],
    key: str,
    less: str | None = None,
    *,
    short: bool = False,
) -> str:
    """The mean of a figure, or of the difference of two, over the draws."""
    if any(key not in run for run in runs):
        return "–"
    # (A fit of no head has no head to compare with.)
    if less is not None and any(less not in run for run in runs):
        return "–"
    values = [100 * (run[key] - (run[less] if less else 0)) for run in runs]
    if short:
        return f"{statistics.fmean(values):.1f}"
    return _cell(values, sign="+" if less else "-")


def _cell(values: list[float], sign: str = "-") -> str:
    """Mean and half the 95 % interval."""
    from keras_finegrain.training.tables import cell

    return cell(values, places=1, sign=sign)


def _tuned_top_1(runs: list[Mapping[str, float]]) -> str:
    """Top-1 with the bandwidth that is best on the draw's held-out photos."""
    values = []
    for run in runs:
        best = max(BANDWIDTHS, key=lambda way: run[f"tuning/{way}/top_1"])
        values.append(100 * run[f"test/{best}/top_1"])
    return _cell(values)


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    from keras_finegrain.training.tables import markdown

    return f"**{title}**\n\n" + markdown([columns, *rows])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    own.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=METHODS,
        help="what is run, and what the tables have",
    )
    own.add_argument("--table", action="store_true", help="print the tables")
    own.add_argument(
        "--results",
        type=Path,
        default=HERE / "evidence" / "unknown.jsonl",
        help="the lines of finished draws",
    )
    own.add_argument(
        "--data",
        type=Path,
        default=Path("runs/sparrows.npz"),
        help="the file of photos, as `evidence.py --prepare` makes it",
    )
    own.add_argument(
        "--weights", type=Path, default=Path(), help="folder of backbones"
    )
    own.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/features"),
        help="where the output of frozen parts is kept",
    )
    return own


if __name__ == "__main__":
    sys.exit(main())

"""What a person acts on: the parts at the top of a report."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_finegrain import visualization
from keras_finegrain._base.optional import import_optional
from keras_finegrain.reporting import choose, page
from keras_finegrain.reporting.data_faults import Duplicate
from keras_finegrain.reporting.page import Cell, Section
from keras_finegrain.reporting.read import Photos, Results
from keras_finegrain.visualization.heat_map_overlay import laid_over
from keras_finegrain.visualization.palette import COLORS

# A page of 10 MB; the photo of an error is 4 kB in it.
MOST_SMALL = 2000
MOST_SUSPECTS = 24
MOST_SUSPECTED = 0.2
MOST_COPIES = 24
OFF = 0.05  # Between how sure and how often right.
MIDDLE = 200  # Pixels of a photo beside others.
FEW_PHOTOS = 10
_LABELS = "Suspected wrong labels"
_ERRORS = "The photos it gets wrong"
_OWN = "this model"


def verdict(results: Results, confusions: list[choose.Confusion]) -> Section:
    """What there is to know, in two sentences."""
    judged = results.taken_for >= 0
    photos, classes = int(judged.sum()), len(np.unique(results.labels))
    errors = int(results.is_error.sum())
    right = photos - errors
    of_hundred = 100 * right / max(photos, 1)
    # 99.6 of 100 are not 100.
    rounded = min(round(of_hundred), 99) if errors else 100
    if results.scores is None:
        first = (
            f"For {rounded} of 100 photos the most similar other photo shows "
            f"the same class: for {right:,} of {photos:,}."
        )
    else:
        first = f"It names {rounded} of 100 photos: {right:,} of {photos:,}."
    if not confusions:
        second = "It makes no error on them."
    else:
        names, worst = results.class_names, confusions[0]
        total = np.sum(results.labels == worst.label)
        second = (
            f"Its most frequent error is {names[worst.label]} taken for "
            f"{names[worst.taken_for]}: {worst.errors} of {total} photos."
        )
    return Section(
        "In short",
        page.element(f"{first} {second}", kind="verdict")
        + page.tiles(
            {
                "right": f"{of_hundred:.1f} %",
                "photos": f"{photos:,}",
                "errors": f"{errors:,}",
                "classes": f"{classes:,}",
            }
        ),
    )


def errors_with_photos(
    results: Results, chosen: list[choose.Confusion], photos: Photos | None
) -> Section:
    """The pairs of classes with the most errors, and photos of them."""
    names = results.class_names
    by = "the nearest other sample" if results.scores is None else "the scores"
    if not chosen:
        return Section(_ERRORS, page.element(f"No errors by {by}."))
    rows: list[list[str | Cell]] = [
        [
            names[label],
            names[taken_for],
            page.number(errors),
            page.percent(errors / np.sum(results.labels == label)),
        ]
        for label, taken_for, errors, _ in chosen
    ]
    content = [] if photos is None else _pairs(results, chosen, photos)
    content.append(
        page.more(
            "The same pairs as a table",
            page.element(f"What the photos were taken for, by {by}."),
            page.table(
                ["class", "taken for", "photos", "of its class"],
                rows,
                caption="The pairs of classes with the most errors",
            ),
        )
    )
    return Section(_ERRORS, "".join(content))


def _pairs(
    results: Results, chosen: list[choose.Confusion], photos: Photos
) -> list[str]:
    """Mistaken photos of each pair, each beside its look-alike."""
    names = results.class_names
    mistaken = np.concatenate([confusion.rows[:, 0] for confusion in chosen])
    evidence, note = _grad_cams(results, mistaken, photos)
    written = [
        page.element(
            "The pairs of classes with the most errors, and the errors that "
            "it was surest of. Beside each photo stands what in it spoke for "
            "the wrong answer (bright spots; Grad-CAM) and the most similar "
            "photo of the class that it was taken for."
        )
    ]
    if note:
        written.append(page.element(note, kind="soft"))
    for label, taken_for, errors, rows in chosen:
        name, other = names[label], names[taken_for]
        total = np.sum(results.labels == label)
        groups = []
        for sample, *look_alike in rows.tolist():
            shown = [
                page.Photo(
                    page.jpeg(photos[sample]),
                    f"A {name}, taken for a {other}",
                    name,
                    "\n".join([*_sure(results, sample), results.keys[sample]]),
                    "wrong",
                )
            ]
            if sample in evidence:
                shown.append(
                    page.Photo(
                        page.jpeg(evidence[sample]),
                        f"What in the photo speaks for {other}",
                        note=f"speaks for {other}",
                    )
                )
            shown += [
                page.Photo(
                    page.jpeg(photos[index]),
                    f"A {other}",
                    other,
                    results.keys[index],
                )
                for index in look_alike
            ]
            groups.append(shown)
        heading = f"{name} taken for {other}: {errors} of {total} photos"
        written += [page.element(heading, "h3"), page.cards(groups)]
    return written


def _sure(results: Results, sample: int) -> list[str]:
    """How sure the answer was, if the model has scores."""
    if results.probabilities is None:
        return []
    share = results.probabilities[sample, results.taken_for[sample]]
    return [f"{100 * share:.0f} % sure"]


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


def every_error(
    results: Results, photos: Photos | None, csv_name: str
) -> Section:
    """All errors, as a table to sort and to filter.

    Args:
        results: What was measured.
        photos: The photos, of which those of the errors are small.
        csv_name: Name of the file beside the page with the same rows.
    """
    errors = ordered_errors(results)
    # The name, which may be long, comes last: a narrow screen shows the rest.
    headings = ["", "class", "taken for"]
    sure = ""
    if results.probabilities is not None:
        headings += ["how sure", "own class", "its place"]
        sure = ", the surest first"
    rows: list[list[str | Cell]] = []
    for error in errors:
        row: list[str | Cell] = [
            _thumbnail(results, photos, error.sample),
            error.name,
            error.taken_for,
        ]
        if error.confidence is not None and error.own is not None:
            row += [
                page.percent(error.confidence, 1),
                page.percent(error.own, 1),
                page.number(error.place),
            ]
        rows.append([*row, error.key])
    content = [
        page.element(
            f"All {len(errors):,} errors{sure}. A click on a heading sorts "
            "them, the fields filter them."
            + (
                " Own class: how sure it was of the right answer, and the "
                "place of that among its answers."
                if sure
                else ""
            )
        )
    ]
    if photos is not None and len(errors) > MOST_SMALL:
        content.append(
            page.element(
                f"The first {MOST_SMALL:,} have a photo here: the page stays "
                "small enough to be sent."
            )
        )
    content += [
        page.data_table(
            [*headings, "photo"],
            rows,
            caption="Every error",
            choices=[1, 2],
            least=None if results.probabilities is None else 3,
        ),
        page.link(csv_name, "The same rows for a spreadsheet", csv_name),
    ]
    return Section("Every error", "".join(content))


def _thumbnail(results: Results, photos: Photos | None, sample: int) -> Cell:
    small = None if photos is None else photos.small.get(sample)
    if small is None:
        return Cell("")
    return page.thumbnail(small, f"A {results.name_of(sample)}")


class Error(NamedTuple):
    """A sample that was taken for another class.

    Attributes:
        sample: Its index.
        key: Its name, such as a file.
        name: Its class.
        taken_for: The other class.
        confidence: The probability of the other class, or `None`.
        own: The probability of its own class, or `None`.
        place: The place of its own class among the answers, from 1 on; 0
            where there are no scores.
    """

    sample: int
    key: str
    name: str
    taken_for: str
    confidence: float | None
    own: float | None
    place: int


def ordered_errors(results: Results) -> list[Error]:
    """All errors, the surest first."""
    names, probabilities = results.class_names, results.probabilities
    errors = []
    for sample in np.flatnonzero(results.is_error).tolist():
        label, taken_for = results.labels[sample], results.taken_for[sample]
        confidence, own, place = None, None, 0
        if probabilities is not None:
            answers = probabilities[sample]
            confidence, own = float(answers[taken_for]), float(answers[label])
            place = int(np.sum(answers >= own))
        errors.append(
            Error(
                sample,
                results.keys[sample],
                names[label],
                names[taken_for],
                confidence,
                own,
                place,
            )
        )
    return sorted(errors, key=lambda error: -(error.confidence or 0.0))


def errors_csv(results: Results) -> str:
    """All errors as the text of a file for spreadsheets."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["photo", "class", "taken_for", "confidence", "own_class", "place"]
    )
    for error in ordered_errors(results):
        shares = [
            "" if share is None else f"{share:.6f}"
            for share in (error.confidence, error.own)
        ]
        place = error.place or ""
        names = [
            _harmless(text) for text in (error.key, error.name, error.taken_for)
        ]
        writer.writerow([*names, *shares, place])
    return file.getvalue()


def _harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def by_class(results: Results) -> Section:
    """How well each class is recognised, the worst first."""
    names, labels, taken_for = (
        results.class_names,
        results.labels,
        results.taken_for,
    )
    written: list[tuple[float, list[str | Cell]]] = []
    for label in np.unique(labels).tolist():
        answers = taken_for[(labels == label) & (taken_for >= 0)]
        if not len(answers):
            continue
        recall = float(np.mean(answers == label))
        answered = int(np.sum(taken_for == label))
        right = int(np.sum(answers == label))
        wrong = answers[answers != label]
        neighbour, errors = "", 0
        if len(wrong):
            found, counts = np.unique(wrong, return_counts=True)
            neighbour = names[found[counts.argmax()]]
            errors = int(counts.max())
        precision = (
            page.percent(right / answered) if answered else Cell("never", -1.0)
        )
        written.append(
            (
                recall,
                [
                    names[label],
                    page.number(len(answers)),
                    page.percent(recall),
                    precision,
                    neighbour,
                    page.number(errors),
                ],
            )
        )
    written.sort(key=lambda pair: pair[0])
    return Section(
        "Class by class",
        page.element(
            "The worst first. Found: of the photos of the class, those that "
            "are named right (recall). Trusted: of the photos that get this "
            "name, those that it is right for (precision). The neighbour is "
            "the class that it is taken for most often."
        )
        + page.data_table(
            ["class", "photos", "found", "trusted", "neighbour", "errors"],
            [row for _, row in written],
            caption="Class by class",
        ),
    )


def answered(results: Results) -> Section | None:
    """How often it is right if the doubtful photos are left to a person."""
    if results.probabilities is None:
        return None
    confidence = results.probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    is_right = ~results.is_error[order]
    counts = np.arange(1, len(order) + 1)
    accuracies = np.cumsum(is_right) / counts
    # Photos of equal confidence are answered together.
    ends = np.append(np.diff(confidence[order]) != 0, True)
    shares = counts[ends] / len(order)
    accuracies, limits = accuracies[ends], confidence[order][ends]
    rows: list[list[str | Cell]] = []
    for wanted in (0.8, 0.9, 0.95, 0.99):
        enough = np.flatnonzero(accuracies >= wanted)
        if not len(enough):
            continue
        last = enough[-1]
        rows.append(
            [
                page.percent(wanted),
                page.percent(shares[last]),
                page.percent(limits[last], 1),
            ]
        )
    pyplot = import_optional("matplotlib.pyplot", "report")
    _, axis = pyplot.subplots(figsize=(7.5, 3.8))
    axis.plot(100 * shares, 100 * accuracies, color=COLORS[0])
    axis.set_xlabel("photos answered, the surest first [%]")
    axis.set_ylabel("right among them [%]")
    axis.set_xlim(0, 100)
    axis.set_ylim(top=101)
    axis.grid(alpha=0.3)
    return Section(
        "When to trust it",
        page.element(
            "If it answers only where it is sure, and leaves the other photos "
            "to a person, it is right more often."
        )
        + page.element(_how_sure(results, confidence))
        + page.picture(axis, "Accuracy against the share of photos answered")
        + page.table(
            ["to be right in", "answer", "where it is at least this sure"],
            rows,
            caption="Shares of photos to answer",
        )
        + page.element(
            "The rows are chosen on these photos: on others expect a little "
            "less.",
            kind="soft",
        )
        + page.more(
            "Whether it is right as often as it says",
            page.picture(
                visualization.reliability_diagram(
                    results.probabilities, results.labels
                ),
                "Reliability diagram",
                "A bar below the diagonal: the model is surer than it should "
                "be.",
            ),
        ),
    )


def _how_sure(results: Results, confidence: np.ndarray) -> str:
    """Whether it is as sure as it is right, and what its shares are."""
    sure, right = confidence.mean(), 1 - results.is_error.mean()
    verdict = "about as sure as it should be"
    if abs(sure - right) > OFF:
        verdict = "surer" if sure > right else "less sure"
        verdict += " than it should be"
    if results.temperature == 1:
        source = (
            "These are its scores as they are: metrics.fit_temperature finds "
            "the temperature that corrects them, for report(temperature=...)."
        )
    else:
        source = (
            "Wherever this page says how sure it is, its scores were divided "
            f"by the temperature {results.temperature:.3g}."
        )
    return (
        f"It is {100 * sure:.0f} % sure on average and right in "
        f"{100 * right:.0f} of 100: {verdict}. {source}"
    )


def methods(
    results: Results,
    photos: Photos | None,
    others: Mapping[str, np.ndarray],
) -> Section:
    """Several methods on the same photos.

    Args:
        results: What the page's own model gave.
        photos: The photos, of which those that the methods differ on are
            small.
        others: The answers of each other method.
    """
    own = results.taken_for == results.labels
    rows: list[list[str | Cell]] = [
        [_OWN, page.percent(own.mean(), 1), "", "", "", ""]
    ]
    said = []
    for name, answers in others.items():
        right = answers == results.labels
        only_other, only_own = np.sum(right & ~own), np.sum(own & ~right)
        difference = (only_other - only_own) / len(own)
        spread = only_other + only_own - len(own) * difference**2
        half = 1.96 * np.sqrt(max(spread, 0.0)) / len(own)
        chance = _mcnemar(int(only_other), int(only_own))
        said.append(_compared(name, difference, chance))
        rows.append(
            [
                name,
                page.percent(right.mean(), 1),
                page.number(int(only_other)),
                page.number(int(only_own)),
                Cell(
                    f"{100 * difference:+.1f} ± {100 * half:.1f} points",
                    100 * difference,
                ),
                Cell(f"{chance:.2g}", chance),
            ]
        )
    differing = disagreements(results, others)
    table: list[list[str | Cell]] = [
        [
            _thumbnail(results, photos, sample),
            results.name_of(sample),
            *(
                _marked(results, sample, answers[sample])
                for answers in (results.taken_for, *others.values())
            ),
            results.keys[sample],
        ]
        for sample in differing
    ]
    return Section(
        "Methods compared",
        page.bullets(said)
        + page.table(
            [
                "method",
                "right",
                "only it is right",
                f"only {_OWN} is right",
                "difference",
                "p",
            ],
            rows,
            caption="Methods on the same photos",
        )
        + page.more(
            "How the difference is judged",
            page.element(
                "The difference in accuracy is over the same photos, with its "
                "95 % interval over the draw of the photos; p is McNemar's "
                "exact test. One trained model stands for each method: "
                "another training run differs, too."
            ),
        )
        + page.element(f"Photos that they differ on: {len(differing):,}", "h3")
        + page.data_table(
            ["", "class", _OWN, *others, "photo"],
            table,
            caption="Photos that the methods differ on",
            choices=[1],
        ),
    )


def _compared(name: str, difference: float, chance: float) -> str:
    """A method's difference in a sentence."""
    points, way = f"{100 * abs(difference):.1f}", "more"
    if difference < 0:
        way = "fewer"
    verdict = (
        "more than chance among these photos explains"
        if chance < 0.05
        else "chance among these photos may explain it"
    )
    return (
        f"{name} is right in {points} of 100 photos {way} than {_OWN}: "
        f"{verdict} (p = {chance:.2g})."
    )


def _marked(results: Results, sample: int, answer: int) -> str:
    """An answer, with a mark where it is wrong."""
    mark = "" if answer == results.labels[sample] else "\u2717 "
    return f"{mark}{results.class_names[answer]}"


def disagreements(
    results: Results, others: Mapping[str, np.ndarray]
) -> list[int]:
    """The samples that one method names right and another one wrong."""
    answers = np.stack([results.taken_for, *others.values()])
    right = answers == results.labels
    return np.flatnonzero(right.any(axis=0) & ~right.all(axis=0)).tolist()


def _mcnemar(first: int, second: int) -> float:
    """The exact two-sided p-value of McNemar's test."""
    total = first + second
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**total)


def wrong_labels(
    results: Results,
    photos: Photos | None,
    suspects: list[int] | None,
    note: str,
) -> Section | None:
    """The samples whose labels are probably wrong.

    Args:
        results: What was measured.
        photos: The photos, those of the first suspects whole.
        suspects: The samples, or `None` if they are not known.
        note: Why they are not known, plain text.
    """
    if suspects is None:
        return Section(_LABELS, page.element(note)) if note else None
    if not suspects:
        return Section(_LABELS, page.element("None is suspected."))
    content = page.element(
        f"The model doubts the labels of {page.count(len(suspects), 'photo')}"
        ", the most doubtful first. Either the label is wrong, or the model "
        "is."
    )
    if not _are_few(results, suspects):
        content += page.element(
            f"It is wrong itself in {100 * results.is_error.mean():.0f} of 100 "
            "photos, so most of these are its own errors."
        )
    if photos is not None:
        content += page.strips(
            page.Photo(
                page.jpeg(photos[sample], MIDDLE),
                f"Labelled {results.name_of(sample)}",
                f"labelled {results.name_of(sample)}",
                "\n".join(
                    [
                        "looks like "
                        + results.class_names[results.taken_for[sample]],
                        *_sure(results, sample),
                        results.keys[sample],
                    ]
                ),
            )
            for sample in suspects[:MOST_SUSPECTS]
        )
    rest = suspects if photos is None else suspects[MOST_SUSPECTS:]
    if rest:
        keys = page.bullets(results.keys[sample] for sample in rest)
        content += page.more(f"{len(rest):,} more", keys)
    return Section(
        _LABELS,
        content
        + page.more(
            "How they are found",
            page.element(
                "By confident learning (Northcutt, Jiang and Chuang, JAIR "
                "2021) of the library cleanlab. It holds for photos that the "
                "model was not trained on."
            ),
        ),
    )


def _are_few(results: Results, suspects: list[int]) -> bool:
    """Whether the suspects are more than a poor model's own errors."""
    return len(suspects) <= MOST_SUSPECTED * len(results.labels)


class Copies(NamedTuple):
    """Photos that are there twice.

    Attributes:
        pairs: The pairs.
        photos: The photos of the first of each pair.
        other: The photos of the second.
        other_keys: The names of the second.
        other_names: The classes of the second.
    """

    pairs: list[Duplicate]
    photos: Photos
    other: Photos
    other_keys: Sequence[str]
    other_names: Sequence[str]


def copies(
    results: Results, within: Copies | None, between: Copies | None
) -> Section:
    """Photos that are there twice, here or in the training data."""
    content = []
    for found, where in (
        (between, "here and in the training data"),
        (within, "twice here"),
    ):
        if found is None:
            continue
        if not found.pairs:
            content.append(page.element(f"No photo is {where}."))
            continue
        content.append(
            page.element(f"Photos that are {where}: {len(found.pairs):,}", "h3")
        )
        groups = [
            [
                page.Photo(
                    page.jpeg(found.photos[pair.sample], MIDDLE),
                    f"A {results.name_of(pair.sample)}",
                    results.name_of(pair.sample),
                    results.keys[pair.sample],
                ),
                page.Photo(
                    page.jpeg(found.other[pair.other], MIDDLE),
                    f"A {found.other_names[pair.other]}",
                    found.other_names[pair.other],
                    found.other_keys[pair.other],
                ),
            ]
            for pair in found.pairs[:MOST_COPIES]
        ]
        content.append(page.cards(groups))
    return Section(
        "Photos that are there twice",
        "".join(content)
        + page.more(
            "How they are found",
            page.element(
                "By a difference hash of 64 bits, of which at most 6 differ, "
                "and a cosine similarity of the embeddings of at least 0.9. A "
                "photo that is also in the training data makes the results "
                "look better than they are."
            ),
        ),
    )


def to_do(
    results: Results,
    confusions: list[choose.Confusion],
    suspects: list[int] | None,
    within: Copies | None,
    between: Copies | None,
    known_labels: np.ndarray | None,
) -> Section | None:
    """What would make the results better, or show them as they are."""
    names, lines = results.class_names, []
    if between is not None and between.pairs:
        lines.append(
            f"Remove {page.count(len(between.pairs), 'photo')} from these or "
            "from the training data: what is in both makes the results look "
            "better than they are."
        )
    if suspects and _are_few(results, suspects):
        lines.append(
            f"Look at {page.count(len(suspects), 'suspected label')}, at "
            f"{results.keys[suspects[0]]} first."
        )
    pairs = {(c.label, c.taken_for): c.errors for c in confusions}
    done: set[tuple[int, int]] = set()
    for (label, other), errors in pairs.items():
        both = errors + pairs.get((other, label), 0)
        if both < 2 or (other, label) in done or len(done) == 3:
            continue
        done.add((label, other))
        lines.append(
            f"Add photos of {names[label]} and {names[other]} that show what "
            f"tells them apart: {both} are taken for one another."
            if (other, label) in pairs
            else f"Add photos of {names[label]} that show what tells it from "
            f"{names[other]}: {errors} are taken for it."
        )
    if known_labels is not None:
        found, counts = np.unique(known_labels, return_counts=True)
        few = [
            f"{names[label]} ({count})"
            for label, count in zip(found, counts, strict=True)
            if count < FEW_PHOTOS
        ]
        if few:
            lines.append(
                f"Add photos of classes with fewer than {FEW_PHOTOS} to train "
                f"on: {', '.join(few)}."
            )
    if within is not None and within.pairs:
        lines.append(
            f"{page.count(len(within.pairs), 'photo')} of these may be there "
            "twice: keep one of each pair."
        )
    return Section("What to do", page.bullets(lines)) if lines else None

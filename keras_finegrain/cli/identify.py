"""`identify`: the class of new photos, or "unknown"."""

import argparse
from typing import Any

from keras_finegrain.cli.output import DONE, WRONG_USE, Output
from keras_finegrain.cli.trained import (
    FALSE_ALARMS,
    add_photos,
    add_run,
    answers,
    load,
    paths_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_run(parser)
    add_photos(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    """Names each photo, in one line; a photo that cannot be read has one too.

    The status is 2 if there was such a photo.
    """
    bundle, folder = load(options, out)
    documents = []
    gallery = bundle.gallery
    if gallery is not None and gallery.threshold is None:
        out.warn(
            "no photo is called unknown: the run has set no threshold. "
            "Gallery.calibrate sets one from photos that were kept back"
        )
    elif bundle.about.get("false_alarms", 0) > FALSE_ALARMS:
        share = bundle.about["false_alarms"]
        out.warn(
            f"about 1 in {1 / share:.0f} photos of known classes is called "
            "unknown: the run had few test photos to set the threshold by"
        )
    for path, answer in answers(bundle.identify, paths_of(options.photos)):
        if isinstance(answer, Exception):
            out.warn(f"{path}: {answer}")
            documents.append({"photo": path, "error": str(answer)})
            continue
        documents.append(_document(path, answer))
        out.answer(f"{path}\t{_line(answer)}")
    out.result({"model": str(folder), "photos": documents})
    failed = any("error" in document for document in documents)
    return WRONG_USE if failed else DONE


def _line(answer: Any) -> str:
    several = [answer, *answer.runners_up[:2]]
    if answer.unknown:
        # Probabilities are among the known classes, of which it is none.
        nearest = ", ".join(each.class_name for each in several)
        return f"unknown (most like {nearest})"
    best, *others = (f"{each.class_name} {_sure(each)}" for each in several)
    return f"{best}; then {', '.join(others)}" if others else best


def _sure(candidate: Any) -> str:
    """Probability where there is one, else similarity."""
    if candidate.probability is None:
        return f"{candidate.similarity:.2f}"
    return f"{candidate.probability:.0%}"


def _document(path: str, answer: Any) -> dict[str, Any]:
    return {
        "photo": path,
        "class_name": None if answer.unknown else answer.class_name,
        "unknown": answer.unknown,
        "candidates": [
            {
                "class_name": each.class_name,
                "similarity": each.similarity,
                "probability": each.probability,
            }
            for each in (answer, *answer.runners_up)
        ],
        "similar": [match._asdict() for match in answer.matches],
    }

"""What a method leaves for the other commands: its bundle and its page."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

import keras_finegrain
from keras_finegrain.cli.output import Output
from keras_finegrain.cli.trained import FALSE_ALARMS
from keras_finegrain.metrics import fit_temperature
from keras_finegrain.training import ImageStream, Run, Settings


def gallery_of(run: Run, data: Any) -> keras_finegrain.Gallery:
    """A finished run's gallery of the training photos.

    Args:
        run: The run, with `known`.
        data: The data set.
    """
    assert run.known is not None
    embeddings, labels = run.known
    return keras_finegrain.Gallery.of_embeddings(
        run.model,
        embeddings,
        labels,
        data.class_names,
        keys=data.train_keys,
    )


def bundle_of(
    settings: Settings,
    run: Run,
    gallery: keras_finegrain.Gallery,
    data: Any,
    about: dict[str, Any],
    out: Output,
) -> keras_finegrain.Bundle:
    """The bundle of a finished run.

    Temperatures and the threshold for unknown photos are set by the test
    photos, which the model has not learned: no accuracy depends on them.

    Args:
        settings: Those of the run.
        run: The run.
        gallery: Its gallery, whose threshold and temperature are set.
        data: The data set.
        about: What else to write down.
        out: Where warnings go.
    """
    temperature = 1.0
    # As few photos as there are call none unknown more seldom than this.
    photos = len(run.labels)
    false_alarms = max(FALSE_ALARMS, 1 / (photos + 1))
    # A model at chance has none.
    try:
        temperature = fit_temperature(run.scores, run.labels)
    except ValueError as error:
        out.warn(f"{settings.method}: its probabilities do not hold: {error}")
    try:
        gallery.calibrate_embeddings(run.embeddings, run.labels, false_alarms)
    except ValueError as error:
        out.warn(f"{settings.method}: no photo will be unknown to it: {error}")
    else:
        if false_alarms > FALSE_ALARMS:
            out.warn(
                f"{settings.method}: with {photos} test photos it will call "
                f"about 1 in {photos + 1} new photos of its classes unknown, "
                f"in place of 1 in {1 / FALSE_ALARMS:.0f}. For that it takes "
                f"{1 / FALSE_ALARMS - 1:.0f} test photos"
            )
    return keras_finegrain.Bundle(
        model=run.model,
        class_names=data.class_names,
        image_size=settings.image_size,
        temperature=temperature,
        gallery=gallery,
        about={
            "method": settings.method,
            "settings": dataclasses.asdict(settings),
            "data_path": _path_of(data),
            "crop": "central square, 87.5 % of the short side",
            "calibrated_on": "the test photos of the data",
            "false_alarms": false_alarms,
            **about,
        },
    )


def _path_of(data: Any) -> str | None:
    """The folder of the photos, wherever a later command is started."""
    folder = pathlib.Path(data.name).expanduser()
    # (A folder may have the name of a data set of TFDS.)
    is_of_data = (folder / data.train_keys[0]).is_file()
    return str(folder.resolve()) if is_of_data else None


def write_tested(path: pathlib.Path, run: Run, keys: tuple[str, ...]) -> None:
    """Writes what a model says of the test photos."""
    from keras_finegrain._base.files import replacing

    with replacing(path) as file:
        np.savez(
            file,
            keys=np.array(keys, str),
            labels=run.labels,
            scores=run.scores,
            embeddings=run.embeddings,
        )


def report_on(
    folder: pathlib.Path,
    settings: Settings,
    data: Any,
    source: ImageStream,
    page: pathlib.Path,
) -> None:
    """Writes the page on a method's first model."""
    bundle = keras_finegrain.Bundle.load(folder)
    keras_finegrain.report(
        bundle.model,
        source.test(settings),
        page,
        data.class_names,
        keys=data.test_keys,
        temperature=bundle.temperature or 1.0,
        title=f"{settings.method} on the test images of {data.name}",
    )

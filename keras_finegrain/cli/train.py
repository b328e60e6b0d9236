"""Train a classifier on look-alike birds and compare the methods.

    python examples/train_birds.py

draws a data set, trains four methods and compares them; no network is
needed. `--help` lists the options, docs/train_birds.md explains them.
"""

import argparse
import dataclasses
import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from keras_finegrain.cli.arguments import parse_arguments
from keras_finegrain.cli.errors import RunError
from keras_finegrain.cli.files import remove_unfinished, writable_folder
from keras_finegrain.cli.requirements import check_packages

# Import name of each package, and the extra that installs it.
PACKAGES = {
    **dict.fromkeys(
        ("tensorflow", "tensorflow_datasets", "importlib_resources"),
        "tensorflow",
    ),
    **dict.fromkeys(("matplotlib", "sklearn", "tqdm"), "examples"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    # Before the first import of TensorFlow, whose notes would hide our lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = parse_arguments(argv)
    try:
        folder = writable_folder(
            options.output,
            options.overwrite or options.resume,
            "--resume or --overwrite",
        )
        check_packages(PACKAGES)
        train_and_compare(options, folder)
    except (RunError, OSError) as error:
        # OSError: a full disk, a file that is gone.
        print(f"train_birds.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def train_and_compare(
    options: argparse.Namespace, folder: pathlib.Path
) -> None:
    """Checks what the run needs, trains every method, writes the results."""
    from keras_finegrain.datasets import DatasetError
    from keras_finegrain.training import TrainingError

    # TensorFlow Datasets warns of its own deprecated names at every use, and
    # TensorFlow of the step that each method traces again.
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        if options.lr is None:
            options.lr = rate_of_frozen(options)
        settings = {
            method: to_settings(options, method) for method in options.method
        }
        data, scope = prepare(options, settings)
        print(
            f"{data.name}: {data.num_classes} classes, {data.train_size} "
            f"images to train on, {data.test_size} to test on. Results go to "
            f"{folder}",
            flush=True,
        )
        train_all(options, settings, data, scope, folder)
    except DatasetError as error:
        raise RunError(f"--dataset {options.dataset}: {error}") from error
    except TrainingError as error:
        raise RunError(str(error)) from error


def rate_of_frozen(options: argparse.Namespace) -> float:
    """The default of --lr with --freeze.

    A head on features that stand still learns next to nothing at the rate
    that keeps a pretrained backbone in its place.
    """
    from keras_finegrain.training.backbones import build_backbone, cut_at

    backbone = build_backbone(to_settings(options, options.method[0]))
    cut_at(backbone, options.freeze)
    return 1e-4 if backbone.trainable_weights else 1e-2


def to_settings(options: argparse.Namespace, method: str) -> Any:
    """The settings of one method."""
    from keras_finegrain.training import Settings

    names = {field.name for field in dataclasses.fields(Settings)}
    given = {k: v for k, v in vars(options).items() if k in names}
    if options.lr is None:
        del given["lr"]  # Only a backbone is built yet.
    given["method"] = method
    for name in ("backbone_args", "loss_args"):
        given[name] = dict(given[name])
    return Settings(**given)


def prepare(
    options: argparse.Namespace, settings: dict[str, Any]
) -> tuple[Any, Any]:
    """Checks the whole command before anything is trained.

    Returns:
        The data set, and the scope in which models are built.
    """
    from keras_finegrain import datasets
    from keras_finegrain.training.backbones import build_backbone, cut_at
    from keras_finegrain.training.devices import (
        check_last_batches,
        prepare_devices,
    )
    from keras_finegrain.training.methods import check_method

    replicas, scope = prepare_devices(
        options.distribute, options.batch_size, options.xla
    )
    backbone = build_backbone(settings[options.method[0]])
    if options.freeze:
        cut_at(backbone, options.freeze)
    selection = {
        "data_dir": options.data_dir,
        "classes": options.classes,
        "crop_to_bbox": options.crop_to_bbox,
        "splits": options.splits,
    }
    datasets.check(options.dataset, **selection)
    data = datasets.load(options.dataset, **selection)
    check_last_batches(
        replicas, options.batch_size, data.train_size, data.test_size
    )
    channels = backbone.output.shape[-1]
    for each in settings.values():
        check_method(each, channels, data.num_classes, replicas)
    return data, scope


def train_all(
    options: argparse.Namespace,
    settings: dict[str, Any],
    data: Any,
    scope: Any,
    folder: pathlib.Path,
) -> None:
    """Trains every method with every seed and writes the results."""
    import keras
    from keras_finegrain.cli.pictures import draw_embeddings, draw_learning_curves
    from keras_finegrain.cli.progress import Progress
    from keras_finegrain.cli.results import Results

    import keras_finegrain
    from keras_finegrain.training import FeatureCache, ImageStream, train
    from keras_finegrain.training.tables import plain

    source, cache = ImageStream(data), FeatureCache()
    results = Results(folder, options, data)
    remove_unfinished(folder)
    if options.resume:
        results.restore()
    elif options.overwrite:
        results.clear()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        is_first = seed == options.first_seed
        for method in options.method:
            # What an earlier process has finished stays; what it has left out
            # is made here.
            is_new = not results.is_finished(method, seed)
            if is_new:
                run = train(
                    settings[method],
                    seed,
                    source,
                    cache=cache,
                    scope=scope,
                    validate=True,
                    callbacks=[Progress(f"{method} seed {seed}")],
                )
                results.add(method, seed, run)
                warn_near_chance(options, f"{method}, seed {seed}", run, data)
            page = folder / f"{method}.html"
            if options.report and is_first and (is_new or not page.exists()):
                keras_finegrain.report(
                    keras.models.load_model(folder / f"{method}.keras"),
                    source.test(settings[method]),
                    page,
                    data.class_names,
                    title=f"{method} on the test images of {data.name}",
                )
        if is_first:
            path = folder / "embedding.png"
            draw_embeddings(results, data.class_names, path, seed)
        draw_learning_curves(results, folder / "learning_curves.png")
    print(f"\n{plain(results.table())}")
    if gains := results.gains():
        print(f"\n{plain(gains)}")
    if options.seeds > 1:
        print("\nmean ± half of the 95 % t-interval over the seeds")
    print(
        f"\n{folder}: results.json, results.md, history.csv, pictures, models"
    )


def warn_near_chance(
    options: argparse.Namespace, name: str, run: Any, data: Any
) -> None:
    """Says so if a run has learned next to nothing of its training images."""
    chance = 1 / data.num_classes
    # Methods on pairs have no accuracy while they train.
    accuracy = run.history.get("accuracy", [1.0])[-1]
    # Twice as good as a guess, which two classes cannot be.
    if accuracy < min(2 * chance, chance + 0.1 * (1 - chance)):
        print(
            f"train_birds.py: warning: {name}: the training accuracy is "
            f"{100 * accuracy:.1f} % after {options.epochs} epochs, where "
            f"guessing has {100 * chance:.1f} %. It has learned next to "
            f"nothing: raise --lr (now {options.lr:g}) or --epochs",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())

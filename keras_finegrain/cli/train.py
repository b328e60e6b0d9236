"""`train`: from photos to a run's folder, one bundle for each method."""

import argparse
import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from keras_finegrain.cli.files import remove_unfinished, writable_folder
from keras_finegrain.cli.output import CommandError, Output
from keras_finegrain.cli.parsing import SELECTION
from keras_finegrain.cli.requirements import check_packages
from keras_finegrain.cli.train_arguments import DRAWN_WEIGHTS, complete
from keras_finegrain.cli.train_arguments import (
    add_arguments as add_arguments,
)

if TYPE_CHECKING:
    from keras_finegrain.training import Settings

# Import name of each package, and the extra that installs it.
PACKAGES = {
    **dict.fromkeys(
        ("tensorflow", "tensorflow_datasets", "importlib_resources"),
        "tensorflow",
    ),
    **dict.fromkeys(("matplotlib", "sklearn", "tqdm", "faiss"), "command"),
}


def run(options: argparse.Namespace, out: Output) -> int:
    """Trains every method with every seed and writes the run's folder."""
    complete(options)
    folder = writable_folder(
        options.output,
        options.data,
        options.overwrite or options.resume,
        "--resume or --overwrite",
    )
    check_packages(PACKAGES)
    from keras_finegrain.datasets import DatasetError

    try:
        settings, data, scope = prepare(options, out)
        # Not before: what cannot run leaves no folder.
        folder.mkdir(parents=True, exist_ok=True)
        out.say(
            f"{data.name}: {data.num_classes} classes, {data.train_size} "
            f"images to train on, {data.test_size} to test on. Results go to "
            f"{folder}"
        )
        train_all(options, settings, data, scope, folder, out)
    except DatasetError as error:
        raise CommandError(f"{options.data}: {error}") from error
    return 0


def default_rate(options: argparse.Namespace, is_frozen: bool) -> float:
    """The default of `--lr`, the lower the more that is pretrained is trained.

    docs/results.md has the rates that were tried.

    Args:
        options: Completed options of the command.
        is_frozen: Whether no layer of the backbone is trained.
    """
    if options.weights in ("none", DRAWN_WEIGHTS):
        return 3e-3
    if options.freeze is None:
        return 3e-4
    if not is_frozen:
        return 1e-3
    return 3e-3 if options.embedding_size else 1e-2


def to_settings(options: argparse.Namespace, method: str) -> "Settings":
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


def selection_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `datasets.load` beside the name."""
    return {name: getattr(options, name) for name in SELECTION}


def prepare(
    options: argparse.Namespace, out: Output
) -> tuple[dict[str, "Settings"], Any, Any]:
    """Checks the whole command before anything is trained.

    Returns:
        The settings of each method, the data set, and the scope in which
        models are built.
    """
    from keras_finegrain import datasets
    from keras_finegrain.training.backbones import build_backbone, cut_at
    from keras_finegrain.training.devices import (
        check_last_batches,
        prepare_devices,
    )
    from keras_finegrain.training.methods import check_method, without_effect

    replicas, scope = prepare_devices(
        options.distribute, options.batch_size, options.xla
    )
    backbone = build_backbone(to_settings(options, options.method[0]))
    if options.freeze:
        cut_at(backbone, options.freeze)
    is_frozen = not backbone.trainable_weights
    if options.lr is None:
        options.lr = default_rate(options, is_frozen)
    settings = {
        method: to_settings(options, method) for method in options.method
    }
    selection = selection_of(options)
    datasets.check(options.data, **selection)
    data = datasets.load(options.data, **selection, decode=False)
    check_last_batches(
        replicas, options.batch_size, data.train_size, data.test_size
    )
    channels = backbone.output.shape[-1]
    for each in settings.values():
        check_method(each, channels, data.num_classes, replicas)
        if text := without_effect(each, is_frozen):
            out.warn(text)
    return settings, data, scope


def train_all(
    options: argparse.Namespace,
    settings: dict[str, Any],
    data: Any,
    scope: Any,
    folder: pathlib.Path,
    out: Output,
) -> None:
    """Trains every method with every seed and writes the results."""
    from keras_finegrain.cli.progress import Progress
    from keras_finegrain.cli.train_bundles import (
        bundle_of,
        gallery_of,
        report_on,
    )
    from keras_finegrain.cli.train_pictures import (
        draw_embeddings,
        draw_learning_curves,
    )
    from keras_finegrain.cli.train_results import Results
    from keras_finegrain.cli.train_warnings import warnings_of
    from keras_finegrain.training import FeatureCache, ImageStream, train
    from keras_finegrain.training.digests import digest_of
    from keras_finegrain.training.frozen import user_cache
    from keras_finegrain.training.tables import plain

    source = ImageStream(data, digest_of(data, **selection_of(options)))
    cache = FeatureCache(
        None if options.no_cache else user_cache(),
        out.say,
        bars=not options.quiet,
    )
    results = Results(folder, options, data)
    remove_unfinished(folder)
    if options.resume:
        results.restore()
    elif options.overwrite:
        results.clear()
    out.resume = f"Go on with the same command and --output {folder} --resume"
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        is_first = seed == options.first_seed
        for method in options.method:
            # What an earlier process has finished stays; what it has left out
            # is made here.
            is_new = not results.is_finished(method, seed)
            if is_new:
                finished = train(
                    settings[method],
                    seed,
                    source,
                    cache=cache,
                    scope=scope,
                    validate=True,
                    embed_known=True,
                    callbacks=[
                        Progress(
                            f"{method} seed {seed}",
                            out.say,
                            bars=not options.quiet,
                        )
                    ],
                )
                gallery = gallery_of(finished, data)
                bundle = None
                if is_first:
                    bundle = bundle_of(
                        *(settings[method], finished, gallery, data),
                        about=results.about,
                        out=out,
                    )
                results.add(method, seed, finished, gallery, bundle)
                for text in warnings_of(options, finished, data):
                    out.warn(f"{method}, seed {seed}: {text}")
            page = folder / method / "report.html"
            if options.report and is_first and (is_new or not page.exists()):
                report_on(folder / method, settings[method], data, source, page)
        if is_first:
            path = folder / "embedding.png"
            draw_embeddings(results, data.class_names, path, seed)
        draw_learning_curves(results, folder / "learning_curves.png")
    out.answer(f"\n{plain(results.table())}")
    if gains := results.gains():
        out.answer(f"\n{plain(gains)}")
    if options.seeds > 1:
        out.answer("\nmean ± half of the 95 % t-interval over the seeds")
    out.result({"run": str(folder), **results.document()})
    out.say(
        f"\n{folder}: results.json, results.md, history.csv, pictures, and a "
        f"folder for each method with its model. Next, name a new photo:\n"
        f"  keras-finegrain identify {folder} photo.jpg"
    )

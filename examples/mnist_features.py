"""Draw what center loss does to features of two dimensions.

    python examples/mnist_features.py

trains a small network on scikit-learn's digits with softmax alone, with
center loss, and with its normalised variant, and leaves pictures of the
features and animations over the epochs; no network is needed. `--help` lists
the options, docs/mnist_features.md explains them.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from mnist_lib.arguments import parse_arguments

from keras_finegrain.cli.files import remove_unfinished, writable_folder
from keras_finegrain.cli.output import CommandError
from keras_finegrain.cli.requirements import check_packages

# Import name of each package, and the extra that installs it.
PACKAGES = dict.fromkeys(
    ("matplotlib", "sklearn", "scipy", "PIL", "tqdm"), "examples"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    # Before the first import of TensorFlow, whose notes would hide our lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = parse_arguments(argv)
    try:
        folder = writable_folder(
            options.output, options.overwrite, "--overwrite"
        )
        check_packages(PACKAGES)
        train_and_draw(options, folder)
    except (CommandError, OSError) as error:
        # OSError: a full disk, a file that is gone.
        print(f"mnist_features.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def train_and_draw(options: argparse.Namespace, folder: pathlib.Path) -> None:
    """Trains every variant, writes metrics, pictures and models."""
    from mnist_lib.data import load
    from mnist_lib.pictures import animate_features, draw_features
    from mnist_lib.results import Results
    from mnist_lib.training import train

    from keras_finegrain.training.tables import plain

    data = load(
        options.dataset,
        data_dir=options.data_dir,
        train_images=options.train_images,
        class_names=options.class_names,
    )
    print(
        f"{data.name}: {data.num_classes} classes, {len(data.train_images)} "
        f"images to train on, {len(data.test_images)} to test on. Results go "
        f"to {folder}",
        flush=True,
    )
    remove_unfinished(folder)
    results = Results(folder, options, data)
    first_runs = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for variant in options.variants:
            run = train(variant, seed, data, options)
            if seed == options.first_seed:
                first_runs[variant] = run
                run.model.save(folder / f"{variant}.keras")
                for ending in ("gif", "html"):
                    path = folder / f"features_{variant}.{ending}"
                    animate_features(variant, run, data, path)
            # Last: a result that is written has its files.
            results.add(variant, seed, run.metrics)
        if seed == options.first_seed:
            draw_features(first_runs, data, folder / "features.png")
    print(f"\n{plain(results.table())}")
    if options.seeds > 1:
        print("\nmean ± half of the 95 % t-interval over the seeds")
    print(f"\n{folder}: results.json, results.md, pictures, animations, models")


if __name__ == "__main__":
    sys.exit(main())

"""The example as a user runs it, and what it says when it cannot run."""

import gzip
import importlib.util
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

# Registers the layers of the saved models.
import keras_finegrain  # noqa: F401

pytestmark = pytest.mark.one_backend

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "mnist_features.py"

for package in ("matplotlib", "sklearn", "tqdm", "PIL"):
    pytest.importorskip(package)


@pytest.fixture(scope="module", autouse=True)
def command():
    """`main` of the script, imported as the script imports its parts."""
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("mnist_features", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.main
    sys.path.remove(str(SCRIPT.parent))


def write_idx(path, values):
    """Writes uint8 values as MNIST's own files are written."""
    head = bytes([0, 0, 8, values.ndim])
    head += np.array(values.shape, ">u4").tobytes()
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(head + values.astype(np.uint8).tobytes())


def write_folder(folder, side=12, ending=""):
    """Three classes, each bright in a row of its own."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("t10k", 12)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, (count, side, side))
        images[np.arange(count), labels] += 150
        write_idx(folder / f"{split}-images-idx3-ubyte{ending}", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte{ending}", labels)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "idx")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The output of one real run: two variants, two seeds, two epochs."""
    output = tmp_path_factory.mktemp("run") / "output"
    result = subprocess.run(
        [
            *(sys.executable, SCRIPT, "--epochs", "2", "--seeds", "2"),
            *("--variants", "softmax", "center"),
            *("--train-images", "300", "--output", output),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return output, result.stdout


def test_the_table_has_every_variant_and_metric_with_its_interval(run):
    output, printed = run

    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in (output / "results.md").read_text().splitlines()
    ]
    assert rows[0] == [
        "variant",
        "accuracy %",
        "Recall@1 %",
        "intra/inter",
        "Recall@1 %, directions",
        "intra/inter, directions",
        "seeds",
    ]
    assert [row[0] for row in rows[2:]] == ["softmax", "center"]
    metrics = json.loads((output / "results.json").read_text())["seeds"]
    accuracies = [100 * run["accuracy"] for run in metrics["center"].values()]
    mean, half = np.mean(accuracies), 12.7062 * np.ptp(accuracies) / 2
    assert rows[3][1] == f"{mean:.1f} ± {half:.1f}"
    assert "Recall@1 %" in printed


def test_results_hold_arguments_versions_and_every_seed(run):
    results = json.loads((run[0] / "results.json").read_text())

    assert results["arguments"]["epochs"] == 2
    assert results["versions"]["backend"] == keras.backend.backend()
    assert results["data"]["train_size"] == 300
    assert results["data"]["test_size"] == 360
    for variant in ("softmax", "center"):
        assert list(results["seeds"][variant]) == ["0", "1"]
        for metrics in results["seeds"][variant].values():
            assert 0 <= metrics["accuracy"] <= 1


def test_animations_show_the_untrained_network_and_each_epoch(run):
    from PIL import Image

    for variant in ("softmax", "center"):
        page = (run[0] / f"features_{variant}.html").read_text()
        for epoch in range(3):
            assert f'alt="{variant}, epoch {epoch}"' in page
        assert page.count("<img") == 3
        with Image.open(run[0] / f"features_{variant}.gif") as gif:
            assert gif.n_frames == 3


def test_the_picture_has_a_panel_for_each_variant(run):
    from PIL import Image

    with Image.open(run[0] / "features.png") as image:
        assert image.width > 1.7 * image.height
        panels = np.array_split(np.asarray(image.convert("L")), 2, axis=1)
    assert all(panel.std() > 5 for panel in panels)


def test_the_saved_models_are_those_that_were_measured(run):
    from mnist_lib.data import load

    data = load("digits")
    metrics = json.loads((run[0] / "results.json").read_text())["seeds"]
    for variant in ("softmax", "center"):
        model = keras.models.load_model(run[0] / f"{variant}.keras")
        scores = model.predict(data.test_images, verbose=0)
        accuracy = np.mean(scores.argmax(axis=1) == data.test_labels)
        assert accuracy == pytest.approx(metrics[variant]["0"]["accuracy"])


def test_results_of_an_earlier_run_are_not_replaced_unasked(
    run, command, capsys
):
    before = (run[0] / "results.json").read_text()

    assert command(["--output", str(run[0])]) == 2

    assert "holds the results of an earlier run" in capsys.readouterr().err
    assert (run[0] / "results.json").read_text() == before


def options(*arguments):
    from mnist_lib.arguments import parse_arguments

    return parse_arguments([*arguments, "--output", "unused"])


def train(variant, folder, *arguments):
    from mnist_lib.data import load
    from mnist_lib.training import train

    return train(
        variant, 0, load(str(folder)), options("--epochs", "2", *arguments)
    )


def test_features_are_recorded_before_training_and_after_each_epoch(folder):
    from mnist_lib.data import load
    from mnist_lib.networks import build

    trained = train("center", folder)

    data = load(str(folder))
    untrained = build("center", (12, 12, 1), 3, options(), seed=0)

    def embed(model):
        inside = keras.Model(model.input, model.get_layer("features").output)
        return inside.predict(data.test_images, verbose=0)

    first, between, last = trained.features
    np.testing.assert_allclose(first, embed(untrained), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last, embed(trained.model), rtol=1e-4, atol=1e-5)
    assert not np.allclose(first, between)
    assert not np.allclose(between, last)


def test_centers_are_recorded_as_they_move(folder):
    trained = train("center", folder)

    first, between, last = trained.centers
    np.testing.assert_array_equal(first, np.zeros((3, 2)))
    assert (between != 0).any()
    centers = trained.model.get_layer("center_loss").centers
    np.testing.assert_array_equal(last, keras.ops.convert_to_numpy(centers))
    assert train("softmax", folder).centers == []


def test_variants_of_one_seed_start_from_the_same_weights():
    """Else the comparison would measure luck."""
    from mnist_lib.networks import build

    def first_weights(variant, seed):
        model = build(variant, (8, 8, 1), 10, options(), seed)
        return [
            keras.ops.convert_to_numpy(variable)
            for variable in model.trainable_variables
        ]

    softmax = first_weights("softmax", 3)
    for variant in ("center", "normalized"):
        for one, other in zip(softmax, first_weights(variant, 3), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.allclose(softmax[0], first_weights("softmax", 4)[0])


def test_the_normalized_variant_trains(folder):
    trained = train("normalized", folder)

    lengths = np.linalg.norm(trained.centers[-1], axis=1)
    assert (lengths > 0).all()
    assert (lengths <= 1).all()


def test_options_reach_the_center_loss():
    from mnist_lib.networks import build

    given = options(
        *("--center-weight", "0.3", "--normalized-weight", "0.4"),
        *("--alpha", "0.7"),
    )
    center, normalized = (
        build(variant, (8, 8, 1), 10, given, 0).get_layer("center_loss")
        for variant in ("center", "normalized")
    )

    assert (center.loss_weight, center.alpha) == (0.3, 0.7)
    assert (center.normalize, center.reduction) == (False, "mean")
    assert (normalized.loss_weight, normalized.alpha) == (0.4, 0.7)
    assert (normalized.normalize, normalized.reduction) == (True, "class_mean")


def test_images_of_mnists_size_get_the_papers_network():
    from mnist_lib.networks import build

    model = build("softmax", (28, 28, 1), 10, options(), 0)

    convolutions = [
        (layer.filters, layer.kernel_size)
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert convolutions == [
        (filters, (5, 5)) for filters in (32, 32, 64, 64, 128, 128)
    ]
    slopes = [
        layer.alpha.shape
        for layer in model.layers
        if isinstance(layer, keras.layers.PReLU)
    ]
    assert [shape[-1] for shape in slopes] == [32, 32, 64, 64, 128, 128]
    assert all(shape[:2] == (1, 1) for shape in slopes)
    assert model.get_layer("features").kernel.shape == (3 * 3 * 128, 2)


def test_digits_are_split_alike_every_time_and_fill_the_range():
    from mnist_lib.data import load

    first, second = load("digits"), load("digits")

    np.testing.assert_array_equal(first.test_images, second.test_images)
    assert first.train_images.shape == (1437, 8, 8, 1)
    assert first.train_images.min() == 0
    assert first.train_images.max() == 255
    assert np.bincount(first.test_labels).min() >= 34


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read_as_they_were_written(tmp_path, ending):
    from mnist_lib.data import load

    write_folder(tmp_path / "idx", ending=ending)

    data = load(str(tmp_path / "idx"), class_names=["ash", "elm", "oak"])

    assert data.class_names == ("ash", "elm", "oak")
    assert data.train_images.shape == (30, 12, 12, 1)
    assert data.test_images.shape == (12, 12, 12, 1)
    np.testing.assert_array_equal(data.train_labels, np.arange(30) % 3)
    # The first pixels that `write_folder` draws.
    first = np.random.default_rng(0).integers(0, 60, (30, 12, 12))[0]
    np.testing.assert_array_equal(data.train_images[0, 1:, :, 0], first[1:])
    np.testing.assert_array_equal(data.train_images[0, 0, :, 0], first[0] + 150)


def test_fewer_training_images_are_the_same_ones_every_time(folder):
    from mnist_lib.data import load

    whole, first, second = (
        load(str(folder), train_images=count) for count in (None, 12, 12)
    )

    assert len(first.train_images) == len(first.train_labels) == 12
    np.testing.assert_array_equal(first.train_images, second.train_images)
    # Each with its own label.
    for image, label in zip(
        first.train_images, first.train_labels, strict=True
    ):
        same = (whole.train_images == image).all(axis=(1, 2, 3))
        assert whole.train_labels[same] == [label]


def test_mnist_is_read_from_a_prepared_tfds(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    from mnist_lib.data import load

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), "uint8")

    import tensorflow as tf

    def split(some):
        return tf.data.Dataset.from_tensor_slices(
            {"image": some, "label": np.arange(len(some)) % 10}
        )

    tfds.dataset_builders.store_as_tfds_dataset(
        name="mnist",
        version=str(tfds.builder("mnist", data_dir=tmp_path).version),
        features=features,
        split_datasets={
            "train": split(images[:20]),
            "test": split(images[20:]),
        },
        data_dir=tmp_path,
    )

    data = load("mnist", data_dir=str(tmp_path))

    assert data.class_names == tuple("0123456789")
    # TFDS shuffles nothing here, but need not keep the order.
    by_label = np.argsort(data.train_labels, kind="stable")
    assert data.train_images.shape == (20, 28, 28, 1)
    sums = data.train_images.sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(
        np.sort(sums), np.sort(images[:20].sum(axis=(1, 2, 3)))
    )
    for position in by_label:
        same = (images == data.train_images[position]).all(axis=(1, 2, 3))
        (index,) = np.flatnonzero(same)
        assert index % 10 == data.train_labels[position]


def shorten(path):
    path.write_bytes(path.read_bytes()[:-5])


def damage(folder, kind):
    """Does to a folder of IDX files what may have happened to a user's."""
    images = folder / "train-images-idx3-ubyte"
    labels = folder / "train-labels-idx1-ubyte"
    if kind == "missing":
        labels.unlink()
    elif kind == "cut":
        shorten(images)
    elif kind == "cut gz":
        with gzip.open(f"{images}.gz", "wb") as file:
            file.write(images.read_bytes())
        images.unlink()
        shorten(pathlib.Path(f"{images}.gz"))
    elif kind == "swapped":
        labels.write_bytes(images.read_bytes())
    elif kind == "more labels":
        write_idx(labels, np.zeros(31))
    elif kind == "other size":
        write_idx(images, np.zeros((30, 10, 12)))
    elif kind == "no class 1":
        write_idx(labels, np.arange(30) % 2 * 2)
    elif kind == "one test class":
        write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(12))
    elif kind == "tiny":
        for split, count in (("train", 30), ("t10k", 12)):
            write_idx(
                folder / f"{split}-images-idx3-ubyte", np.zeros((count, 7, 9))
            )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "neither train-labels-idx1-ubyte nor .*ubyte.gz"),
        ("cut", "holds 4315 values where its head says 30 x 12 x 12"),
        ("cut gz", "ubyte.gz cannot be read"),
        ("swapped", "train-labels.* is no IDX file of bytes with 1 axes"),
        ("more labels", "train has 30 images and 31 labels"),
        ("other size", "10 x 12 pixels and those to test on 12 x 12"),
        ("no class 1", "there is none of class 1"),
        ("one test class", "need two classes"),
        ("tiny", "at least 8 pixels wide and high, received 7 x 9"),
    ],
)
def test_a_damaged_folder_is_found_before_training(folder, kind, message):
    from mnist_lib.data import load

    from keras_finegrain.cli.output import CommandError

    damage(folder, kind)

    with pytest.raises(CommandError, match=message):
        load(str(folder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs: must be an integer of at least 1"),
        (["--batch-size", "many"], "--batch-size: must be an integer"),
        (["--lr", "0"], "--lr: must be a number above 0, received '0'"),
        (["--center-weight", "-1"], "--center-weight: .* at least 0"),
        (
            ["--center-weight", "nan"],
            "--center-weight: must be a number of .* 'nan'",
        ),
        (["--alpha", "2"], r"--alpha: must be a number in \[0, 1\], .* '2'"),
        (["--seeds", "0"], "--seeds: must be an integer"),
        (["--variants", "centre"], "--variants: invalid choice: 'centre'"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
        (["--output", __file__], "--output .*: cannot be written to"),
        (
            ["--dataset", "fashion-mnist"],
            "no folder. Did you mean fashion_mnist",
        ),
        (["--train-images", "9999"], "--train-images 9999: digits has 1437"),
        (["--train-images", "5"], "there is none of class"),
        (["--class-names", "a", "b"], "10 classes, received 2 names"),
    ],
)
def test_what_cannot_run_is_one_line_and_status_2(
    arguments, message, tmp_path, command, capsys
):
    if "--output" not in arguments:
        arguments = [*arguments, "--output", str(tmp_path / "output")]

    try:
        status = command(arguments)
    except SystemExit as exit_of_argparse:
        status = exit_of_argparse.code

    errors = capsys.readouterr().err.splitlines()
    assert status == 2
    assert len(errors) == 1
    assert errors[0].startswith("mnist_features.py: error: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(errors[0])


def test_a_training_that_diverges_says_so(folder):
    from keras_finegrain.cli.output import CommandError

    with pytest.raises(CommandError, match=r"softmax, seed 0: .*lower --lr"):
        train("softmax", folder, "--lr", "1e30", "--batch-size", "4")


def test_a_missing_package_is_named_with_its_extra(
    command, capsys, monkeypatch, tmp_path
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "PIL" else find(name, *rest),
    )

    assert command(["--output", str(tmp_path)]) == 2

    (error,) = capsys.readouterr().err.splitlines()
    assert "not installed: PIL" in error
    assert "keras-finegrain[examples]" in error

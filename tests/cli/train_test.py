"""The example as a user runs it, and what it says when it cannot run."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain._base.optional import pip_install
from keras_finegrain.bundle import named_right

COMMAND = [sys.executable, "-m", "keras_finegrain", "train"]
PHOTOS = os.environ.get("KERAS_FINEGRAIN_DATA")

for package in ("tensorflow_datasets", "matplotlib", "sklearn", "tqdm", "PIL"):
    pytest.importorskip(package)


@pytest.fixture(scope="session")
def comparison(folder, tmp_path_factory):
    """The output of one real run: two methods, one seed, one epoch."""
    output = tmp_path_factory.mktemp("run") / "output"
    result = subprocess.run(
        [
            *COMMAND,
            *(folder, "--method", "center", "soft_triple"),
            *("--image-size", "16", "--epochs", "1", "--batch-size", "8"),
            *("--head-lr-multiplier", "10", "--embedding-size", "8"),
            *("--backbone", "small"),
            *("--output", output, "--report"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return output, result.stdout, result.stderr


def test_each_method_has_its_page_with_its_accuracy(comparison):
    output, *_ = comparison
    results = json.loads((output / "results.json").read_text())
    for method in ("center", "soft_triple"):
        page = (output / method / "report.html").read_text("utf-8")
        top_1 = 100 * results["seeds"][method]["0"]["top_1"]

        assert f"top-1 accuracy</td><td>{top_1:.1f} %" in page
        assert "Every error" in page


def test_the_table_names_every_method_and_metric(comparison):
    output, printed, noted = comparison

    table = (output / "results.md").read_text().splitlines()
    assert table[0] == (
        "| method | top-1 % | top-5 % | identify % | Recall@1 % | intra/inter "
        "| seeds |"
    )
    assert [row.split(" | ")[0] for row in table[2:]] == [
        "| center",
        "| soft_triple",
    ]
    assert "Recall@1 %" in printed
    assert "soft_triple seed 0  epoch 1/1" in noted
    # What to do next, for somebody who has not read the docs.
    assert f"keras-finegrain identify {output} photo.jpg" in noted


def test_results_hold_arguments_versions_and_every_seed(comparison):
    results = json.loads((comparison[0] / "results.json").read_text())

    assert results["arguments"]["batch_size"] == 8
    assert results["versions"]["backend"] == keras.backend.backend()
    assert results["data"]["train_size"] + results["data"]["test_size"] == 24
    for method in ("center", "soft_triple"):
        top_1 = results["seeds"][method]["0"]["top_1"]
        assert results["summary"][method]["top_1"]["mean"] == top_1
        # One seed has no interval.
        assert results["summary"][method]["top_1"]["interval_95"] is None
        # What the bundle of the first seed answers.
        with np.load(comparison[0] / method / "tested.npz") as tested:
            bundle = keras_finegrain.Bundle.load(comparison[0] / method)
            right = named_right(
                *(bundle.gallery, tested["embeddings"], tested["labels"]),
                bundle.class_names,
            )
        assert results["seeds"][method]["0"]["identify"] == right.mean()
    assert 1 <= results["seeds"]["soft_triple"]["0"]["distinct_centers"] <= 10


def test_the_history_has_a_row_per_epoch_with_the_methods_own_losses(
    comparison,
):
    with open(comparison[0] / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))

    assert [(row["method"], row["seed"]) for row in rows] == [
        ("center", "0"),
        ("soft_triple", "0"),
    ]
    assert float(rows[0]["center_loss"]) > 0
    assert rows[1]["center_loss"] == ""
    assert all(math.isfinite(float(row["val_accuracy"])) for row in rows)


def test_pictures_are_images(comparison):
    from PIL import Image

    for name in ("learning_curves.png", "embedding.png"):
        with Image.open(comparison[0] / name) as image:
            assert image.width > 500
            assert np.asarray(image.convert("L")).std() > 5


def test_the_saved_model_classifies_images_as_they_are_stored(comparison):
    for method in ("center", "soft_triple"):
        model = keras.models.load_model(comparison[0] / method / "model.keras")

        scores = model.predict(np.full((2, 16, 16, 3), 128.0), verbose=0)

        assert scores.shape == (2, 3)


def test_a_frozen_backbone_trains_from_its_cache_and_saves_a_whole_model(
    folder, tmp_path, command, small_weights, capsys
):
    from keras_finegrain.training import Settings
    from keras_finegrain.training.backbones import build_backbone

    output = tmp_path / "output"

    status = command(
        [
            *(str(folder), "--method", "mc"),
            *("--image-size", "16", "--epochs", "2", "--lr", "0.01"),
            *("--weights", str(small_weights), "--freeze", "relu_2"),
            *("--views", "2", "--pooling", "max"),
            *("--output", str(output), "--report"),
        ]
    )

    assert status == 0
    assert "output of relu_2 once, in 2 views" in capsys.readouterr().err
    before = build_backbone(Settings(weights=str(small_weights), image_size=16))
    after = keras.models.load_model(output / "mc" / "model.keras")
    paths = {variable.path: variable for variable in after.variables}

    def moved(name):
        kernel = next(v for path, v in paths.items() if path.endswith(name))
        first = next(v for v in before.variables if v.path.endswith(name))
        return not np.array_equal(
            keras.ops.convert_to_numpy(kernel),
            keras.ops.convert_to_numpy(first),
        )

    assert not moved("conv_2/kernel")
    assert not moved("norm_2/moving_mean")
    assert moved("conv_3/kernel")
    # The cached features and the images lead to the same scores.
    results = json.loads((output / "results.json").read_text())
    from keras_finegrain import datasets

    test = datasets.batches(
        datasets.load(folder).test,
        image_size=16,
        batch_size=8,
        training=False,
    )
    labels = np.concatenate([np.asarray(y) for _, y in test])
    top_1 = np.mean(after.predict(test, verbose=0).argmax(axis=1) == labels)
    assert top_1 == pytest.approx(results["seeds"]["mc"]["0"]["top_1"])
    assert type(after.get_layer("pooling")).__name__ == "GlobalMaxPooling2D"
    # The page is made of images, not of the features.
    page = (output / "mc" / "report.html").read_text("utf-8")
    assert f"top-1 accuracy</td><td>{100 * top_1:.1f} %" in page


@pytest.mark.one_backend
def test_a_wholly_frozen_backbone_trains_the_head_alone(
    folder, tmp_path, command, small_weights
):
    output = tmp_path / "output"

    status = command(
        [
            *(str(folder), "--method", "soft_triple"),
            *("--image-size", "16", "--epochs", "1", "--output", str(output)),
            *("--weights", str(small_weights), "--embedding-size", "0"),
            "--report",
        ]
    )

    assert status == 0
    assert "top-1 accuracy" in (
        output / "soft_triple" / "report.html"
    ).read_text("utf-8")
    model = keras.models.load_model(output / "soft_triple" / "model.keras")
    assert model.predict(np.zeros((2, 16, 16, 3)), verbose=0).shape == (2, 3)
    trained = [variable.path for variable in model.trainable_variables]
    assert [path.split("/")[-1] for path in trained] == ["centers"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", (None, None, 3e-3, "gem", 0)),
        ("--method pmg", (None, None, 3e-3, "average", 0)),
        # A file of weights is as much pretrained as those of ImageNet.
        ("--weights {weights}", ("all", 256, 3e-3, "average", 3)),
        ("--weights {weights} --freeze none", (None, 256, 3e-4, "average", 3)),
        (
            "--weights {weights} --freeze relu_2",
            ("relu_2", 256, 1e-3, "average", 3),
        ),
        (
            "--weights {weights} --embedding-size 0",
            ("all", None, 1e-2, "average", 3),
        ),
    ],
)
def test_the_defaults_are_those_of_what_is_trained(
    folder, small_weights, tmp_path, words, wanted
):
    from keras_finegrain.cli.main import _parse
    from keras_finegrain.cli.output import Output
    from keras_finegrain.cli.train import complete, prepare

    options = _parse(
        [
            *("train", str(folder), "--backbone", "small"),
            *("--image-size", "16", "--output", str(tmp_path)),
            *words.format(weights=small_weights).split(),
        ]
    )
    complete(options)
    settings, _, _ = prepare(options, Output(as_json=False, quiet=True))
    assert {
        (
            *(each.freeze, each.embedding_size, each.lr),
            *(each.pooling, each.mc_branch),
        )
        for each in settings.values()
    } == {wanted}


def test_drawn_birds_are_trained_as_photos_are():
    from keras_finegrain.cli.main import _parse
    from keras_finegrain.cli.train import complete

    options = _parse(["train"])
    complete(options)
    assert options.data == "synthetic_birds/three_plumages"
    assert (options.weights, options.freeze) == ("drawn_birds", "pool_4")
    assert (options.epochs, options.pooling) == (30, "gem")
    scratch = _parse(["train", "synthetic_birds", "--weights", "none"])
    complete(scratch)
    assert (scratch.freeze, scratch.epochs) == (None, 12)


@pytest.mark.slow
def test_a_keras_hub_preset_is_a_backbone(folder, tmp_path, command):
    keras_hub = pytest.importorskip("keras_hub")
    preset = tmp_path / "preset"
    keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 96],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    ).save_to_preset(preset)
    keras_hub.layers.ResNetImageConverter(
        scale=1 / 127.5, offset=[-1.0, -1.0, -1.0]
    ).save_to_preset(preset)
    output = tmp_path / "output"

    status = command(
        [
            *(str(folder), "--method", "center"),
            *("--image-size", "32", "--epochs", "1", "--output", str(output)),
            *("--backbone", str(preset), "--freeze", "features"),
        ]
    )

    assert status == 0
    model = keras.models.load_model(output / "center" / "model.keras")
    assert model.predict(np.zeros((2, 32, 32, 3)), verbose=0).shape == (2, 3)


ON_TWO_DEVICES = """
import sys
import keras
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
from keras_finegrain.cli import main
train = ["train", "--backbone", "small", *sys.argv[1:]]
assert main([*train, "--batch-size", "3"]) == 2
sys.exit(main([*train, "--batch-size", "2"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="Keras distributes no training on PyTorch",
)
def test_two_devices_share_a_run(folder, tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    result = subprocess.run(
        [
            *(sys.executable, "-c", ON_TWO_DEVICES, folder),
            *("--method", "center", "--image-size", "16", "--epochs", "1"),
            *("--distribute", "mirrored", "--output", tmp_path / "shared"),
        ],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "--batch-size 3: must divide by the 2 devices" in result.stderr
    assert (tmp_path / "shared" / "center" / "model.keras").exists()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs: must be an integer of at least 1"),
        (["--batch-size", "1"], "--batch-size: must be .* at least 2"),
        (["--batch-size", "9" * 20], "--batch-size: must be .* at most"),
        (["--epochs", "9" * 400], "--epochs: must be .* at most"),
        (["--image-size", "1000000"], "--image-size: must be .* at most 4096"),
        (["--lr", "1e400"], "--lr: must be a number above 0"),
        (["--lr", "nan"], "--lr: must be a number above 0, received 'nan'"),
        (["--lr", "-1"], "--lr: must be a number above 0"),
        (["--seeds", "two"], "--seeds: must be an integer"),
        (
            ["--center-alpha", "2"],
            r"--center-alpha: must be a number in \[0, 1\]",
        ),
        (["--mc-weight", "-1"], "--mc-weight: must be a number of at least 0"),
        (["--method", "tripel"], "--method: invalid choice: 'tripel'"),
        (
            ["--method", "arcface", "--loss-args", "gamma=2"],
            "--loss-args gamma: .* arcface takes scale, margin",
        ),
        (
            ["--method", "arcface", "--loss-args", "margin=28.6"],
            "--loss-args: ArcFaceLoss: margin must be .* received 28.6",
        ),
        (
            ["--method", "triplet", "--batch-size", "7"],
            "--batch-size 7: --method triplet needs two classes",
        ),
        (["--backbone-args", "0.75"], "--backbone-args: must be KEY=VALUE"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
        (["--output", __file__], "--output .*: cannot be written to"),
        (["--freeze", "relu_2"], "--freeze relu_2: .* learned nothing"),
        (
            ["--backbone", "MobilNet"],
            r"--backbone MobilNet: .* Did you mean MobileNet.*(-h|H)ub",
        ),
        (
            ["--backbone", "mobilenet"],
            r"--backbone mobilenet: .* Did you mean MobileNet",
        ),
        (["--weights", "imagenet"], "small has none"),
        (["--weights", "no_such.h5"], "no_such.h5: there is no such file"),
        (["--weights", __file__], "does not fit --backbone small"),
        (
            ["--weights", "{weights}", "--freeze", "relu_9"],
            r"has no such layer\. Did you mean relu_",
        ),
        (["--backbone-args", "alpha=1"], "small takes none, received alpha"),
        (
            [
                *("--backbone", "MobileNet", "--weights", "none"),
                *("--backbone-args", "alfa=0.5"),
            ],
            r"MobileNet has no argument alfa\. Did you mean alpha",
        ),
        (
            [
                *("--backbone", "ResNet50", "--weights", "none"),
                *("--image-size", "16"),
            ],
            "--backbone ResNet50: cannot be built: .*at least 32",
        ),
        (
            ["--backbone", "MobileNet", "--weights", "{weights}"],
            "does not fit --backbone MobileNet",
        ),
        (["caltech_bird2011"], "did you mean 'caltech_birds2011"),
        (["./nowhere"], "nowhere"),
        (["--classes", "ostrich"], "ostrich"),
    ],
)
def test_what_cannot_run_is_one_line_and_status_2(
    arguments, message, folder, tmp_path, command, capsys, small_weights
):
    arguments = [text.format(weights=small_weights) for text in arguments]
    if arguments[0].startswith("-"):
        arguments = [str(folder), *arguments]
    if "--output" not in arguments:
        arguments += ["--output", str(tmp_path / "output")]

    status = command(arguments)

    errors = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("keras-finegrain train: error: ")
    ]
    assert status == 2
    assert not (tmp_path / "output").exists()
    assert len(errors) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(errors[0])


def test_a_run_in_the_folder_of_its_photos_is_refused(
    folder, tmp_path, monkeypatch, command, capsys
):
    """Its pictures would be a class of the next one."""
    photos = tmp_path / "photos"
    shutil.copytree(folder, photos)
    monkeypatch.chdir(photos)
    assert command(["."]) == 2
    said = capsys.readouterr().err
    assert "lies in ., whose folders are classes" in said
    assert "--output" in said
    assert not (photos / "runs").exists()


@pytest.mark.one_backend
def test_a_run_in_the_home_folder_is_where_the_other_commands_look(
    folder, tmp_path, monkeypatch, command
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    arguments = [str(folder), "--method", "softmax", "--image-size", "16"]
    assert command([*arguments, "--epochs", "1", "--output=~/run"]) == 0
    assert (tmp_path / "run" / "results.json").exists()


@pytest.mark.one_backend
def test_a_stopped_run_goes_on_and_keeps_its_finished_seeds(
    folder, tmp_path, command, capsys
):
    output = tmp_path / "output"
    arguments = [
        *(str(folder), "--method", "softmax", "center"),
        *("--image-size", "16", "--epochs", "1", "--output", str(output)),
    ]
    assert command(arguments) == 0
    first = json.loads((output / "results.json").read_text())["seeds"]

    assert command([*arguments, "--seeds", "2", "--resume"]) == 0

    seeds = json.loads((output / "results.json").read_text())["seeds"]
    assert list(seeds["center"]) == ["0", "1"]
    # The seconds too: it was not trained again.
    assert seeds["center"]["0"] == first["center"]["0"]
    with open(output / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed) for seed in "01" for method in ("softmax", "center")
    ]
    assert float(rows[1]["center_loss"]) > 0
    # What center loss bought, seed by seed.
    gain = np.mean(
        [
            seeds["center"][seed]["recall_at_1"]
            - seeds["softmax"][seed]["recall_at_1"]
            for seed in "01"
        ]
    )
    row = (output / "results.md").read_text().splitlines()[-1].split(" | ")
    assert row[0] == "| center"
    assert row[3].startswith(f"{100 * gain:+.1f} ± ")

    assert command([*arguments, "--lr", "0.5", "--resume"]) == 2
    assert "started with another --lr" in capsys.readouterr().err
    assert command([*arguments, "--classes", "finch", "--resume"]) == 2
    assert "started with another --classes" in capsys.readouterr().err

    (output / "results.json").write_text("{")
    assert command([*arguments, "--resume"]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.one_backend
def test_classes_of_few_photos_have_a_run_without_what_takes_two(
    folder, tmp_path, command, capsys
):
    photos, output = tmp_path / "photos", tmp_path / "output"
    shutil.copytree(folder, photos)
    for path in photos.glob("*/[67].png"):
        path.unlink()
    arguments = [str(photos), "--method", "softmax", "--image-size", "16"]
    arguments += ["--epochs", "1", "--report", "--output", str(output)]
    assert command(arguments) == 0
    metrics = json.loads((output / "results.json").read_text())["seeds"]
    assert "top_1" in metrics["softmax"]["0"]
    assert "recall_at_1" not in metrics["softmax"]["0"]
    assert "Recall" not in (output / "results.md").read_text()
    assert (output / "embedding.png").exists()
    assert (output / "softmax" / "report.html").exists()


@pytest.mark.one_backend
def test_a_run_that_learns_nothing_is_warned_of(
    folder, tmp_path, command, capsys
):
    arguments = [
        *(str(folder), "--method", "softmax", "--epochs", "1"),
        *("--image-size", "16", "--lr", "1e-12", "--augment", "none"),
    ]
    assert command([*arguments, "--output", str(tmp_path / "output")]) == 0
    accuracy = json.loads((tmp_path / "output" / "results.json").read_text())
    warned = "softmax, seed 0: the training accuracy is" in (
        capsys.readouterr().err
    )
    assert warned, accuracy["seeds"]


def test_resume_in_a_new_folder_starts(folder, tmp_path, command, capsys):
    """A supervisor always passes it."""
    output = tmp_path / "new" / "output"
    arguments = [
        *(str(folder), "--method", "softmax", "--resume"),
        *("--image-size", "16", "--epochs", "1"),
    ]
    assert command([*arguments, "--output", str(output)]) == 0
    assert (output / "results.json").exists()
    assert command(arguments) == 2
    assert "--resume: needs --output" in capsys.readouterr().err


@pytest.mark.one_backend
def test_resume_takes_no_other_photos(folder, tmp_path, command, capsys):
    """Seeds that were tested on other photos have no common mean."""
    photos, output = tmp_path / "photos", tmp_path / "output"
    shutil.copytree(folder, photos)
    arguments = [
        *(str(photos), "--method", "softmax", "--image-size", "16"),
        *("--epochs", "1", "--output", str(output)),
    ]
    assert command(arguments) == 0
    renamed = photos / "ash_finch" / "0.png"
    renamed.rename(renamed.with_name("new.png"))
    assert command([*arguments, "--seeds", "2", "--resume"]) == 2
    assert "was started on other images" in capsys.readouterr().err
    # Of a version that did not write down which photos there were.
    results = json.loads((output / "results.json").read_text())
    del results["data"]["keys"]
    (output / "results.json").write_text(json.dumps(results))
    assert command([*arguments, "--seeds", "2", "--resume"]) == 2
    assert "is of an earlier version" in capsys.readouterr().err


@pytest.mark.one_backend
def test_overwriting_leaves_nothing_of_the_earlier_run(
    comparison, folder, tmp_path, command
):
    output = tmp_path / "output"
    shutil.copytree(comparison[0], output)
    status = command(
        [
            *(str(folder), "--method", "center", "soft_triple"),
            *("--image-size", "16", "--epochs", "1", "--lr", "1e30"),
            *("--output", str(output), "--overwrite"),
        ]
    )
    assert status == 2
    assert not list(output.iterdir())


def test_results_of_an_earlier_run_are_not_replaced_unasked(
    comparison, folder, command, capsys
):
    output, *_ = comparison
    before = (output / "results.json").read_text()

    status = command([str(folder), "--output", str(output)])

    assert status == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "results.json").read_text() == before


@pytest.mark.one_backend
def test_an_error_leaves_no_traceback_in_a_real_process(tmp_path):
    result = subprocess.run(
        [*COMMAND, "--output", __file__],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.one_backend
def test_a_missing_package_names_the_extra(folder, tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['tqdm'] = None; "
            "from keras_finegrain.cli import main; "
            f"sys.exit(main(['train', '--output', {str(tmp_path)!r}]))",
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "keras-finegrain train: error: not installed: tqdm. Run: "
        f"{pip_install('command')}"
    )


@pytest.mark.one_backend
@pytest.mark.slow
@pytest.mark.skipif(PHOTOS is None, reason="KERAS_FINEGRAIN_DATA is not set")
def test_trains_on_prepared_photos(tmp_path, command):
    output = tmp_path / "output"

    status = command(
        [
            *("caltech_birds2011", "--data-dir", PHOTOS),
            *("--classes", "white*", "--method", "softmax"),
            *("--image-size", "32", "--epochs", "1", "--output", str(output)),
        ]
    )

    assert status == 0
    results = json.loads((output / "results.json").read_text())
    assert results["data"]["classes"] == [
        "white_crowned_sparrow",
        "white_throated_sparrow",
    ]

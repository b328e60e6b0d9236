import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_finegrain import datasets
from keras_finegrain.datasets import synthetic_birds
from tests.datasets.error_messages import message

pytestmark = pytest.mark.one_backend

ALLOWED = {"missing_test_classes": "allow"}
KITES = ("red_kite", "black_kite", "osprey")


@pytest.fixture(scope="module")
def data_dir(builders, tmp_path_factory):
    return tmp_path_factory.mktemp("tensorflow_datasets")


def pairs(split):
    return list(split.as_numpy_iterator())


def colors(split):
    """The color of each picture with its label: 10 * (old label) + i."""
    return sorted((int(x[-1, -1, 0]), int(y)) for x, y in pairs(split))


def test_a_tfds_name_is_prepared_and_split_as_its_authors_did(data_dir):
    kites = datasets.load("kites", data_dir=data_dir)
    assert kites.name == "kites"
    assert kites.class_names == KITES
    assert (kites.train_size, kites.test_size) == (12, 4)
    assert colors(kites.test) == [(0, 0), (10, 1), (11, 1), (20, 2)]
    assert len(colors(kites.train)) == 12 == int(kites.train.cardinality())
    image, label = pairs(kites.train)[0]
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8
    assert label.dtype == np.int64


def test_records_are_known_by_their_files_or_else_their_numbers(data_dir):
    named = datasets.load("kites_named", data_dir=data_dir)
    for split, keys in (("train", named.train_keys), ("test", named.test_keys)):
        wanted = [
            f"{split}/{KITES[label]}/{image[-1, -1, 0] - 10 * label}.png"
            for image, label in pairs(getattr(named, split))
        ]
        assert list(keys) == wanted
    for name in ("kites", "kites_named_twice"):
        kites = datasets.load(name, data_dir=data_dir)
        assert kites.train_keys == tuple(f"train/{i}" for i in range(12))
        assert kites.test_keys == tuple(f"test/{i}" for i in range(4))


def test_a_selected_or_divided_record_keeps_its_key(data_dir):
    every = datasets.load("kites_train_only", data_dir=data_dir, seed=1)
    some = datasets.load("kites_train_only", data_dir=data_dir, classes="*k*")
    known = {}
    for split in ("train", "test"):
        images = [image.tobytes() for image, _ in pairs(getattr(every, split))]
        known.update(zip(getattr(every, f"{split}_keys"), images, strict=True))
    assert sorted(known) == sorted(f"train/{i}" for i in range(20))
    for split in ("train", "test"):
        images = [image.tobytes() for image, _ in pairs(getattr(some, split))]
        keys = getattr(some, f"{split}_keys")
        assert [known[key] for key in keys] == images


def test_validation_stands_in_for_a_missing_test_split(data_dir):
    kites = datasets.load("kites_validation", data_dir=data_dir)
    assert (kites.train_size, kites.test_size) == (6, 3)


def test_a_test_split_without_labels_is_not_tested_on(data_dir):
    with pytest.warns(UserWarning, match="'test' are left out"):
        kites = datasets.load("kites_held_back", data_dir=data_dir)
    assert (kites.train_size, kites.test_size) == (6, 3)


def test_a_labelled_split_is_tested_on_before_train_is_cut(data_dir):
    with pytest.warns(UserWarning, match="'mini', 'test' are left out"):
        kites = datasets.load("kites_mini", data_dir=data_dir)
    assert (kites.train_size, kites.test_size) == (6, 3)


def test_splits_are_named_where_their_names_do_not_tell(call, data_dir):
    named = {"data_dir": data_dir, "splits": ("train", "extra")}
    kites = datasets.load("kites_extra", **named)
    assert (kites.train_size, kites.test_size) == (6, 3)
    text = message(call, "kites_extra", data_dir=data_dir)
    assert "splits=('train', 'extra')" in text


def test_a_split_that_is_not_there_or_has_no_labels_is_refused(data_dir):
    for splits, words in (
        (("train", "dev"), "no split 'dev', it has"),
        (("train", "test"), "labels of the split 'test'"),
    ):
        named = {"data_dir": data_dir, "splits": splits}
        assert words in message(datasets.load, "kites_mini", **named)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": 3}, "name must be"),
        ({"name": ""}, "name must be"),
        ({"data_dir": 3}, "data_dir must be a folder or None, received 3"),
        ({"classes": 3}, "classes must be a non-empty pattern"),
        ({"splits": "train"}, "splits must be None or a tuple"),
        ({"splits": ("train", "train")}, "different names"),
        ({"splits": ()}, "one or two"),
        ({"crop_to_bbox": "no"}, "crop_to_bbox must be True or False"),
        ({"split_by_class": 1}, "split_by_class must be a finite number"),
        ({"missing_test_classes": "drop"}, "one of 'error', 'allow'"),
        ({"single_images": None}, "one of 'error', 'train', 'drop'"),
        ({"seed": "a"}, "seed must be an integer in"),
        ({"seed": -1}, "seed must be an integer in"),
        ({"test_fraction": "0.2"}, "test_fraction must be a finite number"),
        ({"test_fraction": float("nan")}, "test_fraction must be a finite"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(folder, arguments, words):
    arguments = {"name": folder, **arguments}
    assert words in message(datasets.load, error=ValueError, **arguments)


def test_a_single_split_is_divided_class_by_class(data_dir):
    kites = datasets.load("kites_train_only", data_dir=data_dir)
    assert (kites.train_size, kites.test_size) == (16, 4)
    train, test = colors(kites.train), colors(kites.test)
    assert [label for _, label in test] == [0, 1, 2, 2]
    assert len({*train, *test}) == 20
    again = datasets.load("kites_train_only", data_dir=data_dir)
    assert colors(again.test) == test


def test_classes_are_divided_with_the_images_of_both_splits(tmp_path, draw):
    folder = tmp_path
    for name in ("a", "b"):
        for kind in ("crow", "jay", "rook", "wren"):
            for i in range(2):
                draw(folder / name / kind / f"{i}.png", (1, 2, 3))
    birds = datasets.load(folder, splits=("a", "b"), split_by_class=0.5)
    assert birds.class_names == ("crow", "jay", "rook", "wren")
    assert (birds.num_classes, birds.num_train_classes) == (4, 2)
    assert (birds.train_size, birds.test_size) == (8, 8)
    for split, keys, labels in (
        (birds.train, birds.train_keys, {0, 1}),
        (birds.test, birds.test_keys, {2, 3}),
    ):
        found = [int(label) for _, label in pairs(split)]
        assert len(found) == 8 == int(split.cardinality())
        assert set(found) == labels
        names = [birds.class_names[label] for label in found]
        assert [key.split("/")[1] for key in keys] == names
        assert {key.split("/")[0] for key in keys} == {"a", "b"}


def test_one_split_of_single_images_is_divided_by_class(folder, draw):
    draw(folder / "wren" / "0.png")
    birds = datasets.load(folder, split_by_class=0.5, classes="*")
    assert (birds.train_size, birds.test_size) == (10, 6)
    datasets.check(folder, split_by_class=0.5)
    text = message(datasets.check, folder, split_by_class=0.3)
    assert "split_by_class=0.3 of 4 classes leaves 1" in text


def test_a_selection_numbers_its_classes_from_zero(data_dir):
    kites = datasets.load("kites", data_dir=data_dir, classes="[bo]*")
    assert kites.class_names == ("black_kite", "osprey")
    assert colors(kites.test) == [(10, 0), (11, 0), (20, 1)]


def test_boxes_cut_out_their_part_of_the_image(data_dir):
    kites = datasets.load("kites", data_dir=data_dir, crop_to_bbox=True)
    # The box is 3 × 4 in an image of 6 × 8: a square of 4 / 0.875, rounded up.
    for image, label in pairs(kites.train):
        assert image.shape == (5, 5, 3)
        # Without the light corner.
        assert (image // 10 == label).all()


def test_files_are_cut_to_their_boxes_as_images_are(data_dir):
    cut = [
        datasets.batches(
            datasets.load(
                "kites", data_dir=data_dir, crop_to_bbox=True, decode=decode
            ).train,
            image_size=4,
            batch_size=20,
            training=False,
        )
        for decode in (True, False)
    ]
    (wanted, labels), (given, given_labels) = (next(iter(b)) for b in cut)
    np.testing.assert_array_equal(wanted, given)
    np.testing.assert_array_equal(labels, given_labels)


def test_gray_images_under_other_feature_names_become_rgb(data_dir):
    kites = datasets.load("kites_gray", data_dir=data_dir)
    for image, label in pairs(kites.train):
        assert image.shape == (6, 8, 3)
        assert (image // 10 == label).all()


def test_images_of_other_classes_are_not_decoded(data_dir):
    import tensorflow as tf

    kites = datasets.load("kites_damaged", data_dir=data_dir, classes="kite")
    assert kites.class_names == KITES[:2]
    assert (kites.train_size, kites.test_size) == (7, 3)
    assert len(pairs(kites.train)) == 7
    every = datasets.load("kites_damaged", data_dir=data_dir)
    with pytest.raises(tf.errors.InvalidArgumentError, match="kites_damaged"):
        pairs(every.train)


def test_a_partial_data_set_says_how_to_select_what_is_there(call, data_dir):
    datasets.load("kites_partial", data_dir=data_dir, classes="*")
    text = message(call, "kites_partial", data_dir=data_dir)
    assert text.startswith("2 of the 4 classes")
    assert "'0', '2'" in text
    assert "classes=" in text


@pytest.mark.parametrize("classes", ["*", "falcon"])
def test_names_come_from_the_records_where_labels_have_none(data_dir, classes):
    kites = datasets.load("kites_partial", data_dir=data_dir, classes=classes)
    assert kites.class_names == ("hobby_falcon", "stooping_falcon")
    assert (kites.train_size, kites.test_size) == (7, 3)
    # Labels 1 and 3 are now 0 and 1; the color still tells the old ones.
    assert [(c // 10, y) for c, y in colors(kites.test)] == [
        (1, 0),
        (3, 1),
        (3, 1),
    ]


def test_a_class_of_one_image_is_refused_trained_on_or_left_out(
    call, folder, draw
):
    draw(folder / "dove" / "0.png")
    text = message(call, folder)
    assert "1 of 4 classes have one image ('dove')" in text
    assert "single_images='train'" in text
    call(folder, single_images="drop")
    trained = datasets.load(folder, single_images="train")
    assert trained.class_names == ("crow", "dove", "jay", "rook")
    assert (trained.train_size, trained.test_size) == (13, 3)
    assert sorted(int(label) for _, label in pairs(trained.test)) == [0, 2, 3]
    left = datasets.load(folder, single_images="drop")
    assert left.class_names == ("crow", "jay", "rook")
    assert {int(label) for _, label in pairs(left.train)} == {0, 1, 2}
    photos = datasets.Photos.prepare(folder, single_images="drop")
    assert photos.class_names == left.class_names


def test_a_test_set_that_lacks_a_class_is_refused_or_allowed(
    call, data_dir, folder, draw
):
    for name in ("train", "test"):
        for kind in ("crow", "jay", "rook")[: 3 if name == "train" else 2]:
            draw(folder.parent / "split" / name / kind / "0.png")
    datasets.load("kites_no_osprey_in_test", data_dir=data_dir, **ALLOWED)
    for source in (folder.parent / "split", "kites_no_osprey_in_test"):
        text = message(call, source, data_dir=data_dir)
        assert "to test on" in text
        assert "missing_test_classes='allow'" in text
        birds = datasets.load(source, data_dir=data_dir, **ALLOWED)
        assert (birds.num_classes, birds.num_train_classes) == (3, 3)
        assert {int(label) for _, label in pairs(birds.test)} == {0, 1}


def test_a_class_that_is_tested_but_not_trained_is_named(data_dir):
    text = message(datasets.load, "kites_no_osprey_in_train", data_dir=data_dir)
    assert "no images of 'osprey' to train on" in text


@pytest.mark.parametrize(
    ("classes", "words"),
    [("osprey", "at least two"), ("blck", "'black_kite'"), ("", "non-empty")],
)
def test_a_selection_that_cannot_be_trained_on_is_refused(
    call, data_dir, classes, words
):
    datasets.load("kites", data_dir=data_dir)
    assert words in message(call, "kites", data_dir=data_dir, classes=classes)


def test_data_prepared_elsewhere_loads_without_its_builder(data_dir, tmp_path):
    rename_prepared("kites", data_dir, "foreign_kites", tmp_path)
    kites = datasets.load("foreign_kites", data_dir=tmp_path)
    assert (kites.class_names, kites.train_size) == (KITES, 12)


def test_labels_outside_the_class_names_are_found_at_the_data(
    call, data_dir, tmp_path
):
    folder = rename_prepared("kites", data_dir, "mixed_up_kites", tmp_path)
    features = json.loads((folder / "features.json").read_text())
    label = features["featuresDict"]["features"]["label"]["classLabel"]
    label["numClasses"] = "2"
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "label.labels.txt").write_text("red_kite\nblack_kite\n")
    text = message(call, "mixed_up_kites", data_dir=tmp_path)
    assert "[0, 2)" in text
    assert "such as 2" in text


def test_records_that_broke_off_are_named(call, data_dir, tmp_path):
    folder = rename_prepared("kites", data_dir, "short_kites", tmp_path)
    records = next(folder.glob("*train*"))
    records.write_bytes(records.read_bytes()[:-100])
    text = message(call, "short_kites", data_dir=tmp_path)
    assert "short_kites" in text
    assert "cannot be read" in text


def rename_prepared(name, data_dir, new_name, new_data_dir):
    """Copies a prepared data set to a name that has no builder class."""
    datasets.load(name, data_dir=data_dir)
    source = pathlib.Path(data_dir, name, "1.0.0")
    target = pathlib.Path(new_data_dir, new_name, "1.0.0")
    target.mkdir(parents=True)
    for file in source.iterdir():
        copy = target / file.name.replace(name, new_name)
        copy.write_bytes(file.read_bytes())
    info = (target / "dataset_info.json").read_text()
    info = info.replace(f'"name": "{name}"', f'"name": "{new_name}"')
    (target / "dataset_info.json").write_text(info)
    return target


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("caltech_bird2011", "'caltech_birds2011'"),
        ("Cars-196", "'cars196'"),
        ("Oxford_Flower102", "'oxford_flowers102'"),
        ("synthetic_bird", "'synthetic_birds'"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(call, tmp_path, name, near):
    assert near in message(call, name, data_dir=tmp_path)


def test_a_name_near_to_nothing_points_to_the_catalog(call):
    assert "catalog" in message(call, "zzzzqqqq")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("caltech_birds2011:9.9.9", "only: 0.2.0"),
        ("cifar10_corrupted/snowfall", "'brightness_1'"),
    ],
)
def test_an_unknown_version_or_configuration_is_refused(
    call, tmp_path, name, words
):
    assert words in message(call, name, data_dir=tmp_path)


def test_data_that_is_no_labeled_images_is_refused(call, data_dir):
    for name in ("kites_unlabeled", "imdb_reviews", "coco/2017"):
        text = message(call, name, data_dir=data_dir)
        assert "one class each" in text
    assert not pathlib.Path(data_dir, "imdb_reviews").exists()


def test_boxes_that_a_data_set_lacks_are_refused_before_it_is_fetched(
    call, tmp_path
):
    text = message(
        call, "oxford_flowers102", data_dir=tmp_path, crop_to_bbox=True
    )
    assert "'bbox'" in text


def test_a_folder_with_the_name_of_a_data_set_needs_its_path(
    data_dir, folder, monkeypatch
):
    folder.rename(folder.parent / "kites")
    monkeypatch.chdir(folder.parent)
    assert datasets.load("kites", data_dir=data_dir).class_names == KITES
    assert datasets.load("./kites").class_names == ("crow", "jay", "rook")


def test_a_bare_name_of_a_folder_is_a_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert datasets.load("birds").class_names == ("crow", "jay", "rook")


def test_check_prepares_nothing(tmp_path, builders):
    datasets.check("kites", tmp_path)
    assert not list(tmp_path.rglob("*"))


def test_dir_lists_the_public_names_and_no_others():
    assert dir(datasets) == sorted(datasets.__all__)
    assert dir(synthetic_birds) == sorted(synthetic_birds.__all__)


def test_importing_the_package_imports_no_data_library():
    code = (
        "import sys, keras_finegrain.datasets;"
        "print([m for m in ('tensorflow', 'tensorflow_datasets')"
        " if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named 'jax'" in result.stderr:
        pytest.skip("a backend other than TensorFlow is not installed")
    assert result.stdout.strip() == "[]", result.stderr


def test_the_sparrows_are_21_classes_in_the_official_split(sparrows):
    birds = datasets.load(
        "caltech_birds2011", data_dir=sparrows, classes="sparrow"
    )
    assert (birds.train_size, birds.test_size) == (629, 615)
    assert birds.num_classes == 21
    assert birds.class_names[0] == "baird_sparrow"
    assert birds.class_names[-1] == "white_throated_sparrow"
    for split, size in ((birds.train, 629), (birds.test, 615)):
        labels = [int(label) for _, label in pairs(split)]
        assert len(labels) == size
        assert sorted(set(labels)) == list(range(21))


def test_the_sparrows_alone_are_not_taken_for_all_birds(call, sparrows):
    text = message(call, "caltech_birds2011", data_dir=sparrows)
    assert text.startswith("179 of the 200 classes")


def test_the_sparrows_boxes_cut_them_out(sparrows):
    arguments = {"data_dir": sparrows, "classes": "sparrow"}
    whole = datasets.load("caltech_birds2011", **arguments)
    cut = datasets.load("caltech_birds2011", **arguments, crop_to_bbox=True)
    sizes = [
        (cut_image.size / image.size)
        for (image, _), (cut_image, _) in zip(
            whole.train.take(50).as_numpy_iterator(),
            cut.train.take(50).as_numpy_iterator(),
            strict=True,
        )
    ]
    assert 0.05 < np.mean(sizes) < 0.6

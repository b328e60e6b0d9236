import hashlib
import json
import pathlib

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from keras_finegrain import datasets  # noqa: E402
from keras_finegrain.datasets.synthetic_birds import (  # noqa: E402
    PART_POINTS,
    SyntheticBirds,
    SyntheticBirdsConfig,
    draw,
    species_table,
)

pytestmark = pytest.mark.one_backend

CUB = (
    "bbox",
    "image",
    "image/filename",
    "label",
    "label_name",
    "segmentation_mask",
)


def config(**changes):
    values = {
        "num_species": 3,
        "image_size": 40,
        "train_per_species": 4,
        "test_per_species": 2,
    }
    return SyntheticBirdsConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    builder = SyntheticBirds(
        data_dir=tmp_path_factory.mktemp("birds"), config=config()
    )
    builder.download_and_prepare()
    return builder


def examples(builder, split):
    return sorted(
        builder.as_dataset(split=split).as_numpy_iterator(),
        key=lambda example: example["image/filename"],
    )


def test_every_species_has_its_photos_in_both_splits(builder):
    for split, count in (("train", 4), ("test", 2)):
        labels = [int(e["label"]) for e in examples(builder, split)]
        np.testing.assert_array_equal(np.bincount(labels), [count] * 3)


def test_no_photo_is_in_both_splits(builder):
    photos = [
        example["image"].tobytes()
        for split in ("train", "test")
        for example in examples(builder, split)
    ]
    assert len(set(photos)) == len(photos) == 18


def test_the_mask_box_and_parts_that_are_stored_belong_together(builder):
    for example in examples(builder, "train"):
        mask = example["segmentation_mask"]
        assert mask.shape == (40, 40, 1)
        assert set(np.unique(mask)) == {0, 255}
        ymin, xmin, ymax, xmax = np.rint(example["bbox"] * 40).astype(int)
        rows, columns, _ = np.nonzero(mask)
        assert (rows.min(), rows.max() + 1) == (ymin, ymax)
        assert (columns.min(), columns.max() + 1) == (xmin, xmax)
        parts = example["parts"]
        np.testing.assert_array_equal(parts["name"], range(15))
        assert parts["x"].min() >= 0.0
        assert parts["y"].max() <= 1.0
        assert 0 < parts["visible"].sum() <= 13


def test_labels_names_and_descriptions_agree_with_the_table(builder):
    table = species_table(3, 2)
    assert builder.info.features["label"].names == [s.name for s in table]
    assert builder.info.features["parts"]["name"].names == list(PART_POINTS)
    for example in examples(builder, "test"):
        species = table[int(example["label"])]
        assert example["label_name"].decode() == species.name
        description = builder.species_description(int(example["label"]))
        assert description == species.description


def test_the_same_configuration_gives_the_same_photos(builder, tmp_path):
    again = SyntheticBirds(data_dir=tmp_path, config=config())
    again.download_and_prepare()
    for first, second in zip(
        examples(builder, "train"), examples(again, "train"), strict=True
    ):
        np.testing.assert_array_equal(first["image"], second["image"])
        np.testing.assert_array_equal(first["bbox"], second["bbox"])


def test_more_photos_keep_the_old_ones_and_a_seed_changes_all(
    builder, tmp_path
):
    photos = {}
    for name, changes in {
        "more": {"train_per_species": 6, "num_species": 4},
        "seed": {"seed": 1},
    }.items():
        other = SyntheticBirds(data_dir=tmp_path, config=config(**changes))
        other.download_and_prepare()
        photos[name] = {e["image"].tobytes() for e in examples(other, "train")}
    first = {e["image"].tobytes() for e in examples(builder, "train")}
    assert first < photos["more"]
    assert not first & photos["seed"]


def test_the_plumages_of_a_species_take_turns(builder, tmp_path):
    table = species_table(6, 2)
    two = SyntheticBirds(data_dir=tmp_path, config=config(plumages=2))
    two.download_and_prepare()
    assert two.info.features["label"].names == [s.name for s in table[:3]]
    assert two.species_description(1) == (
        f"{table[1].description}; or {table[4].description}"
    )
    # The first photo is in the first plumage, and so is that of a species
    # that has no other; the second photo is of the same scene in the second.
    pairs = zip(examples(builder, "train"), examples(two, "train"), strict=True)
    for plain, turned in pairs:
        assert plain["image/filename"] == turned["image/filename"]
        label, name = int(turned["label"]), turned["image/filename"].decode()
        number = int(pathlib.PurePath(name).stem.removeprefix("train_"))
        is_same = np.array_equal(plain["image"], turned["image"])
        assert is_same == (number % 2 == 0)
        if not is_same:
            key = f"0/train/{table[label].name}/{number}"
            digest = hashlib.sha256(key.encode()).digest()
            seed = np.frombuffer(digest, "<u4").tolist()
            image, _ = draw(table[label + 3], seed, 40)
            np.testing.assert_array_equal(turned["image"], image)


def test_the_features_are_named_as_in_caltech_birds2011(builder):
    assert set(builder.info.features) == {*CUB, "parts"}
    assert builder.info.supervised_keys == ("image", "label")
    assert isinstance(builder.info.features["bbox"], tfds.features.BBoxFeature)
    # What other readers than this class will find.
    stored = json.loads(
        (pathlib.Path(builder.data_path) / "features.json").read_text()
    )
    assert set(stored["featuresDict"]["features"]) == {*CUB, "parts"}


def test_tfds_finds_it_by_name(tmp_path):
    dataset, info = tfds.load(
        "synthetic_birds/tiny",
        data_dir=tmp_path,
        split="train",
        as_supervised=True,
        with_info=True,
    )
    assert info.features["label"].num_classes == 4
    assert len(dataset) == 32
    image, _ = next(iter(dataset))
    assert image.shape == (48, 48, 3)


def test_the_package_loads_it_by_name(tmp_path):
    birds = datasets.load("synthetic_birds/tiny", data_dir=tmp_path)
    assert len(birds.class_names) == 4


def test_a_prepared_folder_is_read_without_this_class(builder):
    plain = tfds.builder_from_directory(builder.data_path)
    assert plain.info.splits["train"].num_examples == 12


def test_default_configurations_keep_their_folder_apart(tmp_path):
    names = [c.name for c in SyntheticBirds.BUILDER_CONFIGS]
    assert len(set(names)) == len(names)
    free = {config().name, config(seed=1).name, config(parts_apart=1).name}
    assert len(free) == 3
    assert SyntheticBirds(data_dir=tmp_path).builder_config.name == "default"
    large = SyntheticBirds(data_dir=tmp_path, config="200_species")
    assert large.info.features["label"].num_classes == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_species": 1}, r"num_species must be at least 2.*received 1 "),
        ({"num_species": 300}, "num_species .* at most 256 for parts_apart=2"),
        ({"num_species": 1, "plumages": 3}, "num_species must be at least 2"),
        ({"num_species": 90, "plumages": 3}, r"at most 256.*received 90 \* 3"),
        ({"plumages": 0}, "plumages must be an integer of at least 1"),
        ({"num_species": 2.0}, "num_species must be an integer.*received 2.0"),
        ({"num_species": 100, "parts_apart": 4}, "at most 64 .*received 100"),
        ({"parts_apart": 0}, "parts_apart must be an integer of at least 1"),
        ({"parts_apart": 8}, r"parts_apart.*received 8"),
        ({"image_size": 31}, "image_size must be at least 32 pixels"),
        ({"train_per_species": 0}, "train_per_species must be.*received 0"),
        ({"test_per_species": True}, "test_per_species.*received True"),
        ({"seed": -1}, r"seed must be an integer in \[0, 4294967296\)"),
        ({"seed": 1.0}, "seed must be an integer.*received 1.0"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_an_unknown_configuration_is_refused(tmp_path):
    with pytest.raises(ValueError, match="four_parts"):
        SyntheticBirds(data_dir=tmp_path, config="four_parts")


@pytest.mark.parametrize("label", [-1, 3])
def test_the_description_of_no_species_is_refused(builder, label):
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\)"):
        builder.species_description(label)

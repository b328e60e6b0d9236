"""Bad arguments of metrics, pictures, data sets, report and callbacks."""

import functools
import inspect
import pathlib

import keras
import matplotlib
import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

import keras_finegrain
from keras_finegrain import datasets, layers, losses, metrics, visualization
from tests.robustness.constructors_test import BAD
from tests.robustness.table import Error, Row, Value, check, unique

pytestmark = pytest.mark.one_backend
matplotlib.use("Agg")

NAN, INF = float("nan"), float("inf")
DRAW = np.random.default_rng(0)
E = DRAW.normal(size=(12, 4)).astype("float32")
Y = np.arange(12) % 3
NAMES = ["crow", "jay", "rook"]
PHOTOS = DRAW.integers(0, 255, (12, 8, 8, 3)).astype("uint8")
CENTERS = DRAW.normal(size=(3, 4)).astype("float32")
KNOWN = {
    r"^heat_map_overlay heat_map empty$": "the backend's own words",
    r"^embedding_model (none|text)$": "Python's own words",
    r"^class_channels (label array|channels_per_class)": (
        "the rules of MCLoss, without the function's name"
    ),
}

BAD_EMBEDDINGS = {
    "none": None,
    "text": "a",
    "no_sample": E[:0],
    "one_axis": E[:, 0],
    "three_axes": E[None],
    "no_dim": E[:, :0],
    "nan": np.where(np.arange(48).reshape(12, 4) == 5, NAN, E),
    "infinite": np.where(np.arange(48).reshape(12, 4) == 5, INF, E),
    "complex": E.astype("complex64"),
    "words": np.array([["a"] * 4] * 12),
    "objects": np.array([[None] * 4] * 12),
    "ragged": [[1.0, 2.0], [3.0]],
}
BAD_LABELS = {
    "none": None,
    "text": "a",
    "eleven": Y[:11],
    "thirteen": np.append(Y, 0),
    "no_sample": Y[:0],
    "fractions": Y + 0.5,
    "nan": np.where(Y == 0, NAN, Y),
    "words": np.array(["a", "b", "c"] * 4),
    "complex": Y.astype("complex64"),
    "three_axes": np.eye(3)[Y][None],
    "two_ones": np.maximum(np.eye(3)[Y], np.eye(3)[0]) + np.eye(3)[1],
}
# Seeds and numbers as everywhere.
SEEDS = {k: v for k, v in BAD["seed"].items() if k != "list"}
COUNTS = BAD["count"]
ON_SETS = {
    "ami": {"distance": "choice", "seed": "seed", "restarts": "count"},
    "nmi": {"distance": "choice", "seed": "seed", "restarts": "count"},
    "embedding_metrics": {
        "metrics": "names",
        "distance": "choice",
        "confidence": "share",
        "seed": "seed",
        "chunk_size": "count",
    },
    "intra_inter_distance_ratio": {
        "distance": "choice",
        "chunk_size": "count",
    },
    "knn_accuracy": {"k": "count", "distance": "choice", "chunk_size": "count"},
    "map_at_r": {"distance": "choice", "chunk_size": "count"},
    "nearest_class_confusions": {"distance": "choice", "chunk_size": "count"},
    "precision_at_k": {
        "k": "count",
        "distance": "choice",
        "chunk_size": "count",
    },
    "r_precision": {"distance": "choice", "chunk_size": "count"},
    "recall_at_k": {"k": "count", "distance": "choice", "chunk_size": "count"},
    "silhouette": {"distance": "choice"},
}


def metric_rows(name):
    function = getattr(metrics, name)
    for what, bad in BAD_EMBEDDINGS.items():
        yield Row(
            f"{name} embeddings {what}",
            functools.partial(function, bad, Y),
            Error(name, ("embeddings", "labels")),
        )
    for what, bad in BAD_LABELS.items():
        yield Row(
            f"{name} labels {what}",
            functools.partial(function, E, bad),
            Error(name, "labels"),
        )
    if name not in ("ami", "nmi"):
        yield Row(
            f"{name} of samples that are each alone in their class",
            functools.partial(function, E, np.arange(12)),
            Error(name),
        )
    for argument, rule in ON_SETS[name].items():
        for what, bad in BAD[rule].items():
            yield Row(
                f"{name} {argument} {what}",
                functools.partial(function, E, Y, **{argument: bad}),
                Error(name, argument),
            )
    if "k" in ON_SETS[name]:
        for bad in (12, 1000, 10**30):
            yield Row(
                f"{name} k={bad} of 11 neighbours",
                functools.partial(function, E, Y, k=bad),
                Error(name, "k must"),
            )
        gallery = {
            "without labels": {"gallery_embeddings": E},
            "labels alone": {"gallery_labels": Y},
            "of another dim": {
                "gallery_embeddings": E[:, :2],
                "gallery_labels": Y,
            },
            "of another length": {
                "gallery_embeddings": E,
                "gallery_labels": Y[:3],
            },
            "of NaN": {"gallery_embeddings": E * NAN, "gallery_labels": Y},
            "of other classes": {
                "gallery_embeddings": E,
                "gallery_labels": Y + 7,
            },
        }
        for what, arguments in gallery.items():
            yield Row(
                f"{name} gallery {what}",
                functools.partial(function, E, Y, **arguments),
                Error(name, "gallery"),
            )
    if name not in ("nmi", "ami", "nearest_class_confusions"):
        plain = function(E, Y)
        value = plain
        if name == "embedding_metrics":
            value = [estimate.value for estimate in plain.values()]

        def scaled(factor):
            rows = E.astype("float64") * factor
            found = function(rows, Y)
            if name == "embedding_metrics":
                return [estimate.value for estimate in found.values()]
            return found

        for factor in (1e-300, 1e-25, 1e25, 1e300):
            yield Row(
                f"{name} of embeddings times {factor:g}",
                functools.partial(scaled, factor),
                Value(value, 1e-6),
            )


@pytest.mark.parametrize("name", ON_SETS)
def test_metrics_of_embeddings(name):
    check(unique(list(metric_rows(name))), KNOWN)


MAPS = DRAW.uniform(size=(4, 2, 2))
MASKS = np.ones((4, 3, 4, 4), bool)
FEATURES = DRAW.uniform(size=(4, 2, 2, 6))
CHANNELS = np.tile([0, 1], (4, 1))
SHARES = DRAW.uniform(size=(4, 3))
SCORES = DRAW.dirichlet(np.ones(3), 4)
WITHOUT = DRAW.dirichlet(np.ones(3), (4, 3))
PART_CALLS = {
    "part_shares": {"heat_maps": MAPS, "part_masks": MASKS},
    "deciding_part_coverage": {"heat_maps": MAPS, "masks": MASKS[:, 0]},
    "channel_part_diversity": {
        "feature_maps": FEATURES,
        "part_masks": MASKS,
        "channels": CHANNELS,
    },
    "part_deletion_drops": {
        "probabilities": SCORES,
        "probabilities_without": WITHOUT,
        "labels": np.array([0, 1, 2, 0]),
    },
    "single_deletion_correlation": {"part_shares": SHARES, "drops": SHARES},
}


def part_rows(name):
    function, good = getattr(metrics, name), PART_CALLS[name]
    for argument, value in good.items():
        bad = {
            "none": None,
            "text": "a",
            "one_fewer": value[:3],
            "no_image": value[:0],
            "flat": np.ravel(value)[:1],
            "complex": value.astype("complex64"),
            "more_axes": value[None],
        }
        if value.dtype.kind == "f":
            bad["nan"] = value * NAN
        else:
            bad["fractions"] = value + 0.5
        if argument in ("channels", "labels"):
            bad["negative"] = value - 5
            bad["too_large"] = value + 50
        if argument in ("heat_maps", "probabilities", "probabilities_without"):
            bad["negative"] = value - 2
        for what, wrong in bad.items():
            yield Row(
                f"{name} {argument} {what}",
                functools.partial(function, **{**good, argument: wrong}),
                Error(name, tuple(good)),
            )


@pytest.mark.parametrize("name", PART_CALLS)
def test_metrics_of_parts(name):
    check(unique(list(part_rows(name))), KNOWN)


PICTURES = {
    "center_distances": {"centers": CENTERS},
    "center_images": {
        "centers": CENTERS,
        "embeddings": E,
        "labels": Y,
        "images": PHOTOS,
    },
    "class_grid": {"images": PHOTOS, "labels": Y},
    "embedding_scatter": {"embeddings": E, "labels": Y, "method": "pca"},
    "retrieval_gallery": {"images": PHOTOS, "embeddings": E, "labels": Y},
    "look_alike_confusions": {"labels": Y, "predictions": Y[::-1].copy()},
    "heat_map_overlay": {"image": PHOTOS[0], "heat_map": MAPS[0]},
    "channel_overlay": {
        "image": PHOTOS[0],
        "feature_map": FEATURES[0],
        "channels": [0, 1],
    },
    "channel_strip": {
        "image": PHOTOS[0],
        "feature_map": FEATURES[0],
        "channels": [0, 1],
    },
    "class_channels": {"num_channels": 6, "num_classes": 3, "label": 0},
    "class_styles": {"num_classes": 3},
    "learning_curves": {
        "histories": {"a": {"val_accuracy": [0.1, 0.2]}},
    },
    "embedding_comparison": {
        "embeddings_by_name": {"a": E},
        "labels": Y,
        "method": "pca",
    },
    "embedding_animation": {
        "frames": [E, E],
        "labels": Y,
        "path": "never_written.gif",
    },
    "save_figure": {
        "ax_or_figure": matplotlib.figure.Figure(),
        "path": "never_written.png",
    },
}
FOUR_AXES = {"none": None, "text": "a", "one_axis": np.ones(12)}
PICTURE_ARGUMENTS = {
    "centers": {
        "text": "a",
        "one_axis": CENTERS[0],
        "no_class": CENTERS[:0],
        "nan": CENTERS * NAN,
        "complex": CENTERS.astype("complex64"),
        "words": np.array([["a"] * 4] * 3),
    },
    "embeddings": {
        k: v
        for k, v in BAD_EMBEDDINGS.items()
        if k not in ("objects", "ragged")
    },
    "labels": {**BAD_LABELS, "negative": Y - 1},
    "predictions": {**BAD_LABELS, "negative": Y - 1},
    "images": {
        "none": None,
        "text": "a",
        "eleven": PHOTOS[:11],
        "two_axes": PHOTOS[..., 0, 0],
        "two_channels": PHOTOS[..., :2],
        "negative": PHOTOS.astype("float32") - 300,
        "too_bright": PHOTOS.astype("float32") + 300,
        "nan": PHOTOS * NAN,
        "complex": PHOTOS.astype("complex64"),
    },
    "image": {
        "none": None,
        "text": "a",
        "one_axis": PHOTOS[0, 0, 0],
        "four_axes": PHOTOS,
        "nan": PHOTOS[0] * NAN,
        "too_bright": PHOTOS[0].astype("float32") + 300,
        "complex": PHOTOS[0].astype("complex64"),
    },
    "heat_map": {
        "none": None,
        "text": "a",
        "one_axis": MAPS[0, 0],
        "three_axes": MAPS,
        "nan": MAPS[0] * NAN,
        "empty": MAPS[0, :0],
        "complex": MAPS[0].astype("complex64"),
    },
    "feature_map": {
        "none": None,
        "text": "a",
        "two_axes": FEATURES[0, 0],
        "four_axes": FEATURES,
        "nan": FEATURES[0] * NAN,
        "complex": FEATURES[0].astype("complex64"),
    },
    "channels": {
        "none": None,
        "text": "a",
        "empty": [],
        "negative": [-1],
        "too_large": [6],
        "fractions": [0.5],
        "number": 1,
        "booleans": [True, False],
    },
    "class_names": {
        "text": "abc",
        "too_few": ["a", "b"],
        "number": 3,
        "numbers": [1, 2, 3],
    },
    "images_per_class": BAD["count"],
    "images_per_center": BAD["count"],
    "neighbours": BAD["count"],
    "most": {k: v for k, v in BAD["count"].items() if k not in ("none",)}
    | {"one": 1},
    "distance": BAD["choice"],
    "method": BAD["choice"],
    "seed": BAD["seed"],
    "num_classes": {k: v for k, v in BAD["count"].items() if k != "zero"},
    "num_channels": BAD["count"],
    "label": {**BAD["integer"], "negative": -1, "too_large": 3},
    "channels_per_class": BAD["channels"],
    "frames_per_second": BAD["positive"],
    "dpi": BAD["positive"],
    "histories": {
        "none": None,
        "text": "a",
        "empty": {},
        "list": [1],
        "numbers": {"a": 3},
    },
    "metric": {"none": None, "text": "a", "number": 3},
    "embeddings_by_name": {
        "none": None,
        "text": "a",
        "empty": {},
        "array": E,
        "nan": {"a": E * NAN},
        "eleven": {"a": E[:11]},
    },
    "frames": {
        "none": None,
        "text": "a",
        "empty": [],
        "nan": [E * NAN],
        "two_dims": [E, E[:, :2]],
        "one_axis": [E[:, 0]],
    },
    "path": {
        "ending": "a.xyz",
    },
    "ax_or_figure": {"none": None, "text": "a", "number": 3},
    "queries": {
        "negative": [-1],
        "too_large": [12],
        "fractions": [0.5],
        "empty": [],
        "text": "a",
        "words": ["a"],
        "booleans": [True],
    },
    "classes": {
        "negative": [-1],
        "too_large": [3],
        "fractions": [0.5],
        "empty": [],
        "text": "a",
    },
    "ax": {"text": "a", "number": 3},
    "title": {},
    "titles": {"one": ["a"], "number": 3},
    "parts": {
        "list": [1],
        "text": "a",
        "outside": {"eye": (2.0, 0.5)},
        "nan": {"eye": (NAN, 0.5)},
        "one": {"eye": (0.5,)},
    },
}
# Where an argument is checked by what it belongs to.
ALSO = {
    "labels": ("labels", "images", "embeddings", "class_names", "predictions"),
    "images": ("images", "image", "labels must have"),
    "embeddings": ("embeddings", "images", "labels", "centers"),
    "embeddings_by_name": ("embeddings", "centers", "labels must have"),
    "predictions": ("predictions", "labels"),
    "frames": ("frame",),
    "histories": ("histories", "history"),
    "num_channels": ("num_channels", "channels"),
    "num_classes": ("num_classes", "channels", "class"),
    "channels_per_class": ("channels_per_class", "channels"),
}


def picture_rows(name):
    function, good = getattr(visualization, name), PICTURES[name]
    for argument in inspect.signature(function).parameters:
        for what, bad in PICTURE_ARGUMENTS.get(argument, {}).items():
            yield Row(
                f"{name} {argument} {what}",
                functools.partial(function, **{**good, argument: bad}),
                Error(
                    # (The rule of `ax` is that of all pictures.)
                    (name, "visualization") if argument == "ax" else name,
                    ALSO.get(argument, argument),
                ),
            )


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name):
    import matplotlib.pyplot as plt

    try:
        check(unique(list(picture_rows(name))), KNOWN)
    finally:
        plt.close("all")
    assert not list(pathlib.Path().glob("never_written*"))


def finite_scatter(axis):
    return all(
        np.isfinite(np.asarray(points.get_offsets())).all()
        for points in axis.collections
    )


def scatter_rows():
    """Sets with nothing to spread: drawn, and the process lives."""
    one = np.ones((12, 4), "float32")
    two = np.where(Y[:, None] == 0, one, -one)
    sets = {
        "equal": (one, Y),
        "zeros": (0 * one, Y),
        "two points": (two, Y),
        "one sample": (E[:1], Y[:1]),
        "two samples": (E[:2], Y[:2]),
        "three samples": (E[:3], Y[:3]),
        "one dim": (E[:, :1], Y),
        "large": (E * np.float32(1e30), Y),
        "small": (E * np.float32(1e-30), Y),
    }
    for method in ("auto", "tsne", "pca"):
        for what, (embeddings, labels) in sets.items():
            yield Row(
                f"embedding_scatter {method} {what}",
                functools.partial(
                    visualization.embedding_scatter,
                    embeddings,
                    labels,
                    method=method,
                ),
                Value(finite_scatter),
            )


# (A fault here kills the process: it has one of its own.)
SCATTER = """
import matplotlib
matplotlib.use("Agg")
from tests.robustness import sets_test
sets_test.check(list(sets_test.scatter_rows()), sets_test.KNOWN)
"""


def test_scatters_with_nothing_to_spread():
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", SCATTER],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-1500:])


def small_model():
    model = keras_finegrain.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 3),
            keras.layers.GlobalAveragePooling2D(),
            layers.SoftTriple(3, 2),
        ]
    )
    model.compile("sgd", losses.SoftTripleLoss(), metrics=["accuracy"])
    return model


def model_rows(tmp_path):
    """The report, Grad-CAM and the embedding of a model."""
    model = small_model()
    photos = PHOTOS.astype("float32")
    page = tmp_path / "page"
    data = {
        "none": None,
        "text": "a",
        "photos alone": photos,
        "eleven labels": (photos, Y[:11]),
        "labels outside of the head": (photos, Y + 1),
        "negative labels": (photos, Y - 1),
        "fractions": (photos, Y + 0.5),
        "words": (photos, np.array(list("abc") * 4)),
        "nothing": (photos[:0], Y[:0]),
        "another size": (photos[:, :2], Y),
        "NaN": (photos * NAN, Y),
    }
    for what, bad in data.items():
        yield Row(
            f"report data {what}",
            lambda bad=bad: keras_finegrain.report(model, bad, page),
            Error(
                ("report", "embed", "incompatible with the layer"),
                ("data", "label", "image", "embedding", "shape"),
            ),
        )
    rules = {
        "class_names": PICTURE_ARGUMENTS["class_names"],
        "batch_size": BAD["count"],
        "seed": BAD["seed"],
        "model": {"none": None, "text": "a", "layer": model.layers[0]},
        "layer": {"unknown": "a", "number": 3},
        "to_photo": {"text": "a", "number": 3},
    }
    for argument, values in rules.items():
        for what, bad in values.items():
            good = {"model": model, "data": (photos, Y), "output": page}
            yield Row(
                f"report {argument} {what}",
                functools.partial(
                    keras_finegrain.report, **{**good, argument: bad}
                ),
                Error(("report", "embedding_model"), argument),
            )
    two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    pooled = [keras.layers.GlobalAveragePooling2D()(i) for i in two]
    of_two = keras.Model(two, keras.layers.Dense(3)(sum(pooled)))
    image = photos[0]
    for what, arguments in {
        "image none": {"image": None},
        "image text": {"image": "a"},
        "image NaN": {"image": image * NAN},
        "image of another size": {"image": image[:2, :2]},
        "image of one channel": {"image": image[..., :1]},
        "image of one axis": {"image": image[0, 0]},
        "image complex": {"image": image.astype("complex64")},
        "class_index negative": {"class_index": -1},
        "class_index too large": {"class_index": 3},
        "class_index fraction": {"class_index": 0.5},
        "class_index text": {"class_index": "a"},
        "class_index true": {"class_index": True},
        "layer unknown": {"layer": "a"},
        "layer number": {"layer": 3},
        "model none": {"model": None},
        "model text": {"model": "a"},
        "model of two inputs": {"model": of_two},
    }.items():
        yield Row(
            f"grad_cam {what}",
            functools.partial(
                visualization.grad_cam,
                **{"model": model, "image": image, **arguments},
            ),
            Error("grad_cam", what.split()[0]),
        )
    for what, arguments in {
        "none": {"model": None},
        "text": {"model": "a"},
        "not built": {
            "model": keras.Sequential([keras.layers.Dense(3)]),
        },
        "layer unknown": {"model": model, "layer": "a"},
        "layer number": {"model": model, "layer": 3},
        "layer of another model": {
            "model": model,
            "layer": keras.layers.Dense(3),
        },
    }.items():
        yield Row(
            f"embedding_model {what}",
            functools.partial(keras_finegrain.embedding_model, **arguments),
            Error("embedding_model"),
        )


def test_models(tmp_path):
    check(unique(list(model_rows(tmp_path))), KNOWN)


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PHOTOS[0]).save(path)


def tree(root, *folders):
    """A folder of two classes of three images in each of some folders."""
    for folder in folders or [""]:
        for name in ("crow", "jay"):
            for number in range(3):
                draw(root / folder / name / f"{number}.png")
    return root


def load(root, **arguments):
    return datasets.load(root, **arguments)


def classes_of(root, **arguments):
    found = load(root, **arguments)
    return found.class_names, found.train_size, found.test_size


def folder_rows(tmp_path):
    two = ("crow", "jay")
    for train, test in {
        "train": "test",
        "Train": "Test",
        "TRAIN": "TEST",
        "training": "testing",
        "Training": "Test",
        "trainset": "testset",
        "train_images": "test_images",
        "cars_train": "cars_test",
    }.items():
        root = tree(tmp_path / f"{train}-{test}", train, test)
        yield Row(
            f"split folders {train} and {test}",
            functools.partial(classes_of, root),
            Value(lambda found: found == (two, 6, 6)),
        )
    for train, test in {
        "train": "val",
        "training": "valid",
        "Train": "validation",
        "trn": "dev",
    }.items():
        root = tree(tmp_path / f"{train}-{test}", train, test)
        yield Row(
            f"split folders {train} and {test} are no classes",
            functools.partial(_classes_or_error, root),
            Value(lambda found: found in ("error", two)),
        )
    for name in ("one", "two"):
        for which in ("train", "test"):
            draw(tmp_path / f"flat_{name}" / which / "0.png")
            draw(tmp_path / f"flat_{name}" / which / "1.png")
    yield Row(
        "flat train and test folders",
        functools.partial(load, tmp_path / "flat_one"),
        Error(("train", "test")),
    )
    root = tree(tmp_path / "twice", "train", "Train2", "test")
    yield Row(
        "two train folders",
        functools.partial(_classes_or_error, root),
        Value(lambda found: found in ("error", two)),
    )
    plain = tree(tmp_path / "plain")
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text" / "crow"
    text.mkdir(parents=True)
    (text / "a.txt").write_text("a")
    broken = tree(tmp_path / "broken")
    (broken / "crow" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    for function in (datasets.load, datasets.check):
        name = function.__name__
        for what, bad in {
            "no folder": tmp_path / "nowhere",
            "a file": plain / "crow" / "0.png",
            "an empty folder": empty,
            "no images": text.parent,
        }.items():
            yield Row(
                f"{name} of {what}",
                functools.partial(function, bad),
                Error(str(bad)),
            )
        for what, bad in {"none": None, "number": 3, "list": []}.items():
            yield Row(
                f"{name} name {what}",
                functools.partial(function, bad),
                Error("name"),
            )
        for what, bad in {
            "number": 3,
            "empty": "",
            "unknown": "owl",
            "list": ["crow"],
        }.items():
            yield Row(
                f"{name} classes {what}",
                functools.partial(function, plain, classes=bad),
                Error("classes"),
            )
    if "splits" in inspect.signature(datasets.load).parameters:
        for what, bad in {
            "text": "train",
            "one": ["train"],
            "number": 3,
            "unknown": ["a", "b"],
            "twice": ["crow", "crow"],
        }.items():
            yield Row(
                f"load splits {what}",
                functools.partial(load, plain, splits=bad),
                Error("splits"),
            )
    for what, bad in {
        **BAD["number"],
        "zero": 0,
        "one": 1,
        "negative": -0.1,
        "text_of_number": "0.2",
    }.items():
        yield Row(
            f"load test_fraction {what}",
            functools.partial(load, plain, test_fraction=bad),
            Error("test_fraction"),
        )
    for what, bad in BAD["seed"].items():
        yield Row(
            f"load seed {what}",
            functools.partial(load, plain, seed=bad),
            Error("seed"),
        )
    for what, bad in BAD["boolean"].items():
        yield Row(
            f"load crop_to_bbox {what}",
            functools.partial(load, plain, crop_to_bbox=bad),
            Error("crop_to_bbox"),
        )
    yield Row(
        "a broken file",
        functools.partial(datasets.check, broken),
        Error("0.png"),
    )


def _classes_or_error(root):
    try:
        return load(root).class_names
    except (ValueError, OSError):
        return "error"


def test_folders(tmp_path):
    check(unique(list(folder_rows(tmp_path))), KNOWN)


def batch_rows(tmp_path):
    import tensorflow as tf

    def first_batch(function, dataset, **given):
        return next(iter(function(dataset, **given)))

    def pairs(images=PHOTOS, labels=Y):
        return tf.data.Dataset.from_tensor_slices((images, labels))

    good = {
        "batches": {"image_size": 8, "batch_size": 4, "training": False},
        "balanced_batches": {
            "image_size": 8,
            "classes_per_batch": 2,
            "images_per_class": 2,
        },
    }
    rules = {
        "image_size": BAD["count"],
        "batch_size": BAD["count"],
        "classes_per_batch": {**BAD["count"], "one": 1, "too_many": 4},
        "images_per_class": {**BAD["count"], "one": 1},
        "training": {**BAD["boolean"], "word": "no"},
        "drop_remainder": BAD["boolean"],
        "augment": BAD["choice"],
        "seed": BAD["seed"],
        "cache": {"none": None, "number": 3, "list": []},
    }
    for name, arguments in good.items():
        function = getattr(datasets, name)
        for argument in inspect.signature(function).parameters:
            for what, bad in rules.get(argument, {}).items():
                yield Row(
                    f"{name} {argument} {what}",
                    functools.partial(
                        first_batch,
                        function,
                        pairs(),
                        **{**arguments, argument: bad},
                    ),
                    Error(name, argument),
                )
        for what, bad in {
            "none": None,
            "text": "a",
            "arrays": (PHOTOS, Y),
            "images alone": tf.data.Dataset.from_tensor_slices(PHOTOS),
            "batches": pairs().batch(2),
            "two axes": pairs(PHOTOS[..., 0]),
            "complex": pairs(PHOTOS.astype("complex64")),
            "words": pairs(PHOTOS[..., :1].astype("str")),
            "int64": pairs(PHOTOS.astype("int64")),
        }.items():
            yield Row(
                f"{name} of {what}",
                lambda function=function, given=arguments, bad=bad: next(
                    iter(function(bad, **given))
                ),
                Error(name, ("dataset", "image", "dtype")),
            )

    def pixels(images):
        found = datasets.batches(
            pairs(images), image_size=8, batch_size=12, training=False
        )
        return next(iter(found))[0].numpy().astype("float64")

    # (The central crop, resized.)
    right = pixels(PHOTOS)

    def whole(images):
        """The pixels; those of uint8 where they were refused."""
        try:
            return pixels(images)
        except (ValueError, TypeError):
            return right

    close = Value(lambda found: np.abs(found - right).max() < 1.5)
    unit = PHOTOS.astype("float32") / 255
    for what, images in {
        "float32 in [0, 255]": PHOTOS.astype("float32"),
        "float32 in [0, 1]": unit,
        "float32 in [-1, 1]": 2 * unit - 1,
        "float16 in [0, 1]": unit.astype("float16"),
        "uint16": PHOTOS.astype("uint16") * 257,
        "int32": PHOTOS.astype("int32"),
    }.items():
        yield Row(
            f"batches of {what} are the photos or refused",
            functools.partial(whole, images),
            close,
        )


def test_batches(tmp_path):
    check(unique(list(batch_rows(tmp_path))), KNOWN)


def optimizer_and_scope_rows():
    def fit(callback):
        model = small_model()
        model.fit(PHOTOS.astype("float32"), Y, callbacks=[callback], verbose=0)

    photos = PHOTOS.astype("float32")
    bad = {
        "none": None,
        "text": "a",
        "photos alone": photos,
        "eleven": (photos, Y[:11]),
        "nothing": (photos[:0], Y[:0]),
    }
    for name, arguments in {
        "EmbeddingMetrics": {},
        "EmbeddingRecorder": {},
    }.items():
        made = getattr(keras_finegrain.callbacks, name)
        for what, data in bad.items():
            yield Row(
                f"{name} data {what}",
                lambda made=made, data=data, arguments=arguments: fit(
                    made(data, **arguments)
                ),
                Error(("data", "embed", "label")),
            )
        yield Row(
            f"{name} layer unknown",
            lambda made=made: fit(made((photos, Y), layer="a")),
            Error("layer"),
        )
    model = small_model()
    rate = keras_finegrain.optimizers.LayerwiseLearningRate

    def train(optimizer):
        model.compile(optimizer, losses.SoftTripleLoss())
        model.fit(photos, Y, verbose=0)

    yield Row(
        "LayerwiseLearningRate of a pattern without a weight",
        lambda: train(rate("sgd", {"nowhere/": 2.0})),
        Error("LayerwiseLearningRate", "nowhere/"),
    )
    yield Row(
        "LayerwiseLearningRate around itself",
        lambda: rate(rate("sgd", {"a": 2.0}), {"b": 2.0}),
        Error("LayerwiseLearningRate"),
    )


def test_callbacks_and_the_optimizer():
    check(unique(list(optimizer_and_scope_rows())), KNOWN)

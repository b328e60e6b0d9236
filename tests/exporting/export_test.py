"""A file gives what Keras gives, for every model that can be trained here."""

import json
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain import export, losses
from keras_finegrain.embedding import embedding_model
from keras_finegrain.exporting.export import _BACKENDS
from tests.exporting.clients import ENDINGS, assert_same, run

BACKEND = keras.backend.backend()
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "export.md"


def writes(format):
    """Whether Keras writes the format here."""
    needed = _BACKENDS[format].get(BACKEND, "nothing")
    return needed is None


needs = {
    format: pytest.mark.skipif(
        not writes(format), reason=f"Keras writes no {format} from {BACKEND}"
    )
    for format in ENDINGS
}


def written(format):
    return pytest.param(format, marks=needs[format])


def draw(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (count, 8, 8, 3)).astype("float32")


def backbone():
    return [
        keras.Input((8, 8, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(6, 3, activation="relu"),
    ]


def with_head(*head, kind=keras.Sequential):
    return kind([*backbone(), keras.layers.GlobalAveragePooling2D(), *head])


def dense():
    return with_head(keras.layers.Dense(3))


def channels():
    return keras_finegrain.Sequential(
        [
            *backbone(),
            keras.layers.BatchNormalization(),
            keras_finegrain.MCLoss(3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.GaussianNoise(1.0),
            keras.layers.Dropout(0.5),
            keras_finegrain.CenterLoss(3),
            keras_finegrain.SoftTriple(3, centers_per_class=2),
        ]
    )


def sub_centers():
    return with_head(keras_finegrain.CosineSimilarity(3, centers_per_class=2))


def soft_triple():
    return with_head(
        keras_finegrain.SoftTriple(3, centers_per_class=2),
        kind=keras_finegrain.Sequential,
    )


def hard_triple():
    return with_head(
        keras_finegrain.SoftTriple(
            3, pooling="max", tau=0, sampled_share=0.5, gamma=0.01
        )
    )


def explicit_labels():
    """With an input of labels, and a layer of labels in nested models."""
    inner = keras_finegrain.Sequential([*backbone(), keras_finegrain.MCLoss(3)])
    nested = keras.Sequential([keras.Input((8, 8, 3)), inner])
    images = keras.Input((8, 8, 3), name="photo")
    labels = keras.Input((), dtype="int32", name="labels", optional=True)
    x = keras.layers.GlobalAveragePooling2D()(nested(images))
    x = keras_finegrain.CenterLoss(3)(x, labels=labels)
    outputs = keras_finegrain.CosineSimilarity(3)(x)
    return keras_finegrain.Model([images, labels], outputs)


def outputs_of(model, images):
    images = [images]
    if len(model.inputs) > 1:
        images.append(np.zeros(len(images[0]), "int32"))
    outputs = {
        "scores": keras.Model(model.inputs, model.outputs[0])(images),
        "embedding": embedding_model(model)(images),
    }
    return {
        name: keras.ops.convert_to_numpy(value)
        for name, value in outputs.items()
    }


@needs["onnx"]
@pytest.mark.parametrize(
    "make",
    [dense, channels, sub_centers, soft_triple, hard_triple, explicit_labels],
)
def test_onnx_gives_what_every_head_gives(make, tmp_path):
    model = make()
    path = export(model, tmp_path / "m.onnx", "onnx", embedding=True)
    for count in (1, 5):
        images = draw(count)
        assert_same(run(path, "onnx", images), outputs_of(model, images))


@pytest.mark.parametrize("format", [written("saved_model"), written("litert")])
def test_saved_model_and_litert_give_what_keras_gives(format, tmp_path):
    model = channels()
    path = export(model, tmp_path / f"m{ENDINGS[format]}", format)
    for count in (1, 5):
        images = draw(count)
        scores = {"scores": outputs_of(model, images)["scores"]}
        assert_same(run(path, format, images), scores)


@pytest.mark.parametrize("format", ENDINGS)
def test_where_keras_does_not_write_a_format_the_way_out_is_named(
    format, tmp_path
):
    if writes(format):
        pytest.skip("It does here.")
    with pytest.raises((ValueError, ImportError), match="KERAS_BACKEND=tensor"):
        export(dense(), tmp_path / f"m{ENDINGS[format]}", format)
    assert not list(tmp_path.iterdir())


def test_the_page_says_from_where_each_format_is_written():
    words = {None: "yes", "no": "no"}
    rows = [
        f"| {backend} | "
        + " | ".join(
            words.get(way := ways.get(backend, "no"), f"with {way}").replace(
                "_", "-"
            )
            for ways in _BACKENDS.values()
        )
        + " |"
        for backend in ("tensorflow", "jax", "torch")
    ]
    assert "\n".join(rows) in PAGE.read_text()


@needs["onnx"]
@pytest.mark.parametrize("mixed", ["mixed_bfloat16", "float64"], indirect=True)
def test_a_model_of_another_precision_is_written_in_float32(mixed, tmp_path):
    model = soft_triple()
    keras.config.set_dtype_policy("float32")
    same = soft_triple()
    same.set_weights(model.get_weights())
    path = export(model, tmp_path / "m.onnx", "onnx", embedding=True)
    images = draw(3)
    assert_same(run(path, "onnx", images), outputs_of(same, images))
    assert model.layers[0].dtype_policy.name == mixed


@needs["onnx"]
def test_a_temperature_makes_probabilities_of_the_outputs(tmp_path):
    model = soft_triple()
    path = export(model, tmp_path / "m.onnx", "onnx", temperature=0.05)
    images = draw(4)
    logits = outputs_of(model, images)["scores"] / 0.05
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert_same(run(path, "onnx", images), {"scores": shares})


@needs["onnx"]
def test_a_model_of_pairs_gives_the_embedding_alone(tmp_path):
    model = with_head(keras.layers.Dense(4), kind=keras_finegrain.Sequential)
    model.compile("sgd", losses.TripletHardLoss())
    path = export(model, tmp_path / "m.onnx", "onnx")
    images = draw(3)
    embedding = keras.ops.convert_to_numpy(model(images))
    assert_same(run(path, "onnx", images), {"embedding": embedding})
    with pytest.raises(ValueError, match="temperature must be None"):
        export(model, path, "onnx", temperature=1.0)


@needs["onnx"]
def test_the_embedding_of_a_named_layer_alone(tmp_path):
    model = with_head(
        keras.layers.Dense(4, name="wanted"),
        keras.layers.ReLU(),
        keras.layers.Dense(3),
    )
    path = export(
        model, tmp_path / "m.onnx", "onnx", embedding="only", layer="wanted"
    )
    images = draw(3)
    wanted = embedding_model(model, "wanted")([images])
    wanted = keras.ops.convert_to_numpy(wanted)
    assert_same(run(path, "onnx", images), {"embedding": wanted})


@needs["onnx"]
def test_a_model_of_any_size_is_written_for_one(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="image_size must be given"):
        export(model, tmp_path / "m.onnx", "onnx")
    path = export(model, tmp_path / "m.onnx", "onnx", image_size=8)
    images = draw(2)
    scores = keras.ops.convert_to_numpy(model(images))
    assert_same(run(path, "onnx", images), {"scores": scores})


NAMES = ["Zaunkönig", "house wren", "鹪鹩"]


@needs["onnx"]
def test_names_size_crop_and_more_travel_in_an_onnx_file(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export(
        soft_triple(),
        tmp_path / "m.onnx",
        "onnx",
        class_names=NAMES,
        temperature=0.5,
        metadata={"threshold": 0.4},
    )
    session = onnxruntime.InferenceSession(path)
    held = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(value) for key, value in held.items()}
    assert about["class_names"] == NAMES
    assert about["images"] == ["batch", 8, 8, 3]
    assert about["outputs"] == {"scores": ["batch", 3]}
    assert about["scores"] == "probabilities"
    assert (about["temperature"], about["crop"]) == (0.5, 0.875)
    assert about["threshold"] == 0.4


@needs["saved_model"]
def test_a_saved_model_is_replaced_with_its_names(tmp_path):
    path = tmp_path / "deep" / "m"
    export(dense(), path, "saved_model", class_names=NAMES)
    assert (path / "labels.txt").read_text("utf-8").splitlines() == NAMES
    about = json.loads((path / "metadata.json").read_text("utf-8"))
    assert about["class_names"] == NAMES
    model = dense()
    export(model, path, "saved_model")
    assert not (path / "labels.txt").exists()
    assert [each.name for each in path.parent.iterdir()] == ["m"]
    scores = {"scores": outputs_of(model, draw(2))["scores"]}
    assert_same(run(path, "saved_model", draw(2)), scores)


@needs["litert"]
def test_names_lie_beside_a_litert_file_and_no_old_ones_stay(tmp_path):
    path = tmp_path / "m.tflite"
    export(dense(), path, "litert", class_names=NAMES)
    labels = tmp_path / "m.labels.txt"
    assert labels.read_text("utf-8").splitlines() == NAMES
    about = json.loads((tmp_path / "m.json").read_text("utf-8"))
    assert about["class_names"] == NAMES
    export(dense(), path, "litert")
    assert {each.name for each in tmp_path.iterdir()} == {"m.tflite", "m.json"}


@needs["litert"]
def test_an_operation_that_litert_lacks_leaves_the_older_file(
    tmp_path,
):
    class Unwrapped(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.math.betainc(x, x, x)

    model = with_head(Unwrapped(), keras.layers.Dense(3))
    path = tmp_path / "m.tflite"
    path.write_text("older")
    with pytest.raises(ValueError, match="Betainc"):
        export(model, path, "litert")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["older"]


@needs["litert"]
@pytest.mark.parametrize("samples", [None, 20])
def test_litert_in_8_bits_is_smaller_and_close(samples, tmp_path):
    model = keras.Sequential(
        [
            *backbone(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(64),
            keras_finegrain.SoftTriple(3),
        ]
    )
    check_8_bits(model, "litert", samples, tmp_path)


@needs["onnx"]
@pytest.mark.parametrize("samples", [None, 20])
def test_onnx_in_8_bits_is_smaller_and_close(samples, tmp_path):
    check_8_bits(
        with_head(*map(keras.layers.Dense, (128, 256, 3))),
        "onnx",
        samples,
        tmp_path,
    )


def check_8_bits(model, format, samples, folder):
    whole = folder / f"whole{ENDINGS[format]}"
    small = folder / f"small{ENDINGS[format]}"
    export(model, whole, format)
    export(
        model,
        small,
        format,
        quantize="int8",
        representative_data=samples and draw(samples),
    )
    assert small.stat().st_size < 0.6 * whole.stat().st_size
    images = draw(4, seed=1)
    expected = run(whole, format, images)["scores"]
    scores = run(small, format, images)["scores"]
    # Random layers without training cancel more than trained ones.
    assert 0 < np.abs(scores - expected).max() < 0.3 * np.abs(expected).max()


def two_inputs():
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(pooled))


def two_outputs():
    model = dense()
    return keras.Model(model.inputs, [model.outputs[0], model.outputs[0]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: 3, "model must be a Keras model"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), "and built"),
        (two_inputs, "must need one input"),
        (two_outputs, "must have one output"),
        (lambda: keras.Sequential(backbone()), "must have one output"),
    ],
)
def test_a_model_that_cannot_be_written_is_refused(make, words, tmp_path):
    format = "saved_model" if writes("saved_model") else "onnx"
    path = tmp_path / f"m{ENDINGS[format]}"
    with pytest.raises((ValueError, TypeError), match=words):
        export(make(), path, format)
    assert not list(tmp_path.iterdir())


@needs["onnx"]
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"format": "tflite"}, "format must be one of"),
        ({"path": "m.tflite"}, "path must end in '.onnx'"),
        ({"path": "folder.onnx"}, "received the folder"),
        ({"path": "file/m.onnx"}, "path must lie in a folder"),
        ({"path": 3}, "path must be the path"),
        ({"embedding": "yes"}, "embedding must be"),
        ({"temperature": 0}, "temperature must be"),
        ({"temperature": 1, "embedding": "only"}, "temperature must be None"),
        ({"class_names": ["a"]}, "1 names for 3 scores"),
        ({"class_names": ["a", "b", "c\nd"]}, "of one line"),
        ({"class_names": "abc"}, "class_names must be a list"),
        ({"layer": "absent", "embedding": True}, "layer must be"),
        ({"image_size": 9}, "image_size must be that of"),
        ({"image_size": (1, 2, 3)}, "image_size must be one side or"),
        ({"crop": 1.5}, "crop must be"),
        ({"metadata": 3}, "metadata must be a dict"),
        ({"metadata": {"crop": 3}}, "names of its own"),
        ({"metadata": {"a": np.ones(3)}}, "values of JSON"),
        ({"quantize": "int4"}, "quantize must be one of"),
        ({"representative_data": draw(2)}, "None without quantize"),
        (
            {"quantize": "int8", "representative_data": np.ones((2, 3))},
            "representative_data must be images",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("mine")
    arguments = {"path": "m.onnx", "format": "onnx"} | arguments
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        export(dense(), **arguments)
    assert {each.name for each in tmp_path.iterdir()} == {"folder.onnx", "file"}


@needs["saved_model"]
def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        export(dense(), tmp_path, "saved_model")
    with pytest.raises(ValueError, match="quantize must be None"):
        export(dense(), tmp_path / "m", "saved_model", quantize="int8")
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


@needs["onnx"]
def test_a_softmax_is_not_put_on_probabilities(tmp_path):
    model = with_head(keras.layers.Dense(3, activation="softmax"))
    with pytest.raises(ValueError, match="probabilities already"):
        export(model, tmp_path / "m.onnx", "onnx", temperature=2.0)


@needs["onnx"]
def test_export_prints_nothing(tmp_path, capfd):
    export(dense(), tmp_path / "m.onnx", "onnx")
    capfd.readouterr()
    export(dense(), tmp_path / "m.onnx", "onnx")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""

"""The way from a folder of photos to an app, by the command alone."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

import keras_finegrain
from keras_finegrain.cli import main
from keras_finegrain.cli.evaluate import cross_fitted_error
from keras_finegrain.cli.output import Output
from keras_finegrain.cli.trained import own_data

pytest.importorskip("faiss")
pytest.importorskip("matplotlib")
tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_datasets")

# A run and three exports take half a minute: on one backend.
pytestmark = [pytest.mark.slow, pytest.mark.one_backend]

SIZE = 32
# The first three are trained on, the last one is a stranger.
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 60, 220),
    "white": (240, 240, 240),
}


def write_photos(folder, name, count, rng):
    """Noisy squares of one color, as JPEGs of several sizes."""
    folder.mkdir(parents=True)
    for number in range(count):
        shape = (*rng.integers(36, 60, size=2), 3)
        pixels = np.array(COLORS[name]) + rng.normal(0, 15, shape)
        image = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
        image.save(folder / f"{name}{number}.jpg")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos to train on, new ones, and a run that was trained on them."""
    place = tmp_path_factory.mktemp("walk")
    rng = np.random.default_rng(0)
    for name in ("red", "green", "blue"):
        write_photos(place / "photos" / "train" / name, name, 8, rng)
        write_photos(place / "photos" / "test" / name, name, 8, rng)
        write_photos(place / "new" / name, name, 1, rng)
    write_photos(place / "strangers", "white", 6, rng)
    words = f"train {place}/photos --backbone small --method softmax --quiet"
    # The color of the whole photo tells them apart, and no part of it.
    words += f" --image-size {SIZE} --epochs 20 --no-cache --pooling average"
    assert main([*words.split(), "--output", f"{place}/run"]) == 0
    return place


def answer(capsys, *words):
    """The JSON document that a command gives."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_new_photos_have_their_class(place, capsys):
    found = answer(capsys, "identify", place / "run", place / "new")
    names = {
        pathlib.Path(each["photo"]).parent.name: each["class_name"]
        for each in found["photos"]
    }
    assert names == {name: name for name in ("red", "green", "blue")}


def test_a_stranger_is_unknown_until_its_class_is_added(place, capsys):
    run = place / "added"
    shutil.copytree(place / "run", run)
    *known, new = sorted((place / "strangers").iterdir())
    before = answer(capsys, "identify", run, new)["photos"][0]
    assert (before["unknown"], before["class_name"]) == (True, None)
    added = answer(capsys, "add", run, "white", *known)
    assert added["is_new"]
    assert added["classes"][-1] == "white"
    after = answer(capsys, "identify", run, new)["photos"][0]
    assert after["class_name"] == "white"
    similar = answer(capsys, "similar", run, new, "--k", 3)["photos"][0]
    assert {each["class_name"] for each in similar["similar"]} == {"white"}
    assert all(pathlib.Path(m["photo"]).exists() for m in similar["similar"])


def test_added_photos_are_known_by_their_place(
    divided, tmp_path, monkeypatch, capsys
):
    copy_of(divided, tmp_path)
    run = tmp_path / "run"
    rng = np.random.default_rng(3)
    write_photos(tmp_path / "other" / "red", "blue", 2, rng)
    folder = tmp_path / "run/softmax"
    known = keras_finegrain.Bundle.load(folder).gallery.keys
    # A photo that is called as one of the training photos is.
    key = next(key for key in known if key.startswith("red/"))
    shutil.copy(tmp_path / "other/red/blue0.jpg", tmp_path / "other" / key)
    monkeypatch.chdir(tmp_path / "other")
    assert answer(capsys, "add", run, "blue", key)["added"] == [key]
    # The same photo in other words, and one that was trained on.
    trained = tmp_path / "photos" / key
    again = answer(
        *(capsys, "add", run, "blue", key, f"./red/../{key}", trained)
    )
    assert (again["added"], again["known_already"]) == ([], 3)
    monkeypatch.chdir(tmp_path)
    found = answer(capsys, "similar", run, tmp_path / "other" / key, "--k", 1)
    assert found["photos"][0]["similar"][0]["photo"] == str(
        tmp_path / "other" / key
    )
    # Of photos that all have another class nothing is left for a new one.
    assert main(["add", str(run), "cyan", str(trained)]) == 2
    assert "known already" in capsys.readouterr().err


def test_a_class_is_one_however_unicode_spells_it(divided, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(divided / "run", run)
    rng = np.random.default_rng(3)
    write_photos(tmp_path / "photos", "blue", 2, rng)
    for number, name in enumerate(("caf\u00e9", "cafe\u0301")):
        photo = tmp_path / f"photos/blue{number}.jpg"
        classes = answer(capsys, "add", run, name, photo)["classes"]
    assert classes == ["green", "red", "caf\u00e9"]


def test_of_two_that_add_at_once_none_loses_its_photos(
    divided, tmp_path, monkeypatch, capsys
):
    run, gallery = tmp_path / "run", tmp_path / "run/softmax/gallery.npz"
    shutil.copytree(divided / "run", run)
    rng = np.random.default_rng(3)
    write_photos(tmp_path / "photos", "blue", 2, rng)
    load = keras_finegrain.Bundle.load

    def slow_load(path):
        bundle = load(path)
        other = load(path)
        other.add(tmp_path / "photos/blue1.jpg", "blue")
        other.gallery.save(gallery)
        return bundle

    words = ("add", str(run), "blue", str(tmp_path / "photos/blue0.jpg"))
    with monkeypatch.context() as patch:
        patch.setattr(keras_finegrain.Bundle, "load", slow_load)
        assert main(words) == 2
    assert "Run the same command again" in capsys.readouterr().err
    assert len(load(run).gallery) == 33
    assert main(words) == 0
    assert len(load(run).gallery) == 34


def test_of_a_folder_those_are_added_that_are_new(divided, tmp_path, capsys):
    run, five = tmp_path / "run", tmp_path / "five"
    shutil.copytree(divided / "run", run)
    rng = np.random.default_rng(3)
    write_photos(five, "blue", 5, rng)
    assert len(answer(capsys, "add", run, "blue", five)["added"]) == 5
    write_photos(five / "more", "blue", 1, rng)
    assert main(["add", str(run), "blue", str(five)]) == 0
    assert "1 photos added, 5 known already" in capsys.readouterr().out


def test_the_run_is_measured_on_its_own_test_photos(place, capsys):
    found = answer(capsys, "evaluate", place / "run")
    assert found["photos"] == 24
    top_1 = found["metrics"]["top_1"]
    assert top_1["low"] <= top_1["value"] <= top_1["high"]
    # Scores and known photos may name a photo otherwise: both are told.
    assert 0.9 <= found["metrics"]["identify"]["value"] <= 1
    # The same folder does not let the training photos in.
    again = answer(capsys, "evaluate", place / "run", place / "photos")
    assert again["metrics"] == found["metrics"]
    # Its own temperature is of these photos.
    assert found["temperature_cross_fitted"]
    assert not found["method_chosen_on_these"]  # There is one.


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """A run on a folder of which the command kept some photos back."""
    place = tmp_path_factory.mktemp("divided")
    rng = np.random.default_rng(1)
    for name in ("red", "green"):
        write_photos(place / "photos" / name, name, 20, rng)
    words = f"train {place}/photos --backbone small --method softmax --quiet"
    words += f" --image-size {SIZE} --epochs 2 --no-cache"
    assert main([*words.split(), "--output", f"{place}/run"]) == 0
    return place


def copy_of(place, other):
    """Copies photos and run to another place, where they can be changed."""
    shutil.copytree(place / "photos", other / "photos")
    shutil.copytree(place / "run", other / "run")
    for description in (other / "run").glob("*/bundle.json"):
        text = description.read_text().replace(str(place), str(other))
        description.write_text(text)


def test_photos_that_came_later_do_not_change_what_was_kept_back(
    divided, tmp_path, capsys
):
    pytest.importorskip("sklearn")
    copy_of(divided, tmp_path)
    shutil.copytree(tmp_path / "run/softmax", tmp_path / "run/again")
    rng = np.random.default_rng(2)
    write_photos(tmp_path / "photos" / "red" / "more", "red", 1, rng)
    # A class that the model has not, of too few photos to be divided.
    write_photos(tmp_path / "photos" / "blue", "blue", 1, rng)
    folder = tmp_path / "run/softmax"
    bundle = keras_finegrain.Bundle.load(folder)
    tested, known = own_data(bundle, folder, Output())
    assert "2 photos that the run did not have" in capsys.readouterr().err
    with np.load(folder / "tested.npz") as file:
        assert sorted(tested.keys) == sorted(file["keys"])
    assert sorted(known.keys) == sorted(bundle.gallery.keys)
    for photos in (tested, known):
        for (_, label), key in zip(photos.pairs, photos.keys, strict=True):
            assert bundle.class_names[label] == key.split("/")[0]
    run = ("--method", "softmax", tmp_path / "run")
    assert answer(capsys, "evaluate", *run)["photos"] == 8
    page = tmp_path / "page.html"
    answer(capsys, "report", *run, "--output", page)
    # The other method was tested on the same photos, in another order.
    assert "again" in page.read_text()


def test_without_the_list_of_what_was_kept_back_it_is_not_guessed(
    divided, tmp_path, capsys
):
    copy_of(divided, tmp_path)
    (tmp_path / "run/softmax/tested.npz").unlink()
    assert main(["evaluate", f"{tmp_path}/run"]) == 0
    rng = np.random.default_rng(2)
    write_photos(tmp_path / "photos" / "red" / "more", "red", 1, rng)
    assert main(["evaluate", f"{tmp_path}/run"]) == 2
    assert "tested.npz is missing" in capsys.readouterr().err


def test_test_photos_that_are_gone_are_counted(divided, tmp_path, capsys):
    copy_of(divided, tmp_path)
    with np.load(tmp_path / "run/softmax/tested.npz") as file:
        first, *others = file["keys"].tolist()
    (tmp_path / "photos" / first).unlink()
    assert answer(capsys, "evaluate", tmp_path / "run")["photos"] == 7
    capsys.readouterr()
    assert main(["evaluate", f"{tmp_path}/run"]) == 0
    assert "1 of the run's test photos are gone" in capsys.readouterr().err
    for key in others:
        (tmp_path / "photos" / key).unlink()
    assert main(["evaluate", f"{tmp_path}/run"]) == 2
    assert "test photos is there" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "photos")
    for key in (first, *others):
        (tmp_path / "photos" / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(divided / "photos" / key, tmp_path / "photos" / key)
    assert main(["report", f"{tmp_path}/run"]) == 2
    assert "training photos is there" in capsys.readouterr().err


def test_probabilities_are_not_measured_by_their_own_temperature():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    scores = rng.normal(size=(40, 4)) + np.eye(4)[labels]
    halves = np.arange(40) % 2 == 1
    shares = np.empty_like(scores)
    for half in (halves, ~halves):
        cold = keras_finegrain.metrics.fit_temperature(
            scores[~half], labels[~half]
        )
        powers = np.exp(scores[half] / cold)
        shares[half] = powers / powers.sum(1, keepdims=True)
    expected = keras_finegrain.metrics.expected_calibration_error(
        shares, labels
    )
    order = rng.permutation(40)
    assert cross_fitted_error(scores, labels) == pytest.approx(expected)
    assert cross_fitted_error(scores[order], labels[order]) > 0
    # One photo has no other half, and scores at chance no temperature.
    assert cross_fitted_error(scores[:1], labels[:1]) is None
    assert cross_fitted_error(-scores, labels) is None


def test_labels_of_other_data_are_told_by_name(place, capsys):
    other = place / "other"
    shutil.copytree(place / "new" / "red", other / "red")
    shutil.copytree(place / "new" / "green", other / "green")
    found = answer(capsys, "evaluate", place / "run", other)
    # "green" is label 0 there and label 1 in the model.
    assert found["photos"] == 2
    assert found["metrics"]["top_1"]["value"] == 1
    assert main(["evaluate", f"{place}/run", str(place / "photos/train")]) == 0
    (other / "red").rename(other / "purple")
    assert main(["evaluate", f"{place}/run", str(other)]) == 2
    assert "has no class 'purple'" in capsys.readouterr().err


def test_the_page_is_written(place, capsys):
    pytest.importorskip("sklearn")
    page = place / "page.html"
    answer(capsys, "report", place / "run", "--output", page)
    text = page.read_text()
    # File names stand under the photos.
    assert "red0.jpg" in text


def test_the_page_has_training_photos_and_the_other_methods(
    place, tmp_path, capsys
):
    pytest.importorskip("sklearn")
    run, photos = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(place / "run", run)
    shutil.copytree(place / "photos", photos)
    # A test photo that was trained on, and a method that is always wrong.
    shutil.copy(photos / "train/red/red3.jpg", photos / "test/red/red0.jpg")
    description = run / "softmax" / "bundle.json"
    text = description.read_text().replace(str(place), str(tmp_path))
    description.write_text(text)
    shutil.copytree(run / "softmax", run / "backward")
    with np.load(run / "backward" / "tested.npz") as file:
        tested = dict(file)
    np.savez(
        run / "backward" / "tested.npz",
        **tested | {"scores": -tested["scores"]},
    )
    answer(capsys, "report", run, "--output", tmp_path / "page.html")
    # Without the places at which long names may break.
    page = (tmp_path / "page.html").read_text().replace("<wbr>", "")
    assert "train/red/red3.jpg" in page
    assert "backward" in page
    found = answer(capsys, "evaluate", run)
    assert found["method_chosen_on_these"]
    found = answer(capsys, "evaluate", run, "--method", "softmax")
    assert not found["method_chosen_on_these"]


def test_a_method_that_the_run_has_not_lists_those_that_it_has(place, capsys):
    for run in (place / "run", place / "run" / "softmax"):
        assert main(["evaluate", str(run), "--method", "arcface"]) == 2
        assert "softmax" in capsys.readouterr().err


def test_the_photos_are_counted(place, capsys):
    found = answer(capsys, "check", place / "photos")
    assert found["classes"]["red"] == {"train": 8, "test": 8}


def test_the_remedies_of_a_folder_that_can_be_read_in_two_ways_are_there(
    place, tmp_path, capsys
):
    data = tmp_path / "data"
    shutil.copytree(place / "photos", data)
    (data / "train").rename(data / "one")
    (data / "test").rename(data / "two")
    evaluate = ("evaluate", place / "run", data)
    for words in (("check", data), evaluate):
        assert main([*map(str, words)]) == 2
        assert "splits=" in capsys.readouterr().err
    splits = ("--splits", "one", "two")
    found = answer(capsys, "check", data, *splits)["classes"]
    assert found["red"] == {"train": 8, "test": 8}
    found = answer(capsys, "check", data, *splits, "--classes", "re")["classes"]
    assert set(found) == {"red", "green"}
    assert answer(capsys, *evaluate, *splits)["photos"] == 48
    found = answer(capsys, *evaluate, *splits, "--classes", "re")
    assert found["photos"] == 32
    # A run knows what it kept back.
    assert main(["evaluate", f"{place}/run", "--classes", "re"]) == 2
    assert "leave them out" in capsys.readouterr().err


def test_classes_of_few_photos_can_be_allowed(place, tmp_path, capsys):
    whole = tmp_path / "whole"
    shutil.copytree(place / "photos" / "train", whole)
    for path in (whole / "red").glob("*[1-7].jpg"):
        path.unlink()
    assert main(["check", str(whole)]) == 2
    found = answer(capsys, "check", whole, "--single-images", "train")
    assert found["classes"]["red"] == {"train": 1, "test": 0}
    divided = tmp_path / "divided"
    shutil.copytree(place / "photos", divided)
    shutil.rmtree(divided / "test" / "red")
    assert main(["check", str(divided)]) == 2
    words = ("--missing-test-classes", "allow")
    found = answer(capsys, "check", divided, *words)
    assert found["classes"]["red"] == {"train": 8, "test": 0}


def test_8_bits_have_their_ranges_from_the_training_photos(place, capsys):
    pytest.importorskip("tf2onnx")
    onnx = pytest.importorskip("onnx")
    words = ("export", place / "run", "--format", "onnx", "--quantize", "int8")
    path = place / "app8" / "model.onnx"
    capsys.readouterr()
    assert main([*map(str, words), "--output", str(path)]) == 0
    assert "from 24 training photos" in capsys.readouterr().err
    model = onnx.load(path)
    # Ranges of what the layers give, and not of the weights alone.
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    about = {each.key: json.loads(each.value) for each in model.metadata_props}
    gallery = keras_finegrain.Bundle.load(place / "run").gallery
    assert about["gallery"]["threshold"] == gallery.threshold
    assert about["gallery"]["class_names"] == list(gallery.class_names)


def run_saved_model(path, images):
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    return signature(tf.constant(images))["scores"].numpy()


def run_onnx(path, images):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return session.run(["scores"], {name: images})[0]


def run_litert(path, images):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(path)
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()
    return runner(**{name: images})["scores"]


@pytest.mark.parametrize(
    ("form", "runtime"),
    [
        ("saved_model", run_saved_model),
        ("onnx", run_onnx),
        ("litert", run_litert),
    ],
)
def test_an_app_gives_the_probabilities_of_the_run(
    place, capsys, form, runtime
):
    photos = sorted((place / "new").rglob("*.jpg"))
    images = keras_finegrain.datasets.read_images(photos, SIZE)
    bundle = keras_finegrain.Bundle.load(place / "run")
    words = ("--format", form, "--output", place / "app" / form)
    if form == "litert":
        pytest.importorskip("ai_edge_litert")
        words = (*words[:-1], place / "app" / "model.tflite")
    if form == "onnx":
        pytest.importorskip("tf2onnx")
        words = (*words[:-1], place / "app" / "model.onnx")
    path = answer(capsys, "export", place / "run", *words)["path"]
    scores = runtime(path, images)
    np.testing.assert_allclose(scores, bundle.predict(photos), atol=1e-5)


def test_a_photo_that_cannot_be_read_leaves_the_others_their_answer(
    place, capsys
):
    good = next((place / "new" / "red").iterdir())
    bad = place / "bad.jpg"
    bad.write_bytes(b"no photo")
    capsys.readouterr()
    words = (f"{place}/run", str(bad), str(good))
    assert main(["identify", *words]) == 2
    said = capsys.readouterr()
    assert f"{good}\tred" in said.out
    assert "bad.jpg" in said.err
    assert main(["similar", *words, "--json"]) == 2
    said = capsys.readouterr()
    assert "bad.jpg" in said.err
    found = json.loads(said.out)["photos"]
    assert [set(each) - {"photo"} for each in found] == [{"error"}, {"similar"}]

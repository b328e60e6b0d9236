"""What is loaded must be what was saved, with the same model."""

import json

import keras
import numpy as np
import pytest

from keras_finegrain import Gallery


def model(seed=0):
    start = keras.initializers.GlorotUniform(seed=seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, kernel_initializer=start),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="head"),
        ]
    )


def photos(seed=0):
    x = np.random.default_rng(seed).uniform(0, 255, size=(40, 8, 8, 3))
    x[..., 0] += 60 * (np.arange(40) % 4)[:, None, None]
    return x.astype("float32"), np.arange(40) % 4


@pytest.fixture
def saved(tmp_path):
    made = Gallery.of(model(), photos(), ["ä", "b", "c d", "e"])
    made.add(photos(1)[0][:2], "new", keys=["folder/日本.jpg", "2\udce9.jpg"])
    made.remove(class_name="b")
    made.calibrate((photos(2)[0][::2], photos(2)[1][::2]), false_alarms=0.1)
    made.save(tmp_path / "folder" / "gallery.npz")
    return made, tmp_path / "folder" / "gallery.npz"


def test_a_loaded_gallery_answers_as_the_saved_one(saved):
    made, path = saved
    loaded = Gallery.load(path, model())
    assert loaded.keys == made.keys
    assert loaded.class_names == made.class_names
    assert loaded.threshold == made.threshold
    assert loaded.temperature == made.temperature
    queries = photos(5)[0]
    for one, other in zip(
        made.identify(queries), loaded.identify(queries), strict=True
    ):
        assert one.class_name == other.class_name
        assert one.unknown == other.unknown
        assert one.similarity == pytest.approx(other.similarity, abs=1e-5)
    # Keys go on where they were, and labels mean what they meant.
    assert loaded.add(queries[:1], "x") == made.add(queries[:1], "x")
    loaded.calibrate((photos(2)[0][::2], photos(2)[1][::2]), 0.1)


def test_half_the_bytes_move_cosines_by_less_than_a_thousandth(saved, tmp_path):
    made, _ = saved
    made.save(tmp_path / "half.npz", dtype="float16")
    loaded = Gallery.load(tmp_path / "half.npz", model())
    queries = photos(5)[0]
    for one, other in zip(
        made.search(queries), loaded.search(queries), strict=True
    ):
        assert one[0].similarity == pytest.approx(other[0].similarity, abs=1e-3)


def test_another_model_is_refused(saved):
    _, path = saved
    with pytest.raises(ValueError, match=r"differs by .*%"):
        Gallery.load(path, model(seed=1))
    with pytest.raises(ValueError, match=r"of dim 4, received .* dim 3"):
        Gallery.load(path, model(), layer="head")


def test_a_model_that_was_trained_on_is_refused(saved):
    _, path = saved
    other = model()
    other.layers[0].set_weights(
        [1.1 * weight + 0.01 for weight in other.layers[0].get_weights()]
    )
    with pytest.raises(ValueError, match=r"Gallery\.of"):
        Gallery.load(path, other)


def test_what_is_no_gallery_is_said(saved, tmp_path):
    _, path = saved
    with pytest.raises(FileNotFoundError, match=r"Gallery\.save wrote"):
        Gallery.load(tmp_path / "none.npz", model())
    damaged = tmp_path / "damaged.npz"
    for content in (b"", b"text", path.read_bytes()[:-200]):
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match="another or a damaged one"):
            Gallery.load(damaged, model())
    np.savez(damaged, embeddings=np.ones((2, 2)))
    with pytest.raises(ValueError, match="another or a damaged one"):
        Gallery.load(damaged, model())


@pytest.mark.parametrize(
    ("version", "remedy"), [(99, "Update"), (1, "Make it anew")]
)
def test_a_gallery_of_another_version_is_said(saved, tmp_path, version, remedy):
    _, path = saved
    with np.load(path) as file:
        arrays = dict(file)
    about = json.loads(arrays["about"].tobytes()) | {"format": version}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=rf"format {version}.*{remedy}"):
        Gallery.load(tmp_path / "other.npz", model())

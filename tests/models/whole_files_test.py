"""A save that fails leaves the older file as it was."""

import resource
import signal

import keras
import numpy as np
import pytest

import keras_finegrain
from keras_finegrain.models import Model


@pytest.fixture
def model():
    image = keras.Input((200,))
    return Model(image, keras.layers.Dense(200)(image))


@pytest.fixture
def full_disk():
    """A process that may not make a file longer than some kilobytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_a_full_disk_leaves_the_older_file_whole(
    name, model, full_disk, tmp_path
):
    path = tmp_path / name
    save = model.save_weights if "weights" in name else model.save
    save(path)
    older = path.read_bytes()
    model.set_weights([weight + 1 for weight in model.get_weights()])

    full_disk()
    # h5py has an error of its own for each place where it fails.
    with pytest.raises((OSError, RuntimeError)):
        save(path)

    assert path.read_bytes() == older
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cls", [Model, keras_finegrain.Sequential])
def test_every_way_to_save_still_saves(cls, tmp_path):
    image = keras.Input((3,))
    layer = keras.layers.Dense(2)
    model = (
        cls([image, layer]) if cls is not Model else cls(image, layer(image))
    )
    x = np.ones((1, 3), "float32")
    expected = model.predict(x, verbose=0)

    model.save(tmp_path / "m.keras")
    model.save(str(tmp_path / "m.keras"))
    model.save(tmp_path / "m.h5")
    model.save(tmp_path / "folder", zipped=False)
    (tmp_path / "link.keras").symlink_to(tmp_path / "linked.keras")
    model.save(tmp_path / "link.keras")
    for name in ("m.keras", "folder", "linked.keras"):
        loaded = keras.models.load_model(tmp_path / name, compile=False)
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert (tmp_path / "link.keras").is_symlink()

    model.save_weights(tmp_path / "m.weights.h5")
    model.save_weights(tmp_path / "shards.weights.json", max_shard_size=1)
    model.set_weights([0 * weight for weight in model.get_weights()])
    for name in ("m.weights.h5", "shards.weights.json"):
        model.load_weights(tmp_path / name)
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_errors_of_keras_name_the_file_that_was_given(model, tmp_path):
    with pytest.raises(ValueError, match=r"filepath=.*/m\.h6"):
        model.save(tmp_path / "m.h6")
    with pytest.raises(ValueError, match=r"filepath=.*/m\.h5"):
        model.save_weights(tmp_path / "m.h5")

"""What a bundle says of unknown photos, by the test photos that there were."""

import types

import keras
import numpy as np
import pytest

from keras_finegrain.cli.identify import run as identify
from keras_finegrain.cli.output import Output
from keras_finegrain.cli.train_bundles import bundle_of, gallery_of
from keras_finegrain.training import Run, Settings

pytest.importorskip("faiss")
pytestmark = pytest.mark.one_backend

SIZE = 8


def bundle(out, test_photos):
    """Of a model whose embedding is the mean color, without a training."""
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    rng = np.random.default_rng(0)

    def photos(count):
        labels = np.arange(count) % 3
        colors = np.eye(3)[labels] + rng.normal(0, 0.1, (count, 3))
        return colors.astype("float32"), labels.astype("int32")

    embeddings, labels = photos(test_photos)
    finished = Run(
        {}, model, embeddings, embeddings, labels, photos(30), measured={}
    )
    data = types.SimpleNamespace(
        class_names=("red", "green", "blue"),
        train_keys=tuple(map(str, range(30))),
        name="colors",
    )
    settings = Settings(weights="none", image_size=SIZE)
    gallery = gallery_of(finished, data)
    made = bundle_of(settings, finished, gallery, data, about={}, out=out)
    return made, embeddings


@pytest.mark.parametrize(("photos", "warned"), [(6, True), (19, False)])
def test_few_test_photos_set_a_threshold_and_say_which(
    photos, warned, tmp_path, capsys
):
    out = Output()
    made, embeddings = bundle(out, photos)
    said = capsys.readouterr().err
    assert ("with 6 test photos it will call about 1 in 7" in said) == warned
    plain = np.ones((1, SIZE, SIZE, 1)) * embeddings[:, None, None]
    answers = made.gallery.identify(plain.astype("float32"))
    lowest = min(answer.similarity for answer in answers)
    assert made.gallery.threshold == pytest.approx(lowest, abs=1e-6)

    made.save(tmp_path)
    options = types.SimpleNamespace(run=str(tmp_path), method=None, photos=[])
    identify(options, out)
    said = capsys.readouterr().err
    assert ("about 1 in 7 photos" in said) == warned

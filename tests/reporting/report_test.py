"""The page must hold what was measured, whole, in a real browser."""

import csv
import html
import io
import re

import keras
import matplotlib
import numpy as np
import pytest
from PIL import Image

import keras_finegrain
from keras_finegrain import losses
from keras_finegrain.embedding import embed, embedding_model
from keras_finegrain.metrics import embedding_metrics
from keras_finegrain.reporting import choose, data_faults, read, sections

matplotlib.use("Agg")
pytestmark = pytest.mark.one_backend

CLASSES = 3
NAMES = ["Song_Sparrow", "<b>Junco</b>", "Towhee"]


def photos(samples=24, seed=0):
    """Each class has a brightness of its own, and noise."""
    generator = np.random.default_rng(seed)
    labels = np.arange(samples) % CLASSES
    noise = generator.uniform(0, 200, size=(samples, 12, 12, 3))
    return (noise + 20 * labels[:, None, None, None]).astype("float32"), labels


def classifier():
    image = keras.Input((12, 12, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(9, 3, activation="relu")(x)
    x = keras_finegrain.MCLoss(CLASSES)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras_finegrain.CenterLoss(CLASSES, centers_initializer="normal")(x)
    x = keras_finegrain.SoftTriple(CLASSES, 2)(x)
    model = keras_finegrain.Model(image, x, name="all_layers")
    model.compile("sgd", losses.SoftTripleLoss())
    return model


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    keras.utils.set_random_seed(1)
    model = classifier()
    path = tmp_path_factory.mktemp("report") / "new" / "page.html"
    assert keras_finegrain.report(model, photos(), path, NAMES) == path
    return model, path.read_text("utf-8"), path


def test_the_metrics_are_those_of_the_model(written):
    model, text, _ = written
    embeddings, labels = embed(embedding_model(model), photos())
    scores = model.predict(photos()[0], verbose=0)
    top_1 = 100 * np.mean(scores.argmax(axis=1) == labels)

    cells = dict(re.findall(r"<tr><td>([^<]*)</td><td>(.*?)<", text))

    found = embedding_metrics(embeddings.astype("float64"), labels)
    assert cells["top-1 accuracy"] == f"{top_1:.1f} %"
    assert cells["recall@1"] == f"{100 * found['recall@1'].value:.1f} %"
    assert cells["silhouette"] == f"{found['silhouette'].value:.3f}"


def test_every_section_is_there_and_in_the_contents(written):
    _, text, _ = written

    headings = re.findall("<h2>(.*?)</h2>", text)

    assert headings == [
        "What to do",
        "The photos it gets wrong",
        "Every error",
        "Class by class",
        "When to trust it",
        "Suspected wrong labels",
        "Photos that are there twice",
        "Who is taken for whom",
        "The most similar photos",
        "A map of the photos",
        "Class centers",
        "What it looks at",
        "The classes",
        "Figures",
    ]
    links = re.findall('<li><a href="#(.*?)">(.*?)</a>', text)
    assert [name for _, name in links] == ["In short", *headings]
    assert [anchor for anchor, _ in links] == re.findall(
        '<section id="(.*?)">', text
    )


def test_the_worst_confusions_are_counted(written):
    model, text, _ = written
    # Without the places at which long names may break.
    text = text.replace("<wbr>", "")
    x, labels = photos()
    predicted = model.predict(x, verbose=0).argmax(axis=1)
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, predicted), 1)
    np.fill_diagonal(counts, 0)
    row, column = np.unravel_index(counts.argmax(), counts.shape)

    first = re.search(
        r"of its class</th></tr></thead>\n<tbody><tr><td>(.*?)</td>"
        r"<td>(.*?)</td><td data-value=\"\d+\">(\d+)</td>",
        text,
    )

    assert counts[row, column] > 0
    spelled = [html.escape(name.replace("_", " ")) for name in NAMES]
    assert first.groups() == (
        spelled[row],
        spelled[column],
        str(counts[row, column]),
    )


def test_nothing_is_fetched_and_names_stay_text(written):
    _, text, _ = written

    assert "<b>Junco</b>" not in text
    assert "&lt;b&gt;Junco&lt;/b&gt;" in text
    sources = re.findall(r'src="([^"]{0,20})', text)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    links = re.findall(r'href="([^"#]+)', text)
    assert links == ["page_errors.csv"]
    assert text.count("<script") == 1
    for alt in re.findall(r"<img([^>]{0,40})", text):
        assert 'alt="' in alt


def test_an_embedding_without_a_head_is_judged_by_its_neighbours(tmp_path):
    model = keras_finegrain.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    model.compile("sgd", losses.TripletSemiHardLoss())
    x, y = photos()

    text = keras_finegrain.report(
        model, [(x[:10], y[:10]), (x[10:], y[10:])], tmp_path / "page.html"
    ).read_text("utf-8")

    assert "by the nearest other sample" in text
    assert "top-1" not in text
    assert "class 0" in text


def test_an_image_may_come_beside_its_label(tmp_path):
    image = keras.Input((12, 12, 3), name="picture")
    label = keras.Input((), dtype="int32", name="label")
    x = keras.layers.Conv2D(6, 3, activation="relu")(image)
    x = keras_finegrain.MCLoss(CLASSES)(x, label)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(CLASSES)(x)
    model = keras.Model({"picture": image, "label": label}, x)
    pictures, labels = photos()

    text = keras_finegrain.report(
        model,
        ({"picture": pictures, "label": labels}, labels),
        tmp_path / "page.html",
    ).read_text("utf-8")

    assert "What it looks at" in text
    assert "The most similar photos" in text


def test_inputs_that_are_no_images_have_no_photos(tmp_path):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(3)]
    )
    x = np.random.default_rng(0).normal(size=(24, 6))

    text = keras_finegrain.report(
        model, (x, np.arange(24) % 3), tmp_path / "page.html"
    ).read_text("utf-8")

    assert "The most similar photos" not in text
    assert "The photos it gets wrong" in text


def test_preprocessed_images_can_be_turned_back(tmp_path):
    x, y = photos()
    model = classifier()

    with pytest.raises(ValueError, match=r"must lie in \[0, 255\]"):
        keras_finegrain.report(model, (x / 127.5 - 1, y), tmp_path / "a.html")
    path = keras_finegrain.report(
        model,
        (x / 127.5 - 1, y),
        tmp_path / "b.html",
        to_photo=lambda image: (image + 1) / 2,
    )

    assert path.exists()
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "b_errors.csv"]


def test_grey_images_have_photos_too(tmp_path):
    image = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(6, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(CLASSES)(x))
    pictures, labels = photos()

    text = keras_finegrain.report(
        model, (pictures[..., :1], labels), tmp_path / "page.html"
    ).read_text("utf-8")

    assert "The most similar photos" in text
    assert "There is no Grad-CAM" not in text


def test_what_a_model_has_no_grad_cam_for_is_said(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras.layers.Dense(CLASSES),
        ]
    )

    text = keras_finegrain.report(
        model, photos(), tmp_path / "page.html"
    ).read_text("utf-8")

    assert text.count("There is no Grad-CAM here: grad_cam: model must") == 1


def test_lone_samples_and_classes_without_samples_do_no_harm(tmp_path):
    model = keras_finegrain.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="embedding"),
        ]
    )
    model.compile("sgd", losses.TripletSemiHardLoss())
    pictures, labels = photos()
    labels[0] = 7

    text = keras_finegrain.report(
        model, (pictures, labels), tmp_path / "page.html"
    ).read_text("utf-8")

    # The lone sample is left out, as in the metrics; others may be taken for
    # it.
    assert "<tr><td>class 0</td>" in text
    assert "<tr><td>class 7</td>" not in text


@pytest.mark.parametrize("samples", [1, 3])
def test_a_page_where_each_class_has_one_photo(tmp_path, samples):
    text = keras_finegrain.report(
        classifier(), photos(samples), tmp_path / "page.html", NAMES
    ).read_text("utf-8")
    assert "top-1 accuracy" in text
    assert "The most similar photos" not in text


def test_more_centers_than_labels_are_drawn(tmp_path):
    model = keras_finegrain.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras_finegrain.CenterLoss(40, centers_initializer="normal"),
        ]
    )
    model.compile("sgd", losses.TripletSemiHardLoss())

    text = keras_finegrain.report(
        model, photos(), tmp_path / "page.html"
    ).read_text("utf-8")

    assert "Class centers" in text


def test_data_in_another_order_is_an_error(tmp_path):
    class Shuffled(keras.utils.PyDataset):
        reads = 0

        def __len__(self):
            return 1

        def __getitem__(self, index):
            self.reads += 1
            x, y = photos()
            return np.roll(x, self.reads, axis=0), np.roll(y, self.reads)

    with pytest.raises(ValueError, match="same order"):
        keras_finegrain.report(classifier(), Shuffled(), tmp_path / "page.html")


def test_a_class_without_a_name_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="received 2, labels from 0 to 2"):
        keras_finegrain.report(
            classifier(), photos(), tmp_path / "page.html", NAMES[:2]
        )


def test_a_class_without_a_score_is_an_error(tmp_path):
    x, y = photos()

    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\)"):
        keras_finegrain.report(classifier(), (x, y + 5), tmp_path / "page.html")


def test_of_many_photos_only_those_that_are_shown_are_kept():
    x, y = photos(samples=600)
    results = read.measure(classifier(), (x, y), None, None, 32)
    chosen = choose.choose(results)
    kept = read.read_photos((x, y), 32, None, y, chosen.samples)

    assert 20 < len(chosen.samples) < 200
    assert set(kept.inputs) == chosen.samples
    for index, image in kept.inputs.items():
        np.testing.assert_array_equal(image, x[index])
        # Not a view, which would keep the batch that it came in.
        assert image.base is None
    with pytest.raises(KeyError):
        kept[min(set(range(600)) - chosen.samples)]


def test_the_photos_that_are_kept_are_all_that_the_sections_show(tmp_path):
    model = classifier()

    text = keras_finegrain.report(
        model, photos(samples=600), tmp_path / "page.html"
    ).read_text("utf-8")

    assert "The most similar photos" in text
    assert text.count('alt="The photos nearest to each center') == 1
    assert len(re.findall('alt="[^"]* in one picture"', text)) == CLASSES


def test_the_data_is_read_twice(tmp_path):
    class Counted(keras.utils.PyDataset):
        reads = 0

        def __len__(self):
            return 1

        def __getitem__(self, index):
            self.reads += 1
            return photos()

    data = Counted()
    keras_finegrain.report(classifier(), data, tmp_path / "page.html")

    assert data.reads == 2


def test_the_worst_pairs_come_first_and_lone_samples_are_no_errors():
    results = read.Results(
        model=None,
        class_names=["a", "b", "c", "d"],
        keys=list("abcdefgh"),
        embeddings=np.eye(8),
        labels=np.array([0, 0, 1, 1, 1, 2, 2, 3]),
        scores=None,
        taken_for=np.array([0, 1, 2, 2, 1, 1, 2, -1]),
    )

    pairs, counts = choose._worst_pairs(results, 2)

    assert pairs.tolist() == [[1, 2], [0, 1]]
    assert counts.tolist() == [2, 1]


def test_a_look_alike_is_the_nearest_sample_of_the_other_class():
    results = read.Results(
        model=None,
        class_names=["a", "b"],
        keys=list("abcd"),
        embeddings=np.array([[1.0, 0.0], [0.0, 9.0], [1.0, 2.0], [9.0, 1.0]]),
        labels=np.array([0, 1, 1, 1]),
        scores=None,
        taken_for=np.array([1, 1, 1, 1]),
    )

    (confusion,) = choose._confusions(results)

    assert (confusion.label, confusion.taken_for) == (0, 1)
    assert confusion.rows.tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": "abc"}, "class_names must be a list of strings"),
        ({"class_names": ["a"]}, "class_names must have one entry a class"),
        ({"keys": "abc"}, "keys must be a list of strings"),
        ({"keys": ["a"]}, "received 1 and 24 samples. Pass the test_keys"),
        ({"known_keys": [1]}, "known_keys must be a list of strings"),
        ({"compare": [1]}, "compare must be a dict"),
        ({"compare": {"a": np.ones((3, 3))}}, r"scores \(24, classes\)"),
        ({"settings": {1: 2}}, "settings must be a dict"),
        ({"temperature": 0}, "temperature must be a finite number above 0"),
        ({"seed": -1}, "seed must be an integer in"),
        ({"batch_size": 0}, "batch_size must be an integer"),
        ({"title": 5}, "title must be a string"),
        ({"to_photo": 5}, "to_photo must be a function"),
        ({"output": 5}, "output must be the path"),
        ({"model": "m.keras"}, "model must be a Keras model"),
        ({"data": None}, "data must be arrays"),
        ({"data": (photos()[0], photos()[1] + 5)}, "class_names must have"),
    ],
)
def test_arguments_of_another_type_are_named(arguments, message, tmp_path):
    output = tmp_path / "page.html"
    given = {"data": photos(), "output": output, "class_names": NAMES}
    given = {"model": classifier(), **given, **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        keras_finegrain.report(**given)
    assert not output.exists()


def test_a_page_that_cannot_be_written_is_said_before_the_data_is_read(
    tmp_path,
):
    def data():
        pytest.fail("it was read")
        yield

    (tmp_path / "file").touch()
    for output, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "page.html", "Not a directory"),
    ):
        with pytest.raises(ValueError, match=f"output must be .*{reason}"):
            keras_finegrain.report(classifier(), data(), output)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_head_may_be_a_model_of_its_own(tmp_path):
    inner = keras.Input((12, 12, 9))
    x = keras_finegrain.MCLoss(CLASSES)(inner)
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.Model(inner, keras_finegrain.SoftTriple(CLASSES, 2)(x))
    image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(9, 3, padding="same")(image)
    model = keras_finegrain.Model(image, head(x))

    path = keras_finegrain.report(model, photos(), tmp_path / "page.html")

    text = path.read_text("utf-8")
    assert "What it looks at" in text
    assert "Class centers" in text


def test_keys_errors_methods_and_copies_are_on_the_page(tmp_path):
    x, y = photos()
    model = classifier()
    keys = [f"birds/{index}.jpg" for index in range(24)]
    perfect = np.eye(CLASSES)[y]

    path = keras_finegrain.report(
        model,
        (x, y),
        tmp_path / "page.html",
        NAMES,
        keys=keys,
        known=(x[:3], y[:3]),
        known_keys=["old/0.jpg", "old/1.jpg", "old/2.jpg"],
        compare={"perfect": perfect},
        settings={"lr": 0.01},
        temperature=2.0,
    )

    # Long names may go to a new line.
    text = path.read_text("utf-8").replace("<wbr>", "")
    answers = model.predict(x, verbose=0).argmax(axis=1)
    with open(tmp_path / "page_errors.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["photo"] for row in rows} == {
        keys[index] for index in np.flatnonzero(answers != y)
    }
    shares = [float(row["confidence"]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert "Remove 3 photos from these or from the training data" in text
    assert "old/2.jpg" in text
    assert "Photos that are twice here" not in text
    assert f"Photos that they differ on: {len(rows)}" in text
    more = 100 * len(rows) / len(y)
    assert f"perfect is right in {more:.1f} of 100 photos more than" in text
    assert "were divided by the temperature 2." in text
    assert "<td>lr</td><td>0.01</td>" in text


def test_a_model_without_an_error_and_data_of_one_class_have_pages(tmp_path):
    x, y = photos()
    for name, wanted in (("one", np.zeros(24, int)), ("all", y)):
        image = keras.Input((12, 12, 3))
        one_hot = keras.layers.Dense(CLASSES, use_bias=False)
        features = keras.layers.Flatten()(image)
        model = keras.Model(image, one_hot(features))
        # The class is written into the first three values of each photo.
        kernel = np.zeros((12 * 12 * 3, CLASSES))
        kernel[:CLASSES] = np.eye(CLASSES)
        one_hot.set_weights([kernel])
        data = x.copy()
        data[:, 0, 0] = 255 * np.eye(CLASSES)[wanted]

        text = keras_finegrain.report(
            model, (data, wanted), tmp_path / f"{name}.html"
        ).read_text("utf-8")

        assert "It names 100 of 100 photos: 24 of 24." in text
        assert "It makes no error on them." in text


def pictures(samples):
    """Smooth pictures, unlike one another."""
    generator = np.random.default_rng(5)
    coarse = generator.uniform(0, 255, (samples, 10, 10, 3)).astype("uint8")
    return [
        Image.fromarray(each).resize((200, 160), Image.Resampling.BICUBIC)
        for each in coarse
    ]


def encoded_again(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.resize((90, 72)),
        lambda picture: picture.point(lambda value: 0.8 * value + 20),
        lambda picture: picture.crop((2, 2, 198, 158)),
        encoded_again,
    ],
    ids=["smaller", "brighter", "cropped", "encoded again"],
)
def test_a_photo_that_was_changed_a_little_is_found_again(change):
    ours = pictures(30)
    theirs = [change(picture) for picture in reversed(ours)]
    hashes, known = (
        np.stack(
            [
                data_faults.difference_hash(np.asarray(each) / 255)
                for each in group
            ]
        )
        for group in (ours, theirs)
    )
    embeddings = np.eye(30)

    found = data_faults.duplicates(hashes, embeddings, known, embeddings[::-1])

    assert {(pair.sample, pair.other) for pair in found} == {
        (index, 29 - index) for index in range(30)
    }
    # Look-alikes to the hash alone are none.
    assert data_faults.duplicates(hashes, embeddings, known, embeddings) == []
    assert data_faults.duplicates(hashes, np.ones((30, 2))) == []


@pytest.mark.parametrize("count", [1, 24])
def test_the_suspects_of_a_poor_model_are_called_its_own_errors(count):
    x, y = photos()
    results = read.measure(classifier(), (x, y), None, None, 32)

    section = sections.wrong_labels(results, None, list(range(count)), "")

    assert f"the labels of {count} photo" in section.content
    assert ("its own errors" in section.content) == (count == 24)


@pytest.mark.parametrize(
    ("scale", "verdict"), [(1e-3, "less sure than"), (1e3, "surer than")]
)
def test_the_page_says_whether_confidence_holds(scale, verdict):
    # Right in 3 of 4, as sure of each as of the others.
    scores = scale * np.eye(4)[[0, 1, 2, 0]]
    results = read.Results(
        None, NAMES, "abcd", scores, np.arange(4), scores, scores.argmax(1)
    )

    section = sections.answered(results)

    assert f"{verdict} it should be" in section.content
    assert "metrics.fit_temperature" in section.content


def test_planted_wrong_labels_are_suspected():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, size=400)
    scores = 3 * np.eye(4)[truth] + generator.normal(size=(400, 4))
    labels = truth.copy()
    labels[:20] = (truth[:20] + 1) % 4

    found = data_faults.suspects(labels, read.as_probabilities(scores, 1.0))

    assert len(set(found) & set(range(20))) >= 16
    assert len(found) < 40


def test_probabilities_are_taken_as_such_and_scores_as_scores():
    scores = np.array([[2.0, 1.0, -1.0], [0.0, 5.0, 1.0]])
    once = read.as_probabilities(scores, 1.0)

    np.testing.assert_allclose(read.as_probabilities(once, 1.0), once)
    np.testing.assert_allclose(
        read.as_probabilities(once, 2.0), read.as_probabilities(scores, 2.0)
    )


def test_no_key_is_a_formula_in_a_spreadsheet():
    results = read.Results(
        model=None,
        class_names=["a", "b"],
        keys=["=1+1", "b"],
        embeddings=np.eye(2),
        labels=np.array([0, 1]),
        scores=None,
        taken_for=np.array([1, 1]),
    )

    assert sections.errors_csv(results).splitlines()[1] == "'=1+1,a,b,,,"

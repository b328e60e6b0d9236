"""New photos must be named by the known ones, and nothing else."""

import threading

import keras
import numpy as np
import pytest

from keras_finegrain import Gallery
from keras_finegrain.gallery import Match

DIM = 6


def identity():
    """A model whose embedding is its input."""
    return keras.Sequential([keras.Input((DIM,)), keras.layers.Identity()])


def clusters(per_class=20, classes=4, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(1).normal(size=(classes, DIM))
    labels = np.repeat(np.arange(classes), per_class)
    x = centers[labels] + noise * rng.normal(size=(len(labels), DIM))
    return x.astype("float32"), labels


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def gallery(index="exact", **arguments):
    names = ["a", "b", "c", "d"]
    return Gallery.of_embeddings(
        identity(), *clusters(), names, index=index, **arguments
    )


@pytest.mark.parametrize("index", ["exact", "approximate"])
def test_search_gives_the_photos_of_the_highest_cosine(index):
    x, labels = clusters()
    queries, _ = clusters(3, seed=2)

    found = gallery(index).search(queries, k=7)

    cosines = unit(queries) @ unit(x).T
    order = np.argsort(-cosines, axis=1)[:, :7]
    for row, matches in enumerate(found):
        assert [match.key for match in matches] == list(map(str, order[row]))
        for match, number in zip(matches, order[row], strict=True):
            assert match.class_name == "abcd"[labels[number]]
            assert match.similarity == pytest.approx(cosines[row, number], 1e-5)


def similarities(queries, x, labels, bandwidth):
    """The definition, in plain words: the cosine to a weighted mean."""
    queries, known = unit(queries.astype("float64")), unit(x)
    columns = []
    for number in range(max(labels) + 1):
        photos = known[np.asarray(labels) == number]
        weights = np.exp(queries @ photos.T / bandwidth)
        columns.append(np.sum(queries * unit(weights @ photos), axis=1))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("index", ["exact", "approximate"])
@pytest.mark.parametrize("bandwidth", [0.05, 0.2, 3.0])
def test_identify_compares_with_the_mean_of_what_is_near(bandwidth, index):
    queries, _ = clusters(3, seed=2)

    answers = gallery(index, bandwidth=bandwidth).identify(queries, k=2)

    wanted = similarities(queries, *clusters(), bandwidth)
    for scores, answer in zip(wanted, answers, strict=True):
        order = np.argsort(-scores)
        given = [(answer.class_name, answer.similarity)]
        given += [other[:2] for other in answer.runners_up]
        assert [name for name, _ in given] == ["abcd"[c] for c in order[:3]]
        np.testing.assert_allclose(
            [similarity for _, similarity in given],
            scores[order[:3]],
            atol=1e-5,
        )
        assert answer.unknown is None
        assert answer.probability is None
        assert len(answer.matches) == 2


def test_the_bandwidth_goes_from_the_nearest_photo_to_the_mean():
    x, labels = clusters()
    queries, _ = clusters(3, seed=2)
    known = [unit(x)[labels == number] for number in range(4)]
    nearest = [(unit(queries) @ photos.T).max(axis=1) for photos in known]
    means = unit(np.stack([photos.mean(axis=0) for photos in known]))

    # (Two photos that are about equally near are one by their mean.)
    for bandwidth, wanted, within in (
        (0.001, np.max(nearest, axis=0), 0.01),
        (1000.0, (unit(queries) @ means.T).max(axis=1), 0.001),
    ):
        answers = gallery(bandwidth=bandwidth).identify(queries)
        given = [answer.similarity for answer in answers]
        np.testing.assert_allclose(given, wanted, atol=within)


def test_a_class_of_two_looks_is_known_by_each():
    # The mean of the first class is like none of its photos, and nearer to
    # the second class.
    rng = np.random.default_rng(0)
    male, female, other = np.eye(DIM)[0], -np.eye(DIM)[0], np.eye(DIM)[1]
    looks = np.repeat([male, female, 0.4 * male + other], 20, axis=0)
    looks[:40] += 0.5 * np.eye(DIM)[1]
    x = looks + 0.1 * rng.normal(size=looks.shape)
    labels = np.repeat([0, 0, 1], 20)
    queries = looks + 0.1 * rng.normal(size=looks.shape)

    def right(**arguments):
        made = Gallery.of_embeddings(identity(), x, labels, **arguments)
        names = [answer.class_name for answer in made.identify(queries)]
        return np.mean(np.array(names) == [f"class {c}" for c in labels])

    assert right() == 1.0
    assert right(bandwidth=100.0) < 0.75


def test_a_class_far_behind_many_photos_of_others_keeps_its_score():
    # More photos of the first class are nearer than the search returns.
    rng = np.random.default_rng(0)
    many = np.eye(DIM)[0] + 0.1 * rng.normal(size=(300, DIM))
    few = np.eye(DIM)[1:3] + 0.1 * rng.normal(size=(2, DIM))
    x, labels = np.concatenate([many, few]), [0] * 300 + [1, 2]

    made = Gallery.of_embeddings(identity(), x, labels)
    (answer,) = made.identify(np.eye(DIM)[0])

    cosines = unit(x)[:, 0]
    expected = {"class 1": cosines[300], "class 2": cosines[301]}
    for name, similarity, _ in answer.runners_up:
        assert similarity == pytest.approx(expected[name], abs=1e-5)


@pytest.mark.parametrize("bandwidth", [0.01, 0.2])
def test_the_best_of_many_classes_are_exact(bandwidth):
    # More classes than are compared photo by photo, and the photos that are
    # found are of few of them.
    x, labels = clusters(per_class=130, classes=200, noise=0.1)
    queries, _ = clusters(per_class=1, classes=200, noise=0.4, seed=2)

    made = Gallery.of_embeddings(identity(), x, labels, bandwidth=bandwidth)
    answers = made.identify(queries, k=5)

    wanted = similarities(queries, x, labels, bandwidth)
    for row, answer in zip(wanted, answers, strict=True):
        given = [answer.similarity]
        given += [other.similarity for other in answer.runners_up]
        np.testing.assert_allclose(given, -np.sort(-row)[:6], atol=1e-5)


@pytest.mark.parametrize("index", ["exact", "approximate"])
def test_an_added_class_is_found_and_a_removed_one_is_not(index):
    made = gallery(index)
    new = np.full((5, DIM), [-3, 3, -3, 3, -3, 3], "float32")
    new += 0.1 * np.random.default_rng(0).normal(size=new.shape)
    before = made.identify(new)[0].class_name

    assert made.add(new, "new") == ("80", "81", "82", "83", "84")
    assert {answer.class_name for answer in made.identify(new)} == {"new"}
    assert made.class_names == ("a", "b", "c", "d", "new")

    assert made.remove(class_name="new") == 5
    assert made.identify(new)[0].class_name == before
    assert made.class_names == ("a", "b", "c", "d")
    assert len(made) == 80


@pytest.mark.parametrize("index", ["exact", "approximate"])
def test_add_and_remove_lead_to_what_of_gives(index):
    x, labels = clusters()
    names = ["a", "b", "c", "d"]
    keep = np.arange(80) % 3 > 0
    queries, _ = clusters(3, seed=2)
    keys = list(map(str, np.flatnonzero(keep)))
    wanted = Gallery.of(
        identity(), (x[keep], labels[keep]), names, keys=keys, index=index
    )

    made = Gallery(identity(), index=index)
    for label, name in enumerate(names):
        rows = np.flatnonzero(labels == label)
        made.add(x[rows], name, keys=list(map(str, rows)))
    made.remove(keys=map(str, np.flatnonzero(~keep)))

    assert made.to_faiss().ntotal == len(made) == np.sum(keep)
    assert made.keys == wanted.keys
    assert made.class_names == wanted.class_names
    for one, other in zip(
        made.identify(queries), wanted.identify(queries), strict=True
    ):
        assert one.class_name == other.class_name
        assert one.similarity == pytest.approx(other.similarity, abs=1e-5)
        assert [m.key for m in one.matches] == [m.key for m in other.matches]


def test_adding_to_a_class_that_exists_extends_it():
    made = gallery()
    far = -clusters()[0][:1]
    made.add(far, "a")
    assert made.class_names == ("a", "b", "c", "d")
    assert made.search(far)[0][0].class_name == "a"


def test_the_last_photo_of_a_class_takes_the_class_along():
    made = gallery()
    made.add(np.ones((2, DIM)), "new", keys=["x", "y"])
    made.remove(keys="x")
    assert "new" in made.class_names
    made.remove(keys=["y"])
    assert "new" not in made.class_names


def test_an_emptied_gallery_finds_nothing_and_can_be_filled_again():
    made = gallery()
    for name in made.class_names:
        made.remove(class_name=name)
    assert made.search(np.ones((2, DIM))) == [[], []]
    with pytest.raises(ValueError, match=r"must have a photo.*gallery\.add"):
        made.identify(np.ones(DIM))
    made.add(np.ones(DIM), "new")
    (answer,) = made.identify(2 * np.ones(DIM))
    assert answer.class_name == "new"
    assert answer.similarity == pytest.approx(1.0)
    assert answer.runners_up == ()


@pytest.mark.parametrize("index", ["exact", "approximate"])
def test_more_matches_than_photos_are_all_photos(index):
    assert len(gallery(index).search(np.ones(DIM), k=1000)[0]) == 80


def test_of_equal_photos_the_first_comes_first():
    made = Gallery.of_embeddings(identity(), np.ones((50, DIM)), [0] * 50)
    for k in (1, 3, 50):
        keys = [match.key for match in made.search(np.ones(DIM), k)[0]]
        assert keys == [str(number) for number in range(k)]


def test_a_photo_without_an_embedding_is_like_none():
    made = gallery()
    made.add(np.zeros(DIM), "black")
    (matches,) = made.search(np.zeros(DIM))
    assert {match.similarity for match in matches} == {0.0}
    (answer,) = made.identify(np.zeros(DIM))
    assert answer.similarity == 0.0


def test_keys_name_the_photos_and_numbers_skip_those_taken():
    x, labels = clusters(1)
    made = Gallery.of(identity(), (x, labels), keys=["x", "4", "y", "z"])
    (match,) = made.search(x[1], k=1)[0:1][0]
    assert match == Match("4", "class 1", pytest.approx(1.0))
    assert made.add(np.ones((5, DIM)), "new") == ("0", "1", "2", "3", "5")


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda g: g.search(np.ones((2, 5))), r"photos, \*\(6,\).*\(2, 5\)"),
        (lambda g: g.search(np.ones(DIM), k=0), "k must be an integer"),
        (lambda g: g.search(np.full(DIM, np.nan)), "finite, received NaN"),
        (lambda g: g.search("photo.jpg"), "must be arrays for a model"),
        (lambda g: g.add(np.ones(DIM), ""), "class_name must be a string"),
        (lambda g: g.add(np.ones(DIM), "a", ["3"]), "new, received '3'"),
        (lambda g: g.add(np.ones((2, DIM)), "a", ["x"] * 2), "'x' twice"),
        (lambda g: g.add(np.ones((2, DIM)), "a", ["x"]), "1 for 2 photos"),
        (lambda g: g.add(np.ones(DIM), "a", [3]), "strings.*received 3"),
        (lambda g: g.remove(), "received neither"),
        (lambda g: g.remove("a", ["1"]), "received both"),
        (lambda g: g.remove("aa"), r"received 'aa'.*4 classes are \['a'"),
        (lambda g: g.remove(keys=["1", "x"]), "1 others, such as 'x'"),
        (lambda g: g.calibrate(clusters(4)), "at least 19 .* received 16"),
        (lambda g: g.calibrate(clusters(), 1.0), "false_alarms must be"),
        (
            lambda g: g.calibrate(clusters(10, classes=5)),
            "one entry a class.*label 4",
        ),
        (
            lambda g: g.calibrate(clusters(), 0.1, ["a", "b", "c", "x"]),
            "received some of 'x'",
        ),
        (lambda g: g.save("x.npz", "int8"), "dtype must be one of"),
    ],
)
def test_wrong_use_is_an_error_that_changes_nothing(do, message):
    made = gallery()
    with pytest.raises(ValueError, match=message):
        do(made)
    assert made.keys == gallery().keys
    assert made.class_names == ("a", "b", "c", "d")
    assert made.threshold is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a", "b"]}, "received 2 and labels from 0 to 3"),
        ({"class_names": ["a", "b", "a", "c"]}, "received 'a' twice"),
        ({"keys": ["x"]}, "received 1 for 80 photos"),
        ({"index": "flat"}, "'exact', 'approximate', received 'flat'"),
        ({"bandwidth": 0.0}, "bandwidth must be"),
        ({"layer": "there"}, "layer must be a layer"),
    ],
)
def test_a_gallery_of_wrong_arguments_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        Gallery.of(identity(), clusters(), **arguments)


def test_a_model_is_asked_for_and_one_of_one_input():
    with pytest.raises(TypeError, match="model must be a Keras model"):
        Gallery("model.keras")
    inputs = keras.Input((3,)), keras.Input((3,))
    two = keras.Model(inputs, keras.layers.Concatenate()(inputs))
    with pytest.raises(ValueError, match=r"one input, received 2"):
        Gallery(two)
    with pytest.raises(ValueError, match=r"dim 5, .* dim 6"):
        Gallery.of_embeddings(identity(), np.ones((2, 5)), [0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_new_photos_are_called_unknown_at_the_rate_that_was_asked_for(seed):
    made = Gallery.of(identity(), clusters(noise=0.5))
    kept = clusters(250, noise=0.5, seed=10 + seed)
    fresh, _ = clusters(500, noise=0.5, seed=100 + seed)

    assert made.calibrate(kept, false_alarms=0.1) is made
    share = np.mean([answer.unknown for answer in made.identify(fresh)])

    # 4 standard deviations, of 2,000 fresh and 1,000 kept photos.
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / 2000 + 0.09 / 1000)


def test_a_stranger_is_unknown_and_named_all_the_same():
    made = Gallery.of(identity(), clusters())
    made.calibrate(clusters(30, seed=3))
    stranger = -clusters()[0].mean(0)
    (answer,) = made.identify(stranger)
    assert answer.unknown is True
    assert answer.class_name in made.class_names


def test_the_lowest_known_score_is_the_threshold_of_the_fewest_photos():
    made = Gallery.of(identity(), clusters())
    x, labels = clusters(5, seed=3)
    made.calibrate((x[:19], labels[:19]), false_alarms=0.05)
    scores = [answer.similarity for answer in made.identify(x[:19])]
    assert made.threshold == pytest.approx(min(scores), abs=1e-6)


def test_probabilities_are_shares_of_right_answers():
    made = Gallery.of(identity(), clusters(noise=0.9))
    made.calibrate(clusters(200, noise=0.9, seed=3))
    x, labels = clusters(200, noise=0.9, seed=4)
    answers = made.identify(x, k=3)
    names = [answer.class_name for answer in answers]
    right = [
        name == f"class {y}" for name, y in zip(names, labels, strict=True)
    ]
    sure = [answer.probability for answer in answers]
    assert np.mean(sure) == pytest.approx(np.mean(right), abs=0.05)
    others = [[o.probability for o in answer.runners_up] for answer in answers]
    np.testing.assert_allclose(np.sum(others, axis=1) + sure, 1.0, atol=1e-6)


def test_calibrating_on_photos_of_the_gallery_is_warned_of():
    with pytest.warns(UserWarning, match="80 of 80 that are in it"):
        gallery().calibrate(clusters())


def test_ready_embeddings_calibrate_as_their_photos_do():
    kept = clusters(30, seed=2)
    of_photos = gallery().calibrate(kept, 0.1)
    of_embeddings = gallery().calibrate_embeddings(*kept, 0.1)
    assert of_embeddings.threshold == of_photos.threshold
    assert of_embeddings.temperature == of_photos.temperature
    with pytest.raises(ValueError, match="calibrate_embeddings"):
        gallery().calibrate_embeddings(kept[0][:, 1:], kept[1])
    with pytest.warns(UserWarning, match="80 of 80"):
        gallery().calibrate_embeddings(*clusters())


def test_ready_embeddings_are_named_as_their_photos_are():
    new, _ = clusters(30, seed=2)
    made = gallery()
    assert made.identify_embeddings(new, k=2) == made.identify(new, k=2)
    with pytest.raises(ValueError, match="identify_embeddings"):
        made.identify_embeddings(new[:, 1:])


def test_one_class_can_be_calibrated():
    x, _ = clusters(30, classes=1)
    made = Gallery.of(identity(), (x[:10], np.zeros(10, int)))
    made.calibrate((x[10:], np.zeros(20, int)))
    assert made.identify(x[0])[0].probability == 1.0


def test_several_threads_search_while_one_adds():
    made = gallery()
    queries, _ = clusters(5, seed=2)
    wrong = []

    def search():
        try:
            for _ in range(3):
                assert len(made.search(queries, 3)) == 20
                made.identify(queries)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5):
        made.add(queries[:2], f"new {number}")
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(made) == 90


def test_faiss_gets_the_vectors_in_the_order_of_the_keys():
    made = gallery()
    queries, _ = clusters(1, seed=2)
    found, rows = made.to_faiss().search(made.embed(queries), 3)
    for matches, own, numbers in zip(
        made.search(queries, 3), found, rows, strict=True
    ):
        assert [match.key for match in matches] == [
            made.keys[row] for row in numbers
        ]
        np.testing.assert_allclose([m.similarity for m in matches], own)


def test_photos_of_a_square_are_read_from_files(tmp_path):
    image = pytest.importorskip("PIL.Image")
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()]
    )
    paths = []
    for name, colour in {"red": (200, 9, 9), "blue": (9, 9, 200)}.items():
        paths.append(tmp_path / f"{name}.png")
        image.new("RGB", (20, 20), colour).save(paths[-1])
    made = Gallery(model)
    for path in paths:
        assert made.add(path, path.stem) == (str(path),)
    assert [answer.class_name for answer in made.identify(paths)] == [
        "red",
        "blue",
    ]
    assert made.search(str(paths[1]), 1)[0][0].key == str(paths[1])
    copies = Gallery(model)
    keys = copies.add(iter(paths), "coloured")
    assert keys == copies.keys == tuple(map(str, paths))
    both = [answer.class_name for answer in made.identify(tmp_path)]
    assert both == ["blue", "red"]
    with pytest.raises(ValueError, match=r"none\.png"):
        made.identify("none.png")

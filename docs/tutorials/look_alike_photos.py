# %% [markdown]
# # Look-alike photos in ten minutes
#
# You have photos of things that look alike: sparrows, screws, mushrooms, models
# of cars. You want a program that names a new photo. This page goes all the
# way, on a computer without a GPU:
#
# 1. a folder of photos,
# 2. a *pretrained network*, which turns each photo into a list of numbers,
# 3. training on these numbers, which takes seconds,
# 4. a page that shows what is still confused with what,
# 5. the name of one new photo.
#
# Nothing is downloaded: the photos are birds that this package draws. Your own
# photos go in their place by one line, in the next cell. In a clone of the
# repository, `pip install ".[tensorflow,command]"` brings all that is used.
#
# (Without a line of code, `keras-finegrain train photos/` does the same. Here
# you see the steps and can change each of them.)

# %%
import pathlib

import keras
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

import keras_finegrain
from keras_finegrain import datasets, metrics, visualization
from keras_finegrain.datasets.synthetic_birds import draw, species_table

PHOTOS = None  # your own: the path of a folder with one folder for each class
EPOCHS = 15

keras.utils.set_random_seed(0)  # the same numbers each time

# %% [markdown]
# ## 1. A folder of photos
#
# One folder for each class, its name is the class's:
#
# ```
# photos/
#   chipping sparrow/  a.jpg  b.jpg  …
#   field sparrow/     c.jpg  …
# ```
#
# Twenty photos of a class are a start. We draw six species of birds that share
# one body and differ in a few parts: the beak, the crown, the tail. The light,
# the pose and the background are others in every photo, as in life.


# %%
def draw_birds(species, photos_of_each, first_seed):
    """Photos of each species, (photos, 48, 48, 3), and their labels."""
    images = [
        draw(bird, seed=first_seed + 1000 * number + photo, size=48)[0]
        for number, bird in enumerate(species)
        for photo in range(photos_of_each)
    ]
    labels = np.repeat(np.arange(len(species)), photos_of_each)
    return np.stack(images), labels


all_species = species_table(num_species=12, parts_apart=4)
if PHOTOS is None:
    PHOTOS, SIZE = "drawn_photos", 48
    birds, labels = draw_birds(all_species[:6], 40, first_seed=0)
    for number, (bird, label) in enumerate(zip(birds, labels, strict=True)):
        folder = pathlib.Path(PHOTOS, all_species[label].name)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(bird).save(folder / f"{number}.png")
else:
    SIZE = 224  # pixels that the network below was trained with

# %% [markdown]
# `load` looks for the classes and keeps a fifth of each back. On these photos,
# the *test* photos, nothing is trained: they show how good the program is on
# photos that it has never seen.

# %%
photos = datasets.load(PHOTOS)
train, test = (
    datasets.batches(part, image_size=SIZE, batch_size=32, training=False)
    for part in (photos.train, photos.test)
)
print(photos.num_classes, "classes:", ", ".join(photos.class_names))
print(photos.train_size, "photos to train on,", photos.test_size, "to test on")

test_images = np.concatenate([images for images, _ in test])
test_labels = np.concatenate([labels for _, labels in test])
visualization.class_grid(
    test_images, test_labels, photos.class_names, images_per_class=6
)
plt.show()

# %% [markdown]
# ## 2. A pretrained network
#
# A network learns to see (edges, colours, feathers) from many photos, far more
# than you have. So one takes a network that has learned it before, on other
# photos. For real photos that is a network trained on ImageNet, a million
# photos of a thousand things. Keras brings several.
#
# ImageNet knows no drawn birds. For them we train a small network on six other
# species. What it learns about beaks and tails serves here too.


# %%
def pretrained_on_other_birds():
    images, labels = draw_birds(all_species[6:], 40, first_seed=20_000)
    network = keras.Sequential([keras.Input((SIZE, SIZE, 3))])
    network.add(keras.layers.Rescaling(1 / 127.5, offset=-1))
    for filters in (16, 32, 64, 128):
        network.add(keras.layers.Conv2D(filters, 3, padding="same"))
        network.add(keras.layers.BatchNormalization(momentum=0.9))
        network.add(keras.layers.ReLU())
        if filters < 128:
            network.add(keras.layers.MaxPooling2D())
    network.add(keras.layers.GlobalMaxPooling2D())
    classifier = keras.Sequential([network, keras.layers.Dense(6)])
    classifier.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    classifier.fit(images, labels, batch_size=32, epochs=8, verbose=0)
    return network


def pretrained_on_imagenet():  # downloads 9 MB
    network = keras.applications.MobileNetV2(
        (SIZE, SIZE, 3), include_top=False, pooling="avg"
    )
    to_its_range = keras.layers.Rescaling(1 / 127.5, offset=-1)
    return keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), to_its_range, network]
    )


if PHOTOS == "drawn_photos":
    backbone = pretrained_on_other_birds()
else:
    backbone = pretrained_on_imagenet()
backbone.trainable = False  # it stays as it is from here on

# %% [markdown]
# It turns a photo into a list of numbers, the photo's *features*. As the
# network stays as it is, the features of a photo stay the same, too. So they
# are computed once and kept: all training below works on them and never touches
# a photo again. The mirror image of a photo is a second photo for free.

# %%
features, labels = [], []
for images, batch_labels in train:
    images = np.asarray(images)
    for view in (images, images[:, :, ::-1]):
        features.append(backbone.predict_on_batch(view))
        labels.append(batch_labels)
features, labels = np.concatenate(features), np.concatenate(labels)
test_features = backbone.predict(test_images, verbose=0)
np.savez("features.npz", features=features, labels=labels)  # for tomorrow
print(features.shape[1], "features of each of", len(features), "images")

# %% [markdown]
# ## 3. Train on the features
#
# Only the last part is left to train, the *head*: it turns features into one
# score for each class. We train two and compare them.
#
# - *softmax* is the usual one: a linear layer, `Dense`.
# - *SoftTriple* keeps a few points for each class, its *centers*. The score of
#   a class says how nearly the photo points the same way as its centers. A
#   class with several looks, such as male and female, may have a center for
#   each.


# %%
def train_head(head, loss):
    model = keras.Sequential(
        [
            keras.Input(features.shape[1:]),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(64, name="embedding"),
            head,
        ]
    )
    steps = EPOCHS * -(-len(features) // 32)
    falling = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    model.compile(keras.optimizers.Adam(falling), loss)
    model.fit(features, labels, batch_size=32, epochs=EPOCHS, verbose=0)
    return model


heads = {
    "softmax": train_head(
        keras.layers.Dense(photos.num_classes),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ),
    "SoftTriple": train_head(
        keras_finegrain.SoftTriple(photos.num_classes, centers_per_class=3),
        keras_finegrain.losses.SoftTripleLoss(),
    ),
}
scores = {
    name: head.predict(test_features, verbose=0) for name, head in heads.items()
}
for name, values in scores.items():
    right = (values.argmax(axis=1) == test_labels).mean()
    print(f"{name}: the name of {right:.0%} of the test photos is right")

# %% [markdown]
# Guessing would be right for one in six. A few points between the two heads
# mean nothing on so few photos: [the command](../command.md) repeats the
# training with several starts and gives intervals.
#
# ## 4. Look at the errors
#
# From here on it is one model again, from photos to scores.

# %%
model = keras.Sequential([backbone, heads["SoftTriple"]])
visualization.look_alike_confusions(
    test_labels, scores["SoftTriple"].argmax(axis=1), photos.class_names
)
plt.show()

# %% [markdown]
# Rows are what a photo shows, columns what it was taken for. Where errors pile
# up, look at the photos: are the two classes told apart in them at all, is a
# label wrong? The *report* has all of it on one page with the photos behind
# each error. Open `report.html` in a browser.

# %%
keras_finegrain.report(
    model,
    test,
    "report.html",
    photos.class_names,
    keys=photos.test_keys,
    compare={"softmax": scores["softmax"]},
)

# %% [markdown]
# ## 5. Name one photo
#
# A *bundle* is a model with all that an answer needs: the names of the classes,
# the size of the images, and a *temperature*. Scores are no probabilities, but
# divided by the right temperature, a softmax makes probabilities of them: of
# the photos with 80 %, about 80 in 100 are right.

# %%
bundle = keras_finegrain.Bundle(
    model,
    photos.class_names,
    SIZE,
    temperature=metrics.fit_temperature(scores["SoftTriple"], test_labels),
)
bundle.save("my_birds")

new_photo = pathlib.Path(PHOTOS, photos.test_keys[0])
(probabilities,) = bundle.predict(new_photo)
for number in probabilities.argsort()[::-1][:3]:
    print(f"{probabilities[number]:4.0%}  {photos.class_names[number]}")

# %%
plt.imshow(Image.open(new_photo))
plt.title(photos.class_names[probabilities.argmax()])
plt.axis("off")
plt.show()

# %% [markdown]
# Tomorrow, in a program of your own:
#
# ```python
# bundle = keras_finegrain.Bundle.load("my_birds")
# probabilities = bundle.predict("photo.jpg")
# ```
#
# ## Where to go from here
#
# - Your own photos: set `PHOTOS` in the first cell, and run it again.
# - More accuracy: train the last block of the network too, in minutes:
#   `keras-finegrain train photos/ --freeze block_15_add`.
# - Photos of nothing that it knows, and an app:
#   [from a trained model to an app that says "unknown"](model_to_app.md).
# - What to expect of which loss: [which loss for my data](../which_loss.md).

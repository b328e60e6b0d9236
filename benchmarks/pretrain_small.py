"""Makes the first weights of the backbone `small`: it learns drawn species.

    python benchmarks/pretrain_small.py

writes `keras_finegrain/training/small.weights.h5` (three minutes on 2 CPU
cores). The species differ in five parts or more, so they are easy to tell
apart: what the backbone learns is general, as ImageNet is for photos. None of
them is a species of the configurations with twelve, in any plumage.
"""

import argparse

import keras
import numpy as np

import keras_finegrain
from keras_finegrain.datasets.synthetic_birds import draw, species_table
from keras_finegrain.training.backbones import build_backbone
from keras_finegrain.training.settings import Settings

_SIZE = 64
_BATCH_SIZE = 32
_LEARNING_RATE = 3e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", default="keras_finegrain/training/small.weights.h5"
    )
    parser.add_argument("--photos-per-species", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    images, labels = drawn(arguments.photos_per_species)
    keras.utils.set_random_seed(0)
    backbone = build_backbone(Settings(weights="none", image_size=_SIZE))
    model = keras.Sequential(
        [
            keras.Input((_SIZE, _SIZE, 3)),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            backbone,
            keras_finegrain.layers.GeneralizedMeanPooling2D(),
            keras.layers.Dense(len(np.unique(labels))),
        ]
    )
    steps = arguments.epochs * -(-len(images) // _BATCH_SIZE)
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps),
            weight_decay=1e-4,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images, labels, _BATCH_SIZE, epochs=arguments.epochs, verbose=2)
    backbone.save_weights(arguments.output)


def drawn(photos_per_species: int) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 255] of species that the default data does not have."""
    kept_back = {
        species for apart in (1, 2, 3) for species in species_table(36, apart)
    }
    learned = [s for s in species_table(16, 5) if s not in kept_back]
    images = [
        draw(species, seed=(label, index), size=_SIZE)[0]
        for label, species in enumerate(learned)
        for index in range(photos_per_species)
    ]
    labels = np.repeat(np.arange(len(learned)), photos_per_species)
    return np.array(images, "float32"), labels


if __name__ == "__main__":
    main()

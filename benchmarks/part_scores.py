"""On which parts a network's channels and maps lie, with MC-loss and without.

    python benchmarks/part_scores.py --picture docs/images/part_scores.png

prints the table of docs/part_scores.md and draws its picture: 17
minutes of CPU time. Small networks are trained from scratch on drawn birds,
with softmax alone and with MC-loss at growing weights of its diversity. The
last epoch counts, and the interval is the 95 % t-interval of the mean over
training seeds.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import time

import keras
import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

import keras_finegrain
from keras_finegrain.datasets.synthetic_birds.drawing import draw, part_masks
from keras_finegrain.datasets.synthetic_birds.species import (
    PARTS,
    parts_between,
    species_table,
)
from keras_finegrain.layers.mc_loss import diversity
from keras_finegrain.metrics.part_deletion import (
    part_deletion_drops,
    single_deletion_correlation,
)
from keras_finegrain.metrics.part_scores import (
    PartCoverage,
    channel_part_diversity,
    deciding_part_coverage,
    part_shares,
)
from keras_finegrain.visualization import channel_overlay
from keras_finegrain.visualization.palette import COLORS

PARTS_APART, NUM_SPECIES, SIZE = 2, 12, 64
SPECIES = species_table(NUM_SPECIES, PARTS_APART)
TRAIN, TEST = 0, 1
CHANNELS_PER_CLASS = 3

# By method, one dictionary a seed.
Scores = dict[str, list[dict[str, float]]]

# None of the first three, which are the channels' in the same picture.
_BAR_COLORS = ("#bbbbbb", *COLORS[4:6], COLORS[3], COLORS[6])

# Student's t, two-sided 95 %, for 1 to 9 degrees of freedom.
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclasses.dataclass(frozen=True)
class Method:
    """What is minimised beside the cross-entropy.

    Args:
        name: heads the row.
        loss_weight: μ of MC-loss, 0 for none.
        diversity_weight: λ of MC-loss.
    """

    name: str
    loss_weight: float = 0.0
    diversity_weight: float = 0.0


@dataclasses.dataclass(frozen=True)
class Photos:
    """Photos of every species, and what is known of them.

    Args:
        images: (photos, 64, 64, 3) uint8.
        labels: (photos,) integers.
        masks: (photos, parts, 64, 64) bool.
        without: (photos, parts, 64, 64, 3) uint8, each part deleted in turn.
        decides: (photos, parts) bool: the parts in which the species differs
            from one of its nearest look-alikes, each look-alike in its turn.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    without: np.ndarray
    decides: np.ndarray


def main() -> None:
    arguments = parse_arguments()
    methods = [Method("softmax alone")] + [
        Method(f"MC-loss, λ = {weight:g}", arguments.loss_weight, weight)
        for weight in arguments.diversity_weights
    ]
    train = draw_photos(TRAIN, arguments.train_per_species)
    test = annotated(TEST, arguments.test_per_species)
    scores: Scores = {}
    pictured = {}
    for method in methods:
        for seed in arguments.seeds:
            network = trained(method, *train, seed, arguments.epochs)
            readings = Readings(network, method, test)
            scores.setdefault(method.name, []).append(readings.scores())
            pictured.setdefault(method.name, readings)
            seconds = time.process_time()
            print(
                f"{method.name}, seed {seed}: {seconds:.0f} s of CPU time",
                file=sys.stderr,
                flush=True,
            )
    print_table(scores, readings.of_chance())
    if arguments.picture:
        draw_picture(pictured, scores, test, arguments.picture)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train-per-species", type=int, default=80)
    parser.add_argument("--test-per-species", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--loss-weight", type=float, default=0.3, help="μ of MC-loss"
    )
    parser.add_argument(
        "--diversity-weights",
        type=float,
        nargs="+",
        default=[0, 1, 10],
        help="λ of MC-loss, a row each",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14]
    )
    parser.add_argument(
        "--picture", type=pathlib.Path, help="file for the picture"
    )
    arguments = parser.parse_args()
    if not 2 <= len(arguments.seeds) <= len(_T_95) + 1:
        parser.error(f"--seeds: from 2 to {len(_T_95) + 1} of them")
    return arguments


def draw_photos(split: int, per_species: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels."""
    images = [
        draw(species, [split, label, index], SIZE)[0]
        for label, species in enumerate(SPECIES)
        for index in range(per_species)
    ]
    return np.stack(images), np.repeat(np.arange(NUM_SPECIES), per_species)


def annotated(split: int, per_species: int) -> Photos:
    images, labels = draw_photos(split, per_species)
    masks, without, decides = [], [], []
    for label, species in enumerate(SPECIES):
        nearest = [
            parts
            for other in SPECIES
            if len(parts := parts_between(species, other)) == PARTS_APART
        ]
        for index in range(per_species):
            seed = [split, label, index]
            masks.append(part_masks(species, seed, SIZE))
            without.append(
                [draw(species, seed, SIZE, (part,))[0] for part in PARTS]
            )
            parts = nearest[index % len(nearest)]
            decides.append([part in parts for part in PARTS])
    return Photos(
        images, labels, np.stack(masks), np.array(without), np.array(decides)
    )


def trained(
    method: Method,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    epochs: int,
) -> keras.Model:
    """A small network from scratch; gives probabilities and the map."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    photo = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(photo)
    x = layers.RandomFlip("horizontal")(x)
    x = convolution(x, 32, kernel=5, strides=2)
    x = layers.MaxPooling2D()(x)
    x = convolution(x, 48)
    x = layers.MaxPooling2D()(x)
    x = convolution(x, 96)
    feature_map = convolution(x, CHANNELS_PER_CLASS * NUM_SPECIES, kernel=1)
    x = feature_map
    if method.loss_weight:
        x = keras_finegrain.MCLoss(
            NUM_SPECIES,
            loss_weight=method.loss_weight,
            diversity_weight=method.diversity_weight,
            channels_per_class=CHANNELS_PER_CLASS,
            seed=seed,
        )(x)
    pooled = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(NUM_SPECIES, name="classifier")(pooled)
    model = keras_finegrain.Model(photo, logits)
    steps = epochs * -(-len(images) // 32)
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(3e-3, steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images, labels, epochs=epochs, batch_size=32, verbose=0)
    return keras.Model(photo, [layers.Softmax()(logits), feature_map])


def convolution(
    x: keras.KerasTensor, filters: int, kernel: int = 3, strides: int = 1
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters, kernel, strides, padding="same", use_bias=False
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.ReLU()(x)


class Readings:
    """What one network says of the test photos."""

    def __init__(
        self, network: keras.Model, method: Method, photos: Photos
    ) -> None:
        self.photos = photos
        self.probabilities, self.feature_maps = network.predict(
            photos.images, batch_size=64, verbose=0
        )
        without, _ = network.predict(
            photos.without.reshape(-1, SIZE, SIZE, 3), batch_size=64, verbose=0
        )
        self.drops = part_deletion_drops(
            self.probabilities,
            without.reshape(len(photos.images), len(PARTS), NUM_SPECIES),
            photos.labels,
        )
        weights = keras.ops.convert_to_numpy(
            network.get_layer("classifier").kernel
        )
        if method.loss_weight:
            self.channels = np.arange(weights.shape[0]).reshape(NUM_SPECIES, -1)
        else:
            # No channel belongs to a class: take those it leans on most.
            strongest = np.argsort(-weights, axis=0)[:CHANNELS_PER_CLASS]
            self.channels = strongest.T
        # Class activation maps (Zhou et al., CVPR 2016) of the true class.
        self.heat_maps = np.maximum(
            np.einsum(
                "ihwk,ki->ihw", self.feature_maps, weights[:, photos.labels]
            ),
            0,
        )

    def scores(self) -> dict[str, float]:
        """A row of the table each."""
        photos = self.photos
        found = self.probabilities.argmax(axis=1) == photos.labels
        groups = self.feature_maps[..., self.channels.ravel()]
        l_div = diversity(
            groups.reshape(len(groups), -1, groups.shape[-1]),
            (CHANNELS_PER_CLASS,) * NUM_SPECIES,
        )
        channels = channel_part_diversity(
            self.feature_maps, photos.masks, self.channels[photos.labels]
        )
        coverage = self._coverage(self.heat_maps)
        drops = 100 * self.drops
        return {
            "top-1, %": 100 * found.mean(),
            "L_div, 1 to 3": keras.ops.convert_to_numpy(l_div).mean(),
            "channels on a part, %": 100 * channels.on_parts,
            "distinct parts / 3": channels.distinct,
            "… anywhere on the parts": channels.chance_on_parts,
            "coverage of the deciding parts": coverage.ratio,
            "hits of the deciding parts, %": 100 * coverage.hits,
            "ρ of map and drops": self._correlation(self.heat_maps),
            "… of a flat map": self._correlation(np.ones_like(self.heat_maps)),
            "drop, deciding parts": drops[photos.decides].mean(),
            "drop, other parts": drops[~photos.decides].mean(),
            **{
                f"drop, {part}": drop
                for part, drop in zip(PARTS, drops.mean(axis=0), strict=True)
            },
        }

    def of_chance(self) -> dict[str, float]:
        """The scores of channels at random places, and of a flat map."""
        masks, (height, width) = self.photos.masks, self.heat_maps.shape[1:]
        cells = masks.any(axis=1).reshape(
            len(masks), height, SIZE // height, width, SIZE // width
        )
        anywhere = channel_part_diversity(
            self.feature_maps, masks, self.channels[self.photos.labels]
        )
        flat = self._coverage(np.ones_like(self.heat_maps))
        return {
            "top-1, %": 100 / NUM_SPECIES,
            "channels on a part, %": 100 * cells.any(axis=(2, 4)).mean(),
            "distinct parts / 3": anywhere.chance,
            "coverage of the deciding parts": flat.ratio,
            "hits of the deciding parts, %": 100 * flat.hit_chance,
            "ρ of map and drops": 0.0,
        }

    def _coverage(self, heat_maps: np.ndarray) -> PartCoverage:
        deciding = self.photos.masks & self.photos.decides[..., None, None]
        return deciding_part_coverage(heat_maps, deciding.any(axis=1))

    def _correlation(self, heat_maps: np.ndarray) -> float:
        shares = part_shares(heat_maps, self.photos.masks)
        return single_deletion_correlation(shares, self.drops)


def print_table(scores: Scores, chance: dict[str, float]) -> None:
    print(f"| | chance | {' | '.join(scores)} |")
    print("|---|---|" + "---|" * len(scores))
    for row in next(iter(scores.values()))[0]:
        # Shares have two places after the point, percent one.
        places = 1 if "%" in row or "drop, " in row else 2
        cells = [f"{chance[row]:.{places}f}" if row in chance else ""]
        for runs in scores.values():
            middle, half = mean_and_half([run[row] for run in runs])
            cells.append(f"{middle:.{places}f} ± {half:.{places}f}")
        print(f"| {row} | {' | '.join(cells)} |")


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % t-interval."""
    half = _T_95[len(values) - 2] * statistics.stdev(values)
    return statistics.mean(values), half / len(values) ** 0.5


def draw_picture(
    readings: dict[str, Readings],
    scores: Scores,
    photos: Photos,
    path: pathlib.Path,
) -> None:
    """Three birds with their channels by method, and the drops by part."""
    columns = 1 + len(readings)
    figure = pyplot.figure(
        figsize=(2.1 * columns, 9.4), layout="constrained", dpi=90
    )
    birds, bars = figure.subfigures(2, 1, height_ratios=(3, 1.25))
    axes = birds.subplots(3, columns)
    # A bird of another species a row, whole and with no leaf before a part.
    whole = photos.masks.any(axis=(2, 3)).all(axis=1)
    rows = [np.flatnonzero(whole & (photos.labels == k))[0] for k in (1, 3, 9)]
    for row, index in zip(axes, rows, strict=True):
        row[0].imshow(photos.images[index])
        row[0].set_ylabel(deciding_names(photos.decides[index]), fontsize=9)
        for axis, reading in zip(row[1:], readings.values(), strict=True):
            channels = reading.channels[photos.labels[index]]
            feature_map = reading.feature_maps[index]
            channel_overlay(
                photos.images[index], feature_map, channels, ax=axis
            ).get_legend().remove()
            mark_peaks(axis, feature_map[..., channels])
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
            for mask, decides in zip(
                photos.masks[index], photos.decides[index], strict=True
            ):
                axis.contour(
                    mask,
                    levels=[0.5],
                    colors="white",
                    linewidths=1.6 if decides else 0.5,
                )
    for axis, title in zip(axes[0], ["parts", *readings], strict=True):
        axis.set_title(title, fontsize=10)
    birds.supxlabel(
        "colours: the three channels of the class;  squares: where each is "
        "highest;  thick outlines: the parts that decide",
        fontsize=9,
    )
    draw_bars(bars.subplots(), scores)
    figure.savefig(path)
    # 256 colours: a quarter of the bytes, which a page has to carry.
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def deciding_names(decides: np.ndarray) -> str:
    names = [part for part, it in zip(PARTS, decides, strict=True) if it]
    return f"decides: {' and '.join(names)}"


def mark_peaks(axis: Axes, maps: np.ndarray) -> None:
    """A square on the cell where each channel is highest."""
    cell = SIZE / len(maps)
    for channel in range(maps.shape[-1]):
        row, column = np.unravel_index(
            maps[..., channel].argmax(), maps.shape[:2]
        )
        # A little smaller each time, for channels that peak in one cell.
        inset = 0.4 + 0.9 * channel
        axis.add_patch(
            Rectangle(
                (column * cell - 0.5 + inset, row * cell - 0.5 + inset),
                cell - 2 * inset,
                cell - 2 * inset,
                fill=False,
                edgecolor=COLORS[channel],
                linewidth=2,
            )
        )


def draw_bars(axis: Axes, scores: Scores) -> None:
    width = 0.8 / len(scores)
    for place, (name, runs) in enumerate(scores.items()):
        middles, halves = zip(
            *(
                mean_and_half([run[f"drop, {part}"] for run in runs])
                for part in PARTS
            ),
            strict=True,
        )
        axis.bar(
            np.arange(len(PARTS)) + (place + 0.5) * width - 0.4,
            middles,
            width,
            yerr=halves,
            color=_BAR_COLORS[place % len(_BAR_COLORS)],
            error_kw={"linewidth": 0.8},
            label=name,
        )
    axis.set_xticks(range(len(PARTS)), list(PARTS))
    axis.set_ylabel("drop of the true class's\nprobability, % points")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()

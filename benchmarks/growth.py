"""How the time of a step grows over a decade of each size.

    python benchmarks/growth.py --out docs/images

times training steps of a model of one layer and a bias, with one size grown
tenfold at a time and the others held, and draws time against size on
logarithmic axes: a line for each size and way to run. A step has a part that
does not grow at all, so that a line that ends below the diagonal still bends
towards it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import turns

FACTORS = (1, 2, 5, 10)
# The sizes at 1 on the axis.
SIZES = {
    "CenterLoss": {"batch": 64, "classes": 1000, "dim": 64},
    "SoftTriple": {"batch": 32, "classes": 200, "centers": 2, "dim": 64},
    "MCLoss": {"batch": 8, "classes": 50, "channels": 3, "positions": 49},
    "TripletSemiHardLoss": {"batch": 128, "per_class": 4, "dim": 64},
}


def step_of(layer: str, jit_compile: bool, **sizes: int) -> Callable[[], Any]:
    """A training step of a model of one layer."""
    import keras
    from bias import Bias
    from training_step import training_step

    import keras_finegrain

    batch, classes = sizes["batch"], sizes.get("classes", 0)
    shape = (sizes.get("dim", 0),)
    if layer == "MCLoss":
        shape = (sizes["positions"], 1, classes * sizes["channels"])
    inputs = keras.Input(shape)
    outputs, loss = Bias()(inputs), None
    if layer == "CenterLoss":
        outputs = keras_finegrain.CenterLoss(classes)(outputs)
    elif layer == "SoftTriple":
        outputs = keras_finegrain.SoftTriple(classes, sizes["centers"])(outputs)
        loss = keras_finegrain.losses.SoftTripleLoss()
    elif layer == "MCLoss":
        outputs = keras_finegrain.MCLoss(classes, seed=0)(outputs)
    else:
        loss = keras_finegrain.losses.TripletSemiHardLoss()
        classes = max(1, batch // sizes["per_class"])
    model = keras_finegrain.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=jit_compile)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, *shape)).astype("float32")
    return training_step(model, x, (np.arange(batch) % classes).astype("int32"))


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--out", type=Path, default=Path("."))
    given = options.parse_args()
    factors = (1, 2) if given.tiny else FACTORS
    forms = turns.forms(given.backends)
    decades = [
        (layer, size) for layer, sizes in SIZES.items() for size in sizes
    ]
    if given.tiny:
        forms, decades = forms[:1], decades[:2]
    grown = {}
    for form in forms:
        for layer, size in decades:
            cases = [
                form.case(
                    f"{size} {factor * SIZES[layer][size]:,}",
                    step_of,
                    layer=layer,
                    **{**SIZES[layer], size: factor * SIZES[layer][size]},
                )
                for factor in factors
            ]
            timings = turns.in_turns(cases, given.rounds, one_process=True)
            turns.print_table(f"{layer}, {form.name}", cases, timings)
            grown[layer, size, form.name] = [
                turns.ratio(timing, timings[0]).median for timing in timings
            ]
    path = given.out / "growth.png"
    draw(grown, factors, path)
    print(f"\n{path}")


def draw(
    grown: dict[tuple[str, str, str], list[float]],
    factors: tuple[int, ...],
    path: Path,
) -> None:
    """A row for each way to run, a column for each layer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    layers = list(dict.fromkeys(layer for layer, _, _ in grown))
    names = list(dict.fromkeys(name for _, _, name in grown))
    figure, axes = plt.subplots(
        len(names),
        len(layers),
        figsize=(3 * len(layers), 2.8 * len(names)),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    styles = {
        # Of Okabe and Ito, told apart without colours by their markers.
        "batch": ("#0072B2", "o"),
        "classes": ("#D55E00", "s"),
        "dim": ("#009E73", "^"),
        "centers": ("#CC79A7", "v"),
        "channels": ("#CC79A7", "D"),
        "positions": ("#009E73", "P"),
        "per_class": ("#E69F00", "X"),
    }
    for (layer, size, name), ratios in grown.items():
        axis = axes[names.index(name)][layers.index(layer)]
        color, marker = styles[size]
        smallest = SIZES[layer][size]
        axis.plot(
            factors,
            ratios,
            color=color,
            marker=marker,
            markersize=5,
            label=f"{size.replace('_', ' ')} from {smallest:,}",
        )
    for axis, layer in zip(axes[0], layers, strict=True):
        axis.set_title(layer, fontsize=10)
    for row, name in zip(axes, names, strict=True):
        row[0].set_ylabel(f"{name}\ntime of a step, smallest = 1")
        for axis in row:
            axis.plot(factors, factors, color="0.6", linestyle=":", zorder=0)
            axis.set(xscale="log", yscale="log", ylim=(0.4, 60))
            axis.set_xticks(factors, [f"×{factor}" for factor in factors])
            axis.minorticks_off()
            axis.set_yticks([1, 10], ["1", "10"])
            axis.grid(color="0.92")
            axis.legend(fontsize=7, loc="upper left", frameon=False)
    for axis in axes[-1]:
        axis.set_xlabel("size")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()

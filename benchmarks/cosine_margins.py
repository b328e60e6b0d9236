"""Draws the picture of docs/methods/cosine_margins.md into docs/images.

    python benchmarks/cosine_margins.py

The true class's logit by the angle between an embedding and its class's
center, before the scale, as the losses compute it.
"""

import argparse
import math
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_finegrain import losses

LOSSES = (
    ("NormFace: no margin", losses.NormFaceLoss()),
    ("CosFace, m = 0.35", losses.CosFaceLoss(margin=0.35)),
    ("ArcFace, m = 0.5", losses.ArcFaceLoss(margin=0.5)),
    ("SphereFace, m = 4", losses.SphereFaceLoss(margin=4)),
    ("combined, 1, 0.3, 0.2", losses.CombinedMarginLoss(64, 1, 0.3, 0.2)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="docs/images", type=pathlib.Path)
    output = parser.parse_args().output / "cosine_margins.png"

    angles = np.linspace(0, math.pi, 721)
    cosines = ops.convert_to_tensor(np.cos(angles).astype("float32"))
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, loss in LOSSES:
        logits = ops.convert_to_numpy(loss.with_margin(cosines))
        axes.plot(np.degrees(angles), logits, label=name)
    axes.set_xlabel("angle θ between the embedding and its class's center")
    axes.set_xticks(range(0, 181, 30), [f"{x}°" for x in range(0, 181, 30)])
    axes.set_ylabel("ψ(θ), the true class's logit / s")
    axes.set_xlim(0, 180)
    axes.set_ylim(-4, 1.1)  # SphereFace goes on to −7.
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()

"""What a finished run should make its owner think of."""

import argparse
from typing import Any

import numpy as np

from keras_finegrain._base.arrays import true_class_ranks
from keras_finegrain.training import Run

# Training and test accuracy this far apart: it has learned its photos by
# heart.
_APART = 0.3


def warnings_of(options: argparse.Namespace, run: Run, data: Any) -> list[str]:
    """Warnings of a run, each a sentence with numbers and a remedy."""
    # Methods on pairs have no accuracy while they train.
    if "accuracy" not in run.history:
        return []
    accuracy = run.history["accuracy"][-1]
    chance = 1 / data.num_classes
    # Twice as good as a guess, which two classes cannot be.
    if accuracy < min(2 * chance, chance + 0.1 * (1 - chance)):
        return [
            f"the training accuracy is {accuracy:.1%} after {options.epochs} "
            f"epochs, where guessing has {chance:.1%}. It has learned next to "
            f"nothing: raise --lr (now {options.lr:g}) or --epochs"
        ]
    tested = np.mean(true_class_ranks(run.scores, run.labels) <= 1)
    if accuracy - tested > _APART:
        return [
            f"it is right on {accuracy:.1%} of the training images and on "
            f"{tested:.1%} of the test images: it knows its images by heart. "
            "More photos of each class help most; then fewer --epochs (now "
            f"{options.epochs}), a higher --weight-decay (now "
            f"{options.weight_decay:g}) or, with --freeze, more --views (now "
            f"{options.views})"
        ]
    return []

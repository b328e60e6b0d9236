"""Which weights become NaN or infinite first, in a run that diverges.

    KERAS_BACKEND=jax python benchmarks/first_nan.py whole_lr/center \
        --data runs/sparrows.npz --weights runs/weights

trains an arm of `evidence/arms.toml` for an epoch at most, looks at all weights
after every step, and stops at the first that is not finite. If the gradient of
one layer is at fault, its weights alone are named; if the loss is, nearly all.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from evidence import ARMS, EvidenceError, read_arms

from keras_finegrain.datasets import DatasetError, Photos
from keras_finegrain.training import (
    PhotosOnDevice,
    PhotoSplit,
    TrainingError,
    train,
)


class Watch(keras.callbacks.Callback):
    """Prints each step and ends the epoch at the first weight not finite."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the weights."""
        found = not_finite(self.model)
        loss = (logs or {}).get("loss", np.nan)
        print(f"step {batch + 1}: loss {float(loss):.4g}", flush=True)
        if not found:
            return
        print(f"{len(found)} of {len(self.model.weights)} are not finite:")
        for path, count, size in found:
            print(f"  {path}: {count} of {size} values")
        raise FoundError


class FoundError(Exception):
    """Ends `fit`."""


def not_finite(model: keras.Model) -> list[tuple[str, int, int]]:
    """The weights with values that are not finite.

    Returns:
        Of each its path, how many values are not finite, and how many it has.
    """
    # On JAX the variables get their values at the end of an epoch.
    state = getattr(model, "_jax_state", None) or {}
    found = []
    for kind in ("trainable_variables", "non_trainable_variables"):
        variables = getattr(model, kind)
        values = state.get(kind) or [each.value for each in variables]
        for variable, value in zip(variables, values, strict=True):
            array = keras.ops.convert_to_numpy(value)
            count = int(np.sum(~np.isfinite(array.astype(np.float64))))
            if count:
                found.append((variable.path, count, array.size))
    return found


def main() -> int:
    """Runs the command; returns its exit status."""
    own = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    own.add_argument("arm", help="of the table, as GROUP/NAME")
    own.add_argument("--arms", type=Path, default=ARMS, help="table of arms")
    own.add_argument("--data", type=Path, required=True, help="the photos")
    own.add_argument("--weights", type=Path, default=Path())
    own.add_argument("--precision", help="in place of the arm's")
    own.add_argument("--seed", type=int, default=0)
    given = own.parse_args()
    try:
        arms = read_arms(given.arms)
        photos = Photos.load(given.data)
    except (DatasetError, EvidenceError) as error:
        own.error(str(error))
    if given.arm not in arms:
        own.error(f"{given.arm} is no arm of {given.arms}: {', '.join(arms)}")
    arm = arms[given.arm]
    changed: dict[str, Any] = {"epochs": 1}
    if arm.backbone.endswith(".keras"):
        changed["backbone"] = str(given.weights / arm.backbone)
    if given.precision:
        changed["mixed_precision"] = given.precision
    source = PhotoSplit(
        PhotosOnDevice(photos),
        photos.labels,
        np.flatnonzero(~photos.is_test),
        np.flatnonzero(photos.is_test),
        photos.num_classes,
    )
    settings = dataclasses.replace(arm, **changed)
    try:
        train(settings, given.seed, source, callbacks=[Watch()])
    except FoundError:
        return 1
    except TrainingError as error:
        print(error)
        return 1
    print("all weights are finite after an epoch")
    return 0


if __name__ == "__main__":
    sys.exit(main())

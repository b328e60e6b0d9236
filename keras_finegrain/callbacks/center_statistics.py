"""How far the centers move in an epoch, and how far apart they are."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_finegrain._base.checks import number, positive_integer
from keras_finegrain._base.checks import seed as check_seed
from keras_finegrain.layers.center_loss import CenterLoss
from keras_finegrain.layers.centers import layers_with_centers
from keras_finegrain.layers.cosine_similarity import (
    CosineSimilarity,
    count_distinct,
)
from keras_finegrain.metrics.embedding_set import squared_distances, unit_rows


class CenterStatistics(keras.callbacks.Callback):
    """Adds statistics of the class centers to the logs of each epoch.

    For every `CenterLoss`, `CosineSimilarity` and `SoftTriple` of the model:

    - `center_movement`: mean distance by which a center moved in this epoch. It
      falls as training converges. If it does not, lower alpha or the learning
      rate.
    - `center_distance`: mean distance of a center to the nearest center of
      another class. Near 0, classes overlap.
    - `distinct_centers`: mean number of different centers of a class, for
      layers with several: the number that `SoftTriple` needed.

    Distances are on the unit sphere, in [0, 2]. Those of a `CenterLoss` without
    `normalize` are in the units of the embedding. With several such layers
    each statistic has its layer's name as a prefix.

    Args:
        tolerance: Distance up to which two centers of a class are one, as in
            `CosineSimilarity.distinct_centers`. Defaults to 0.1.
        max_classes: Up to how many classes are measured; of more, a sample is
            drawn once. Each is compared with all the others. Defaults to 1000,
            which takes about a second an epoch for 10^5 classes.
        seed: Seed of that draw. Defaults to 0.

    Raises:
        ValueError: For an argument out of its range; when training begins, if
            the model has no such layer.

    Example:

    >>> model = keras_finegrain.Sequential([
    ...     keras.Input((8,)),
    ...     keras_finegrain.SoftTriple(num_classes=3, centers_per_class=2),
    ... ])
    >>> model.compile("adam", keras_finegrain.losses.SoftTripleLoss())
    >>> x, y = np.ones((6, 8)), np.arange(6) % 3
    >>> history = model.fit(
    ...     x, y, verbose=0, callbacks=[CenterStatistics()]
    ... )
    >>> sorted(name for name in history.history if "center_" in name)
    ['center_distance', 'center_movement', 'center_spread']
    """

    def __init__(
        self, tolerance: float = 0.1, max_classes: int = 1000, seed: int = 0
    ) -> None:
        super().__init__()
        who = type(self).__name__
        self.tolerance = number(who, "tolerance", tolerance, at_least=0)
        self.max_classes = positive_integer(who, "max_classes", max_classes)
        self.seed = check_seed(who, "seed", seed)
        self._before: dict[str, np.ndarray] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keeps where the centers start."""
        del logs
        self._before = {
            layer.path: self._chosen(centers)
            for layer, centers in self._centers()
        }
        if not self._before:
            raise ValueError(
                "CenterStatistics: the model must have a CenterLoss, "
                "CosineSimilarity or SoftTriple layer, received "
                f"{type(self.model).__name__} '{self.model.name}' without "
                "any. Leave the callback out."
            )

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Adds the statistics to the logs."""
        del epoch
        if logs is None:
            return
        for layer, centers in self._centers():
            prefix = f"{layer.name}_" if len(self._before) > 1 else ""
            chosen = self._chosen(centers)
            moved = np.linalg.norm(chosen - self._before[layer.path], axis=-1)
            self._before[layer.path] = chosen
            logs[f"{prefix}center_movement"] = float(moved.mean())
            if len(centers) > 1:
                nearest = self._nearest_other_class(centers)
                logs[f"{prefix}center_distance"] = float(nearest.mean())
            if centers.shape[1] > 1:
                distinct = math.nan
                # (Centers that are not finite cannot be told apart.)
                if np.isfinite(centers).all():
                    counts = count_distinct(centers, self.tolerance)
                    distinct = float(counts.mean())
                logs[f"{prefix}distinct_centers"] = distinct

    def _centers(self) -> Iterator[tuple[keras.layers.Layer, np.ndarray]]:
        """Each layer with its centers `(classes, centers_per_class, dim)`."""
        for layer in layers_with_centers(self.model):
            centers = np.asarray(keras.ops.convert_to_numpy(layer.centers))
            centers = centers.astype(np.float64)
            if isinstance(layer, CenterLoss):
                centers = centers[:, None, :]
            if isinstance(layer, CosineSimilarity) or layer.normalize:
                flat = unit_rows(centers.reshape(-1, centers.shape[-1]))
                centers = flat.reshape(centers.shape)
            yield layer, centers

    def _chosen(self, centers: np.ndarray) -> np.ndarray:
        return centers[self._classes(len(centers))]

    def _classes(self, count: int) -> np.ndarray:
        if count <= self.max_classes:
            return np.arange(count)
        draw = np.random.default_rng(self.seed)
        return draw.choice(count, self.max_classes, replace=False)

    def _nearest_other_class(self, centers: np.ndarray) -> np.ndarray:
        """Distance of each chosen center to the nearest of another class."""
        classes, per_class, dim = centers.shape
        flat = centers.reshape(-1, dim)
        nearest = []
        # One class at a time: memory is that of the centers.
        for index in self._classes(classes):
            squared = squared_distances(centers[index], flat)
            own = slice(index * per_class, (index + 1) * per_class)
            squared[:, own] = np.inf
            nearest.append(squared.min(axis=1))
        return np.sqrt(nearest)

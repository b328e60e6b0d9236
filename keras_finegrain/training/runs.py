"""One method, one seed: from the first weights to the figures."""

import argparse
import pathlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_finegrain
from birds_lib.backbones import build_backbone, split_backbone
from birds_lib.errors import RunError
from birds_lib.frozen import FeatureBatches, compute_features
from birds_lib.methods import (
    HEAD_WEIGHTS,
    ON_PAIRS,
    balanced_batch,
    build_head,
)
from birds_lib.progress import Progress
from keras_finegrain import datasets
from keras_finegrain.metrics import intra_inter_distance_ratio, recall_at_k


class Run(NamedTuple):
    """What one run gave.

    Attributes:
        figures: Name to number, on the test set after the last epoch.
        history: Name to one number an epoch.
        model: From images in [0, 255] to scores.
        embeddings: Of the test set, `(samples, dim)`.
        labels: Of the test set, `(samples,)`.
    """

    figures: dict[str, float]
    history: dict[str, list[float]]
    model: keras.Model
    embeddings: np.ndarray
    labels: np.ndarray


class Models(NamedTuple):
    """What one run trains; the layers are the same objects in all of them.

    Attributes:
        model: What is trained, to scores or, on pairs, to embeddings; from
            images, or from features where a part of the backbone is frozen.
        with_embedding: The same to embeddings and scores.
        frozen: From images to features, or None.
        loss: What `model` is trained with.
    """

    model: keras.Model
    with_embedding: keras.Model
    frozen: keras.Model | None
    loss: keras.losses.Loss


class Trainer:
    """Trains methods on one data set under the same conditions.

    For one seed all methods have the same first weights of the backbone and
    the same augmentation and, but for those on pairs, the same order of images.

    Args:
        options: The command line.
        data: The data set.
        scope: Gives the context in which models are built.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        data: datasets.ImageDataset,
        scope: Callable[[], AbstractContextManager],
    ) -> None:
        self._options = options
        self._data = data
        self._scope = scope
        self._features: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._test_images = datasets.batches(
            data.test,
            image_size=options.image_size,
            batch_size=options.batch_size,
            training=False,
            cache=True,
        )

    def train(self, method: str, seed: int) -> Run:
        """Trains one method with one seed.

        Raises:
            RunError: If the training diverges.
        """
        model, with_embedding, frozen, loss = self.build(method, seed)
        train, test = self._batches(method, frozen, seed)
        on_pairs = method in ON_PAIRS
        with self._scope():
            self._compile(model, loss, len(train), classifies=not on_pairs)
        started = time.perf_counter()
        history = model.fit(
            train,
            # Test batches have no pairs to speak of: a loss on them would be
            # noise.
            validation_data=None if on_pairs else test,
            epochs=self._options.epochs,
            shuffle=False,  # The batches are shuffled already.
            verbose=0,
            callbacks=[
                Progress(f"{method} seed {seed}"),
                keras.callbacks.TerminateOnNaN(),
            ],
        ).history
        seconds = time.perf_counter() - started
        if not np.isfinite(history["loss"]).all():
            raise RunError(
                f"{method}, seed {seed}: the loss became NaN or infinite in "
                f"epoch {len(history['loss'])}; lower --lr"
            )
        if on_pairs:
            self._set_class_means(with_embedding, frozen)
        embeddings, scores = with_embedding.predict(test, verbose=0)
        labels = np.concatenate([np.asarray(y) for _, y in test])
        figures = test_figures(embeddings, scores, labels)
        figures["seconds"] = seconds
        head = with_embedding.get_layer("head")
        if getattr(head, "centers_per_class", 1) > 1:
            # 0.1 is 6 degrees between two centers of unit length.
            distinct = head.distinct_centers(tolerance=0.1)
            figures["distinct_centers"] = float(np.mean(distinct))
        # The frozen part and the tail share the backbone's layers: put on the
        # images, the trained ones make a model that needs neither cache.
        whole = model
        if on_pairs:
            whole = keras.Model(with_embedding.input, with_embedding.outputs[1])
        if frozen is not None:
            whole = keras_finegrain.Model(frozen.input, whole(frozen.output))
        return Run(figures, history, whole, embeddings, labels)

    def write_report(self, method: str, run: Run, path: pathlib.Path) -> None:
        """Writes a page on a trained model and the test images."""
        keras_finegrain.report(
            run.model,
            self._test_images,
            path,
            self._data.class_names,
            title=f"{method} on the test images of {self._data.name}",
        )

    def build(self, method: str, seed: int) -> Models:
        """Builds the models of one run."""
        options = self._options
        with self._scope():
            keras.utils.set_random_seed(seed)
            backbone = self._backbone()
            frozen, tail = None, backbone
            if options.freeze:
                frozen, tail = split_backbone(backbone, options.freeze)
            # The head's first weights do not depend on how many numbers the
            # backbone drew.
            keras.utils.set_random_seed(seed)
            head = build_head(
                method, tail.output, self._data.num_classes, options
            )
            model = keras_finegrain.Model(tail.input, head.trained)
            with_embedding = keras.Model(
                tail.input, [head.embedding, head.scores]
            )
        return Models(model, with_embedding, frozen, head.loss)

    def _backbone(self) -> keras.Model:
        options = self._options
        return build_backbone(
            options.backbone,
            image_size=options.image_size,
            weights=options.weights,
            arguments=dict(options.backbone_args),
        )

    def _set_class_means(
        self, with_embedding: keras.Model, frozen: keras.Model | None
    ) -> None:
        """Classifies by the nearest mean of the training embeddings."""
        if frozen is None:
            train = datasets.batches(
                self._data.train,
                image_size=self._options.image_size,
                batch_size=self._options.batch_size,
                training=False,
            )
        else:
            train = FeatureBatches(
                *self._features["train"], self._options.batch_size
            )
        batches, batch_labels = [], []
        for inputs, labels in train:
            inputs = np.asarray(inputs)
            batches.append(with_embedding.predict_on_batch(inputs)[0])
            batch_labels.append(np.asarray(labels))
        embeddings = np.concatenate(batches)
        labels = np.concatenate(batch_labels)
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        directions = embeddings / np.maximum(length, 1e-12)
        means = [
            directions[labels == label].mean(axis=0, keepdims=True)
            for label in range(self._data.num_classes)
        ]
        with_embedding.get_layer("head").centers.assign(np.stack(means))

    def _compile(
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        steps: int,
        *,
        classifies: bool,
    ) -> None:
        """Compiles it for epochs of so many steps."""
        options = self._options
        optimizer = keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                options.lr, steps * options.epochs
            ),
            weight_decay=options.weight_decay,
        )
        if options.head_lr_multiplier != 1.0:
            optimizer = keras_finegrain.optimizers.LayerwiseLearningRate(
                optimizer, {HEAD_WEIGHTS: options.head_lr_multiplier}
            )
        # On JAX the alternative to compiling is a step without any jit.
        compiled = options.xla or keras.backend.backend() == "jax"
        model.compile(
            optimizer,
            loss,
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
            if classifies
            else None,
            jit_compile=compiled,
        )

    def _batches(
        self, method: str, frozen: keras.Model | None, seed: int
    ) -> tuple[Any, Any]:
        """What a method trains on, and is tested on."""
        options = self._options
        balanced = balanced_batch(method, options, self._data.num_classes)
        if frozen is not None:
            if not self._features:
                self._features = self._compute_features(frozen)
            return (
                FeatureBatches(
                    *self._features["train"],
                    options.batch_size,
                    seed=seed,
                    balanced=balanced,
                ),
                FeatureBatches(*self._features["test"], options.batch_size),
            )
        if balanced is None:
            train = datasets.batches(
                self._data.train,
                image_size=options.image_size,
                batch_size=options.batch_size,
                training=True,
                augment=options.augment,
                seed=seed,
                cache=True,
            )
        else:
            train = datasets.balanced_batches(
                self._data.train,
                image_size=options.image_size,
                classes_per_batch=balanced[0],
                images_per_class=balanced[1],
                augment=options.augment,
                seed=seed,
            )
        return train, self._test_images

    def _compute_features(
        self, frozen: keras.Model
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        options = self._options
        train_images = datasets.batches(
            self._data.train,
            image_size=options.image_size,
            batch_size=options.batch_size,
            training=False,
        )
        print(f"computing the output of {options.freeze} once …", flush=True)
        started = time.perf_counter()
        features = {
            "train": compute_features(
                frozen, train_images, mirrored=options.augment != "none"
            ),
            "test": compute_features(frozen, self._test_images, mirrored=False),
        }
        size = sum(views.nbytes for views, _ in features.values())
        print(
            f"… {size / 1e6:.0f} MB in {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        return features


def test_figures(
    embeddings: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """The figures of a test set.

    Args:
        embeddings: `(samples, dim)`.
        scores: `(samples, num_classes)`; the highest one wins.
        labels: `(samples,)`.

    Returns:
        top_1, top_5 and recall_at_1 in [0, 1], and the distance ratio.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    # Classes with the same score count as better.
    rank = np.sum(scores >= own, axis=1)
    return {
        "top_1": float(np.mean(rank <= 1)),
        "top_5": float(np.mean(rank <= 5)),
        "recall_at_1": recall_at_k(embeddings, labels, k=1),
        "intra_inter_distance_ratio": intra_inter_distance_ratio(
            embeddings, labels
        ),
    }

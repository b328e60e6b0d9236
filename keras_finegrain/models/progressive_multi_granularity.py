"""Progressive multi-granularity training: several stages, jigsaws of each."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_finegrain._base.checks import (
    number,
    positive_integer,
    seed_or_none,
    shown,
)
from keras_finegrain._base.private_keras import (
    call_behind,
    calls_of,
    compiled_loss,
)
from keras_finegrain._base.typing import Tensor
from keras_finegrain.labels.scope import label_scope
from keras_finegrain.layers.jigsaw import Jigsaw
from keras_finegrain.models.max_pooling import GlobalMaxPooling2D
from keras_finegrain.models.model import FunctionalModel

_WHO = "progressive_multi_granularity"
# A fine-tuning has few hundred steps: Keras's 0.99 would average over most.
_NORM = {"momentum": 0.9, "epsilon": 1e-5}


@keras.saving.register_keras_serializable(package="keras_finegrain")
class StageScores(keras.layers.Layer):
    """The end of a `ProgressiveModel`: the scores of all of its classifiers.

    In training the scores of the classifier on the concatenated stages, which
    the compiled loss trains; else the mean of all classifiers' scores. It
    keeps the jigsaws as well: what the model needs beside its graph.

    Args:
        pieces: The parts along each side of the jigsaw of each stage.
        jigsaw_loss_weight: The weight of the loss of each jigsaw.
        seed: Seed of the jigsaws, or `None` for a random one.
        **kwargs: `name` and `dtype` of `keras.layers.Layer`.

    Call arguments:
        scores: A list of scores `(batch, num_classes)`: those of the
            concatenated stages, then those of each stage.
        training: Whether the first of them alone are returned.
    """

    def __init__(
        self,
        pieces: Sequence[int],
        jigsaw_loss_weight: float,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pieces = tuple(pieces)
        self.jigsaw_loss_weight = jigsaw_loss_weight
        self.seed = seed
        self.jigsaws = [
            Jigsaw(n, seed=None if seed is None else (seed + i) % 2**32)
            for i, n in enumerate(self.pieces)
        ]

    def build(self, input_shape: Any) -> None:
        """Makes nothing: the jigsaws have no weights."""

    def call(
        self, scores: list[Tensor], training: bool | None = None
    ) -> Tensor:
        """The scores that are trained, or those that predict."""
        return scores[0] if training else sum(scores) / len(scores)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the scores of one classifier."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "pieces": self.pieces,
            "jigsaw_loss_weight": self.jigsaw_loss_weight,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="keras_finegrain")
class ProgressiveModel(FunctionalModel):
    """What `progressive_multi_granularity` returns.

    Its graph predicts. In training it computes the jigsaws of each stage
    besides, and adds their losses.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        end = call_behind(self.outputs[0])
        if not isinstance(end.layer, StageScores):
            raise ValueError(
                f"{type(self).__name__}: the outputs must be those of "
                f"{_WHO}, received those of {type(end.layer).__name__} "
                f"'{end.layer.name}'. Build the model with "
                f"keras_finegrain.models.{_WHO}."
            )
        stages = [keras.Model(self.inputs, scores) for scores in end.inputs[1:]]
        # In a function, where Keras does not take them for further layers.
        self._stages_of_training: Callable[
            [], tuple[StageScores, list[keras.Model]]
        ] = lambda: (end.layer, stages)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """As `keras_finegrain.Model.compute_loss`, and that of the jigsaws."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        (images,) = keras.tree.flatten(x)
        scores, stages = self._stages_of_training()
        # What layers of the backbone add to the loss, they added for the whole
        # image.
        with label_scope(None):
            for jigsaw, stage in zip(scores.jigsaws, stages, strict=True):
                of_stage = stage(jigsaw(images, training=True), training=True)
                added = compiled_loss(
                    self,
                    self._as_outputs(y, of_stage),
                    of_stage,
                    self._as_outputs(sample_weight, of_stage),
                )
                loss = loss + scores.jigsaw_loss_weight * added
        return loss


def progressive_multi_granularity(
    backbone: keras.Model,
    num_classes: int,
    layers: Sequence[str] | None = None,
    *,
    pieces: Sequence[int] | None = None,
    jigsaw_loss_weight: float = 0.5,
    stage_channels: int = 1024,
    embedding_size: int = 512,
    embedding_layer: keras.layers.Layer | None = None,
    seed: int | None = None,
    name: str | None = None,
) -> ProgressiveModel:
    """A classifier on several feature maps, trained on jigsaws of the images.

    Early maps of a backbone see small parts, late ones the whole. Each of the
    S stages gets a block of convolutions, the maximum over its map and a
    classifier of its own; one more classifier stands on the concatenated
    stages. In every step of training

        L = CE(whole image, concatenated stages)
            + w · Σ_l CE(jigsaw of n_l × n_l parts, stage l)

    with the loss of `compile()` in the place of CE: an early stage has to tell
    the classes apart by what is smaller than a part. The model predicts from
    the whole image, in one pass, the mean of the scores of all S + 1
    classifiers.

    It differs from the official code in this: that makes S + 1 updates a
    batch, one after the other, this one update by the sum of their gradients
    (with the official weights 1, 1, 1 and 2, halved); the pass of a stage ends
    at its classifier, so that layers behind it get no statistics from its
    jigsaw; and scores are averaged where the official code adds them, which
    ranks the classes alike and keeps their probabilities and the validation
    loss comparable with those of one classifier.

    A step costs the memory and up to S + 1 times the time of one on whole
    images. Predicting costs one pass, and the stages' blocks.

    `compile()` takes any loss on scores without activation, such as
    `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`. Metrics see
    the classifier on the concatenated stages in training, and the mean in
    evaluation. With
    `LayerwiseLearningRate(optimizer, {"^(stage_|embedding|head)": 10})` the new
    weights learn ten times as fast as the backbone, as in the official code.

    Args:
        backbone: A functional model from one image `(batch, height, width,
            channels)` to a feature map, with its preprocessing inside. The
            model shares its layers.
        num_classes: Number of classes, at least 1.
        layers: Names of the backbone's layers whose outputs are the feature
            maps of the stages, from the earliest to the last. Default `None`:
            the last map of each of its three smallest sizes.
        pieces: n_l, the parts along each side of each stage's jigsaw; they
            must divide the image. Default `None`: 2^S, …, 4, 2, the paper's.
        jigsaw_loss_weight: w, at least 0. Default 0.5, as in the official
            code. 0 trains on whole images alone, and the stages' own
            classifiers not at all: for an ablation.
        stage_channels: Channels of each stage's block. Default 1024, the
            paper's.
        embedding_size: Size of the embedding of the concatenated stages and of
            the layers inside of the blocks and classifiers. Default 512, the
            paper's.
        embedding_layer: A layer that stands on the embedding, such as
            `CenterLoss(num_classes)`; it sees whole images alone.
        seed: Seed of the jigsaws: an int, or `None` for a random one.
        name: Name of the model.

    Returns:
        A `keras_finegrain.Model` from images to scores `(batch, num_classes)`,
        without activation. Its layer `embedding` gives the embedding of the
        concatenated stages `(batch, embedding_size)`, which
        `embedding_model`, `report` and `Gallery` find by themselves. Blocks
        and classifiers of the stages are called `stage_1_…`, the last
        classifier `head`.

    Raises:
        ValueError: For an argument out of its range; for a backbone that has
            several inputs, too few feature maps or no layer of a name; for
            images that the jigsaws' parts do not divide.

    Example:

    >>> images = keras.Input((16, 16, 3))
    >>> x = keras.layers.Conv2D(4, 3, 2, "same", name="early")(images)
    >>> x = keras.layers.Conv2D(8, 3, 2, "same", name="late")(x)
    >>> model = keras_finegrain.models.progressive_multi_granularity(
    ...     keras.Model(images, x), 3, ["early", "late"],
    ...     stage_channels=8, embedding_size=4,
    ... )
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss)
    >>> x, y = np.ones((4, 16, 16, 3)), np.array([0, 1, 2, 0])
    >>> history = model.fit(x, y, verbose=0)
    >>> keras_finegrain.embedding_model(model).output_shape
    (None, 4)

    Reference:
        - [Du et al., "Fine-Grained Visual Classification via Progressive
          Multi-Granularity Training of Jigsaw Patches", ECCV
          2020](https://arxiv.org/abs/2003.03836)
    """
    num_classes = positive_integer(_WHO, "num_classes", num_classes)
    stage_channels = positive_integer(_WHO, "stage_channels", stage_channels)
    embedding_size = positive_integer(_WHO, "embedding_size", embedding_size)
    weight = number(_WHO, "jigsaw_loss_weight", jigsaw_loss_weight, at_least=0)
    seed = seed_or_none(_WHO, "seed", seed)
    maps = _feature_maps(backbone, layers)
    if pieces is None:
        pieces = [2**power for power in range(len(maps), 0, -1)]
    if not isinstance(pieces, (list, tuple)) or len(pieces) != len(maps):
        raise ValueError(
            f"{_WHO}: pieces must be a list of {len(maps)} integers, one for "
            f"each stage, or None, received {shown(pieces)}."
        )
    scores_of = StageScores(
        [positive_integer(_WHO, "each of pieces", n) for n in pieces],
        weight,
        seed,
        dtype="float32",
        name="scores",
    )
    for jigsaw in scores_of.jigsaws:
        jigsaw.build(backbone.inputs[0].shape)

    pooled, scores = [], []
    for number_, feature_map in enumerate(maps, start=1):
        prefix = f"stage_{number_}"
        pooled.append(
            _block(feature_map, embedding_size, stage_channels, prefix)
        )
        hidden = _hidden(pooled[-1], embedding_size, f"{prefix}_embedding")
        scores.append(_classifier(hidden, num_classes, f"{prefix}_head"))
    concatenated = keras.layers.Concatenate(name="stages")(pooled)
    embedding = _hidden(concatenated, embedding_size, "embedding")
    if embedding_layer is not None:
        embedding = embedding_layer(embedding)
    scores.insert(0, _classifier(embedding, num_classes, "head"))
    return ProgressiveModel(backbone.inputs[0], scores_of(scores), name=name)


def _block(feature_map: Any, size: int, channels: int, prefix: str) -> Any:
    """Two convolutions and the maximum over the map, `(batch, channels)`."""
    axis = 1 if keras.config.image_data_format() == "channels_first" else -1
    x = feature_map
    for number_, (filters, width) in enumerate(((size, 1), (channels, 3)), 1):
        x = keras.layers.Conv2D(
            filters,
            width,
            padding="same",
            use_bias=False,
            name=f"{prefix}_conv_{number_}",
        )(x)
        x = keras.layers.BatchNormalization(
            axis, name=f"{prefix}_norm_{number_}", **_NORM
        )(x)
        x = keras.layers.ReLU(name=f"{prefix}_relu_{number_}")(x)
    return GlobalMaxPooling2D(name=f"{prefix}_pooling")(x)


def _hidden(vectors: Any, size: int, name: str) -> Any:
    """The classifier without its last layer: an embedding of this name."""
    x = keras.layers.BatchNormalization(name=f"{name}_norm_1", **_NORM)(vectors)
    x = keras.layers.Dense(size, name=f"{name}_dense")(x)
    x = keras.layers.BatchNormalization(name=f"{name}_norm_2", **_NORM)(x)
    return keras.layers.ELU(name=name)(x)


def _classifier(embedding: Any, num_classes: int, name: str) -> Any:
    # Scores in float32 under every policy.
    return keras.layers.Dense(num_classes, name=name, dtype="float32")(
        embedding
    )


def _feature_maps(
    backbone: keras.Model, layers: Sequence[str] | None
) -> list[keras.KerasTensor]:
    """The outputs of the named layers, or the last map of the last sizes."""
    if len(getattr(backbone, "inputs", None) or []) != 1:
        raise ValueError(
            f"{_WHO}: backbone must be a functional model of one image input, "
            f"received {shown(backbone)}. Build it as "
            "keras.Model(images, feature_map)."
        )
    # From the image on: each layer's output in this graph.
    outputs = {
        call.layer.name: call.outputs[0]
        for call in reversed(list(calls_of(backbone)))
        if len(call.outputs[0].shape) == 4 and call.inputs
    }
    order = [layer.name for layer in backbone.layers if layer.name in outputs]
    by_size = {
        _size(outputs[layer_name]): layer_name
        for layer_name in order
        # Not a padded map, nor the 1 × 1 of squeeze-and-excitation.
        if _size(outputs[layer_name]) != (1, 1)
        and not isinstance(
            backbone.get_layer(layer_name), keras.layers.ZeroPadding2D
        )
    }
    smallest = [by_size[size] for size in sorted(by_size)[:3]]
    last = sorted(smallest, key=order.index)
    names = last if layers is None else layers
    if isinstance(names, str) or not isinstance(names, (list, tuple)):
        raise ValueError(
            f"{_WHO}: layers must be a list of names of the backbone's layers, "
            f"such as {last}, or None, received {shown(names)}."
        )
    if not names or not all(each in order for each in names):
        wrong = [each for each in names if each not in order]
        raise ValueError(
            f"{_WHO}: layers must name layers of the backbone that give a "
            f"feature map (batch, height, width, channels), received "
            f"{shown(wrong or names)}. The last map of each size is {last}."
        )
    if len(set(names)) < len(names) or list(names) != sorted(
        names, key=order.index
    ):
        raise ValueError(
            f"{_WHO}: layers must stand from the earliest to the last, each "
            f"once, received {shown(names)}. In the backbone they stand as "
            f"{sorted(set(names), key=order.index)}."
        )
    return [outputs[each] for each in names]


def _size(feature_map: keras.KerasTensor) -> tuple[int, ...]:
    """Height and width; 0 where they are unknown."""
    first = keras.config.image_data_format() == "channels_first"
    sides = feature_map.shape[2:] if first else feature_map.shape[1:3]
    return tuple(side or 0 for side in sides)

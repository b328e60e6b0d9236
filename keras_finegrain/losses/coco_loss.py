"""COCO: NormFace with a scale that follows from the number of classes."""

import math
from typing import Any

import keras

from keras_finegrain._base.checks import number, positive_integer
from keras_finegrain.losses.norm_face_loss import NormFaceLoss


@keras.saving.register_keras_serializable(package="keras_finegrain")
class COCOLoss(NormFaceLoss):
    """Congenerous cosine loss: cross-entropy of scaled cosines.

    With the similarities S of `keras_finegrain.CosineSimilarity`, C classes
    and the scale α,

        ℓ = −log( e^{α S_y} / Σ_c e^{α S_c} )
        α = (C − 1)/C · log( (C − 1) / (e^ε − 1) )

    The formula is that of `NormFaceLoss(scale=α)`; what this loss adds is the
    choice of α. C centers of unit length lie apart at best with cosines of
    −1/(C − 1), so that no network gets the mean loss of balanced classes below
    log(1 + (C − 1) e^{−αC/(C − 1)}). α is the smallest scale at which it can
    fall to ε.

    Args:
        num_classes: C, at least 2.
        epsilon: ε in (0, 1), the loss that can be reached. Default 1e-4, ours:
            a scale of 11.6 for 21 classes, and of 14.4 for 200.
        name: Name of the loss.
        **kwargs: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: Integers `(batch,)` or `(batch, 1)` in `[0, num_classes)`, or
            one-hot labels `(batch, num_classes)`, soft ones included.
        y_pred: Similarities `(batch, num_classes)` in [-1, 1].
        sample_weight: Weights `(batch,)`.

    Raises:
        ValueError: For an argument out of its range, for labels of another
            shape, and for labels outside of the classes. In a compiled step,
            where values cannot be read, such a label makes the loss NaN.

    Attributes:
        scale: α.

    Example:

    >>> loss = keras_finegrain.losses.COCOLoss(num_classes=200)
    >>> print(round(loss.scale, 1))
    14.4

    Reference:
        - [Liu et al., "Rethinking Feature Discrimination and Polymerization
          for Large-scale Recognition", 2017](
          https://arxiv.org/abs/1710.00870): the loss, and a bound for α
        - [Wang et al., "NormFace: L2 Hypersphere Embedding for Face
          Verification", ACM MM 2017, proposition 2](
          https://arxiv.org/abs/1704.06369): the bound that is taken here
    """

    def __init__(
        self,
        num_classes: int,
        epsilon: float = 1e-4,
        name: str = "coco_loss",
        **kwargs: Any,
    ) -> None:
        self.num_classes = positive_integer(
            self.who, "num_classes", num_classes
        )
        if self.num_classes == 1:
            raise ValueError(
                f"{self.who}: num_classes must be at least 2, received 1. One "
                "class leaves nothing to tell apart."
            )
        self.epsilon = number(self.who, "epsilon", epsilon, above=0, below=1)
        others = self.num_classes - 1
        # (log(e^ε − 1) keeps its digits where ε is small.)
        scale = others / self.num_classes
        scale *= math.log(others) - math.log(math.expm1(self.epsilon))
        if scale <= 0:
            raise ValueError(
                f"{self.who}: epsilon must be below the loss of chance, log 2 "
                f"of two classes, received {epsilon!r}. Take a smaller one."
            )
        super().__init__(scale, name, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        del config["scale"]
        return {
            **config,
            "num_classes": self.num_classes,
            "epsilon": self.epsilon,
        }

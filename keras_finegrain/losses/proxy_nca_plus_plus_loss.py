"""Proxy-NCA++: the probability of the own class's proxy."""

from typing import Any

import keras

from keras_finegrain._base.checks import number
from keras_finegrain.losses.norm_face_loss import NormFaceLoss


@keras.saving.register_keras_serializable(package="keras_finegrain")
class ProxyNCAPlusPlusLoss(NormFaceLoss):
    """Proxy-NCA++: the probability of the own proxy, at a low temperature.

    With the similarities S of `keras_finegrain.CosineSimilarity`, whose
    centers are the proxies p, and ‖x − p_c‖² = 2 − 2 S_c on the unit sphere,

        ℓ = −log( e^{−‖x − p_y‖² / T} / Σ_c e^{−‖x − p_c‖² / T} )

    The loss is that of `NormFaceLoss(scale=2 / T)`. The rest of the paper's
    method belongs to the model: global max pooling, a `LayerNormalization`
    without scale and offset before the head, and a high learning rate for the
    proxies
    (`keras_finegrain.optimizers.LayerwiseLearningRate`).

    Args:
        temperature: T > 0. Default 1/9, the paper's.
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

    Example:

    >>> loss = keras_finegrain.losses.ProxyNCAPlusPlusLoss(temperature=1 / 9)
    >>> similarities = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
    >>> bool(loss(np.array([0, 1]), similarities) < 1e-4)
    True

    Reference:
        - [Teh et al., "ProxyNCA++: Revisiting and Revitalizing Proxy
          Neighborhood Component Analysis", ECCV 2020](
          https://arxiv.org/abs/2004.01113)
    """

    def __init__(
        self,
        temperature: float = 1.0 / 9.0,
        name: str = "proxy_nca_plus_plus_loss",
        **kwargs: Any,
    ) -> None:
        self.temperature = number(
            type(self).__name__, "temperature", temperature, above=0
        )
        super().__init__(2.0 / self.temperature, name, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        del config["scale"]
        return {**config, "temperature": self.temperature}

"""What `compile()` takes."""

from keras_finegrain.losses.soft_triple_loss import (
    SoftTripleLoss as SoftTripleLoss,
)

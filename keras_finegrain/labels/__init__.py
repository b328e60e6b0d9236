"""The labels of a batch: what they may be, and how they reach the layers."""

from keras_finegrain.labels.scope import label_scope as label_scope

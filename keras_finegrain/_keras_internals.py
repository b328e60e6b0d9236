"""What is needed of Keras and stands in no public name: here and nowhere else.

Each was there from the lowest Keras that this package supports to the newest
that it was tested with.
"""

from keras.src.backend import in_stateless_scope as in_stateless_scope
from keras.src.backend.common.symbolic_scope import (
    in_symbolic_scope as in_symbolic_scope,
)
from keras.src.models.functional import Functional as Functional

"""The command `keras-finegrain`: one module for each of its commands.

A command's module has `add_arguments(parser)` and `run(options, out)`.
"""

from keras_finegrain.cli.main import main

__all__ = ["main"]

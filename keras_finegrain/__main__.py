"""`python -m keras_finegrain` is the command `keras-finegrain`."""

import sys

from keras_finegrain.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""The parts of `mnist_features.py`, one concept a file."""

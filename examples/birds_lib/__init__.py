"""The parts of `train_birds.py`, one concept a file."""

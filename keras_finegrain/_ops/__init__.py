"""Pieces of mathematics in `keras.ops`, each beside its equation."""

"""What every room needs: checks of arguments, types, private Keras."""

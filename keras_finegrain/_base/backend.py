"""Loads Keras's backend, or says how to install one."""

from keras_finegrain._base.optional import pip_install


def load() -> None:
    """Imports Keras with its backend.

    Raises:
        ModuleNotFoundError: If the backend is not installed.
    """
    try:
        import keras  # noqa: F401
    except ModuleNotFoundError as error:
        backend = str(error.name).split(".")[0]
        if backend not in ("tensorflow", "jax", "torch"):
            raise
        raise ModuleNotFoundError(
            f"keras_finegrain: Keras needs {backend!r}, which is not "
            f"installed. Run `{pip_install(backend)}`, or "
            "install another of the extras tensorflow, jax and torch and name "
            "it in the environment variable KERAS_BACKEND before Python "
            "starts.",
            name=error.name,
        ) from None

"""What must be installed before anything else is imported."""

import importlib.util
from collections.abc import Mapping

from keras_finegrain._base.optional import pip_install
from keras_finegrain.cli.output import CommandError


def check_packages(extras: Mapping[str, str]) -> None:
    """Checks packages without importing them, then the backend.

    Args:
        extras: Import name of each package, and the extra of keras-finegrain
            that installs it.

    Raises:
        CommandError: If a package is missing, or Keras cannot start.
    """
    missing = [name for name in extras if not importlib.util.find_spec(name)]
    if missing:
        needed = ",".join(sorted({extras[name] for name in missing}))
        raise CommandError(
            f"not installed: {', '.join(missing)}. Run: {pip_install(needed)}"
        )
    try:
        import keras  # noqa: F401
    except ImportError as error:
        raise CommandError(
            f"Keras cannot start its backend ({error}). Choose another with "
            "KERAS_BACKEND=tensorflow, jax or torch, or install it, as by "
            f"{pip_install('jax')}"
        ) from error

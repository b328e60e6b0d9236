"""What must be installed before anything else is imported."""

import importlib.util
from collections.abc import Mapping

from keras_finegrain._base.optional import pip_install
from keras_finegrain.cli.output import CommandError


def check_packages(extras: Mapping[str, str]) -> None:
    """Checks packages without importing them.

    Args:
        extras: Import name of each package, and the extra of keras-finegrain
            that installs it.

    Raises:
        CommandError: If a package is missing.
    """
    missing = [name for name in extras if not importlib.util.find_spec(name)]
    if missing:
        needed = ",".join(sorted({extras[name] for name in missing}))
        raise CommandError(
            f"not installed: {', '.join(missing)}. Run: {pip_install(needed)}"
        )

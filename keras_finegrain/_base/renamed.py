"""Names of the release before, which work until the next one."""

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any


def renamed(module: str, name: str, new_names: dict[str, str]) -> Any:
    """Returns what a renamed item of a module is now, and warns.

    Args:
        module: Name of the module, whose `__getattr__` calls this.
        name: The name that the module lacks.
        new_names: The new name of each renamed item.

    Raises:
        AttributeError: If the name is none of the renamed ones.
    """
    if name not in new_names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new_name = new_names[name]
    warnings.warn(
        f"{module}.{name} is deprecated and will be removed in the next "
        f"release. Use {module}.{new_name}.",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(sys.modules[module], new_name)


def accepts_figures(function: Callable[..., Any]) -> Callable[..., Any]:
    """Passes the argument `figures`, as it was called before, as `metrics`."""

    @functools.wraps(function)
    def with_figures(*args: Any, **kwargs: Any) -> Any:
        if "figures" in kwargs:
            kwargs["metrics"] = kwargs.pop("figures")
        return function(*args, **kwargs)

    return with_figures

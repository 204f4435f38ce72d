"""Packages that only some formats need, imported when such a file is read."""

from functools import cache
from importlib import import_module
from typing import Any

from unetseg.errors import UsageError


def needed(module: str, extra: str) -> Any:
    """The module that reads a format.

    Raises UsageError that says what to install if the extra is not there.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"reading this format needs the package {module.partition('.')[0]}: {error}",
            hint=f"pip install 'unetseg[{extra}]'",
        ) from error


@cache
def simpleitk() -> Any:
    """SimpleITK, silent. Raises UsageError as `needed` does."""
    sitk = needed("SimpleITK", "medical")
    # Warnings go to stderr past everything; what matters is checked here.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # noqa: FBT003 - C++ has no keywords
    return sitk

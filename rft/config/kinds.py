"""Sections with several kinds: the registry that a folder of configuration classes makes."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

from rft.config.fields import Section

Kind = TypeVar("Kind", bound=Section)


def kinds_in(package: str, base: type[Kind]) -> dict[str, type[Kind]]:
    """Import every module of a package, and collect its configuration classes that have a `kind`.

    Args:
        package: Name of the package, such as `rft.config.samplers`.
        base: The class that they are derived from.

    Returns:
        Each class by the value of its `kind`, in alphabetical order.
    """
    classes: dict[str, type[Kind]] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, base) and "kind" in value.model_fields:
                classes[value.model_fields["kind"].default] = value
    return dict(sorted(classes.items()))

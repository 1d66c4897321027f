"""Names that are imported at their first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(
    package: str, names_of: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], Any]]:
    """Make `__all__` and `__getattr__` of a package (PEP 562).

    The package also imports the names under `TYPE_CHECKING`, as `from x import Name as Name`, so
    that type checkers see them.

    Args:
        package: Name of the package.
        names_of: For each module within the package, its names.
    """
    module_of = {name: module for module, names in names_of.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(module_of), get


def import_on_call(module: str, name: str) -> Callable[..., Any]:
    """Make a function that imports another function when it is called, and calls it.

    Args:
        module: Name of the module.
        name: Name of the function in the module.
    """

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **options)

    return call

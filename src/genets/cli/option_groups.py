"""Groups of options: a parameter of a command that stands for the options of the group.

A parameter of a command whose annotation holds an `OptionGroup` becomes the options of the group;
the command receives the options that were given as one dict. Options are built only when their
command is called, because those of the settings import pydantic.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from genets.cli.options import given


@runtime_checkable
class OptionGroup(Protocol):
    """Options that belong together."""

    def parameters(self) -> list[Parameter]:
        """Return one parameter for each option."""

    def collect(self, given: dict[str, Any]) -> dict[str, Any]:
        """Turn the options that were given into the dict that the command receives."""


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace every parameter that is a group by the options of the group.

    The command receives paths without `~`, which a shell leaves in a word such as `--out=~/runs`.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, tuple[OptionGroup, list[str]]] = {}
    parameters: list[Parameter] = []
    for parameter in signature.parameters.values():
        metadata = getattr(parameter.annotation, "__metadata__", ())
        group = next((each for each in metadata if isinstance(each, OptionGroup)), None)
        inner = [parameter] if group is None else group.parameters()
        if group is not None:
            groups[parameter.name] = group, [each.name for each in inner]
        parameters += [each.replace(kind=Parameter.KEYWORD_ONLY) for each in inner]

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        for name, (group, names) in groups.items():
            options = {each: values.pop(each) for each in names}
            values[name] = group.collect(given(**options))
        command(**{name: expand_home(value) for name, value in values.items()})

    expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {each.name: each.annotation for each in parameters}
    return expanded


def expand_home(value: Any) -> Any:
    """A path without `~`, or a list of such paths; other values as they are."""
    if isinstance(value, list):
        return [expand_home(each) for each in value]
    return Path(os.path.expanduser(value)) if isinstance(value, Path) else value

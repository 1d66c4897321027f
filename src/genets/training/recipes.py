"""Recipes by name (`recipes.toml`), and changes to them from files and the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from genets.core.errors import SettingsError, unknown_name
from genets.training.recipe import MOST
from genets.training.run_recipe import RunRecipe

FIELDS = tuple(field.name for field in fields(RunRecipe))


@cache
def recipes() -> Mapping[str, Mapping[str, Any]]:
    """By name the fields that differ from the defaults of `RunRecipe`."""
    text = files(__package__).joinpath("recipes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def named_recipe(name: str) -> dict[str, Any]:
    """The fields of a recipe. Raises SettingsError for an unknown name, with the nearest."""
    if name not in recipes():
        raise SettingsError(unknown_name("recipe", name, recipes()))
    return dict(recipes()[name])


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with these changes; other epochs alone shorten or lengthen the warm-up with them."""
    values = {**base, **changes}
    before, after = base.get("epochs"), changes.get("epochs")
    if "warmup_epochs" not in changes and before and isinstance(after, int) and after <= MOST:
        values["warmup_epochs"] = base.get("warmup_epochs", 0.0) * after / before
    return values


def make_recipe(values: Mapping[str, Any]) -> RunRecipe:
    """A recipe of these fields. Raises GenetsError: an unknown field, or a value out of range."""
    for name in values:
        if name not in FIELDS:
            raise SettingsError(unknown_name("field of a recipe", name, FIELDS))
    if "epochs" not in values:
        raise SettingsError("a recipe must say its epochs")
    return RunRecipe(**values)


def read_recipe_file(path: str | Path) -> dict[str, Any]:
    """Fields from a TOML file, which need not hold all of them. Raises SettingsError."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    except ValueError as error:
        raise SettingsError(f"recipe {path} is not valid TOML: {error}") from error


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """`epochs=10` and the like; values are TOML, or plain text. Raises GenetsError."""
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise SettingsError(f"a change is written as epochs=10, not {text!r}")
        if name not in FIELDS:
            raise SettingsError(unknown_name("field of a recipe", name, FIELDS))
        changes[name] = _value(value)
    return changes


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError):  # no TOML, or a number of more than 4300 digits
        return text

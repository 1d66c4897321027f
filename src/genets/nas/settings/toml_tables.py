"""Partial settings: plain dicts that are read from TOML, merged and written as TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genets.core.changes import parse_change
from genets.core.errors import SettingsError, first_line


def parse_settings(text: str, source: str = "the text") -> dict[str, Any]:
    """Read the text of a TOML settings file, which may leave settings out.

    source: The place of the text, for the message of the SettingsError.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of more than 4300 digits
        raise SettingsError(f"{source} is not valid TOML: {first_line(error)}") from error


def load_settings_file(path: str | Path) -> dict[str, Any]:
    """Read a TOML settings file, which may leave settings out. Raises GenetsError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read settings file {path}: {error}") from error
    return parse_settings(text, f"settings file {path}")


def parse_setting_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Parse changes such as `confirm=6` or `final_training.mixup=0.2`; see `parse_change`.

    Raises:
        SettingsError: A text is not of the form NAME=VALUE.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, value = parse_change(text)
        for part in reversed(name.split(".")):
            value = {part: value}
        settings = merge(settings, value)
    return settings


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge dicts of settings; later layers win, field by field in sub-tables."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = merge(merged[name], value) if both else value
    return merged


def merge_settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings of a search as `merge` does, with two further rules.

    A budget replaces several budgets of a layer before, and several budgets replace one. A table
    that names a recipe replaces the fields of a recipe that a layer before has in this table.
    """
    budgets = ("budget", "budgets")
    merged: dict[str, Any] = {}
    for layer in layers:
        if any(layer.get(name) is not None for name in budgets):
            merged = {name: value for name, value in merged.items() if name not in budgets}
        for name, table in layer.items():
            if isinstance(table, Mapping) and "recipe" in table and name in merged:
                merged[name] = _without_recipe(merged[name])
        merged = merge(merged, layer)
    return merged


def _without_recipe(table: Any) -> Any:
    """The fields of a training that a named recipe leaves as they are."""
    from genets.training.recipe import FIELDS

    if not isinstance(table, Mapping):
        return table
    return {name: v for name, v in table.items() if name not in FIELDS or name == "precision"}


def format_toml_tables(values: Mapping[str, Any]) -> str:
    """Write TOML, which the standard library only reads.

    Args:
        values: Texts, numbers, booleans, lists of these, and dicts of these (one level).
    """
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{name} = {_value(v)}" for name, v in values.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(v)}" for key, v in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML string, except for DEL, the only control character JSON allows.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return "[" + ", ".join(_value(item) for item in value) + "]"

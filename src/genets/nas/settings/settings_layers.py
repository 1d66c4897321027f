"""Settings that are not whole yet: plain dicts, read from TOML and laid over each other."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genets.core.errors import SettingsError


def parse_settings(text: str) -> dict[str, Any]:
    """Values of a TOML settings file, which need not hold every setting."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings are not valid TOML: {error}") from error


def load_settings_file(path: str | Path) -> dict[str, Any]:
    """Values of a TOML settings file. Raises GenetsError."""
    try:
        return parse_settings(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read settings file {path}: {error}") from error


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One dict of settings; later layers win, field by field in sub-tables."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = merge(merged[name], value) if both else value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names: `target.batch_size`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat

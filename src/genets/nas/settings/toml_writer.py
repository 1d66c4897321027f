"""Plain settings as TOML (the standard library only reads it)."""

import json
from collections.abc import Mapping
from typing import Any


def format_toml_tables(values: Mapping[str, Any]) -> str:
    """TOML of text, numbers, truth values, lists of these, and one level of tables."""
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{name} = {_value(v)}" for name, v in values.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(v)}" for key, v in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML string, but for the one control character JSON lets through.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return "[" + ", ".join(_value(item) for item in value) + "]"

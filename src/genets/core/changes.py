"""Changes of settings and of recipes that the command line gives as NAME=VALUE."""

from __future__ import annotations

import tomllib
from typing import Any

from genets.core.errors import SettingsError


def parse_change(text: str) -> tuple[str, Any]:
    """Parse a change such as `epochs=10`; a value is TOML, or plain text where it is not TOML.

    Returns:
        The name and the value.

    Raises:
        SettingsError: The text is not of the form NAME=VALUE.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise SettingsError(f"a change must have the form NAME=VALUE, not {text!r}")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, KeyError, RecursionError):  # or a number of more than 4300 digits
        return name, value

"""From options to a target."""

from typing import Any

from genets.latency import Target


def given(**options: Any) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def make_target(options: dict[str, Any], base: Target | None = None) -> Target:
    """`base`, or the default target, with the given options. Raises TargetError."""
    values = base.to_json() if base else {}
    if options.get("device", "cpu") != "cpu":
        values.pop("threads", None)  # those of the CPU that `base` was for
    return Target.from_json(values | options)

"""From options to a target."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from genets.latency.target import ENGINE_PROVIDERS, Target


def given(**options: Any) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def make_target(options: dict[str, Any], base: Target | None = None) -> Target:
    """`base`, or the default target, with the options that are not None. Raises TargetError."""
    options = given(**options)
    values = base.to_json() if base else {}
    if options.get("device", "cpu") != "cpu":
        values.pop("threads", None)  # those of the CPU that `base` was for
    return Target.from_json(values | options)


def make_targets(
    engines: Sequence[str] | None,
    precisions: Sequence[str] | None,
    batch_sizes: Sequence[int] | None,
    options: dict[str, Any],
) -> list[Target]:
    """Every combination, batch sizes ascending last. Raises TargetError.

    options: of all; a provider is for those of several engines that have providers.
    """
    lists = (
        [("engine", name) for name in engines or ()],
        [("precision", name) for name in precisions or ()],
        [("batch_size", size) for size in sorted(batch_sizes or ())],
    )
    combinations = product(*(pairs or [None] for pairs in lists))
    targets = []
    for pairs in combinations:
        values = dict(pair for pair in pairs if pair) | options
        if len(engines or ()) > 1 and not ENGINE_PROVIDERS.get(str(values.get("engine"))):
            values.pop("provider", None)
        targets.append(make_target(values))
    return targets

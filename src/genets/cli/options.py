"""Options that several commands share.

From options to a target.
"""

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any

import typer

from genets.latency.target import ENGINE_PROVIDERS, Target

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines, and nothing else.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:NUMBER.  [default: cpu]"),
]
Engine = Annotated[
    str | None,
    typer.Option(help="torch, torch-compile, onnxruntime or openvino.  [default: torch]"),
]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32, bf16, fp16 or int8, where the engine has it.  [default: fp32]"),
]
Provider = Annotated[
    str | None,
    typer.Option(
        help="Who computes in onnxruntime: cpu, cuda or tensorrt.  [default: as the device]"
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Images in one run.  [default: 64]"),
]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads of one run.  [default: all physical cores]"),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        max=2**63 - 1,  # that torch takes
        help="Seed of all that is drawn: fresh weights, a validation cut, a table's networks.",
    ),
]
# Each may be given several times.
Engines = Annotated[
    list[str] | None,
    typer.Option("--engine", help="What runs the networks; may be repeated.  [default: torch]"),
]
Precisions = Annotated[
    list[str] | None,
    typer.Option("--precision", help="fp32, bf16, fp16, int8; may be repeated.  [default: fp32]"),
]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option("--batch-size", help="Images in one run; may be repeated.  [default: 64]"),
]


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

"""Options that several commands share."""

from typing import Annotated

import typer

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

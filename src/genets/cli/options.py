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
    typer.Option(help="What runs the network: torch.  [default: torch]"),
]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32, bf16 or fp16.  [default: fp32]"),
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Images in one run.  [default: 64]"),
]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads of one run.  [default: all physical cores]"),
]

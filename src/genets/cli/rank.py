"""`genets rank`: the intrinsic rank of convolutions, by stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genets.cli.options import Json, Seed

if TYPE_CHECKING:
    from genets.analysis.rank.rank import NetworkRank


def rank(
    networks: Annotated[
        list[str],
        typer.Argument(
            help="Results folders (their weights), names of zoo or Table 7, timm:NAME, files or "
            "notations."
        ),
    ],
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="With published weights, fetched from timm's hub."),
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of weights, .safetensors or .pth of plain tensors; one for each NETWORK, "
            "in order."
        ),
    ] = None,
    super_blocks: Annotated[
        bool,
        typer.Option(
            "--super-blocks", help="A stage for each super-block, not for each resolution."
        ),
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(help="Folder of `genets profile`: advice counts latency on that device."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for page, pictures, CSV and JSON.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Show the intrinsic rank of convolutions by stage: Figure 4 of the paper.

    Singular values of the last k x k convolution of every stage, stable and effective rank, the
    share of directions that holds 90 % of the energy; and where BL or DW blocks could stand in
    for XX. The rank of fresh weights says nothing about the paper's claim; weights are a results
    folder's, --pretrained or a --checkpoint's.

    \b
    genets rank runs/demo/results --profile runs/profile --out runs/rank
    genets rank timm:resnet18 timm:resnet34 --pretrained --out runs/rank
    genets rank genet_large --checkpoint genet_large.pth --super-blocks
    """
    from genets.analysis.rank.advice import advise, load_block_latencies
    from genets.cli.output import print_json, print_lines, print_tables
    from genets.report.rank.page import write_rank
    from genets.report.rank.tables import rank_record, rank_tables

    latencies = load_block_latencies(profile) if profile else None
    found = _found(networks, pretrained, checkpoint or [], super_blocks, seed, plain=json)
    advice = {one.name: advise(one, latencies) for one in found}
    record = rank_record(found, advice)
    files = write_rank(found, advice, latencies, out) if out else {}
    if json:
        print_json(record)
        return
    print_tables(*rank_tables(found, advice))
    print_lines(one["claim"] for one in record["networks"])
    print_lines(f"{name}: {path}" for name, path in files.items())


def _found(
    names: list[str],
    pretrained: bool,
    checkpoints: list[Path],
    super_blocks: bool,
    seed: int,
    *,
    plain: bool,
) -> list[NetworkRank]:
    from genets.analysis import Progress
    from genets.analysis.rank.networks import weighted_network
    from genets.analysis.rank.rank import rank_of
    from genets.cli.progress import show_progress
    from genets.core.errors import GenetsError

    names = names if checkpoints else list(dict.fromkeys(names))
    if checkpoints and pretrained:
        raise GenetsError("take --pretrained or --checkpoint, not both")
    if checkpoints and len(checkpoints) != len(names):
        raise GenetsError(
            f"--checkpoint must be given once for each network, {len(names)} times, "
            f"not {len(checkpoints)} times"
        )
    found = []
    with show_progress(plain=plain) as on_event:
        on_event(Progress("rank", 0, len(names)))
        for number, name in enumerate(names):
            file = checkpoints[number] if checkpoints else None
            # One at a time: the largest have gigabytes of weights.
            weighted = weighted_network(name, pretrained=pretrained, checkpoint=file, seed=seed)
            found.append(rank_of(weighted, super_blocks=super_blocks))
            del weighted
            on_event(Progress("rank", number + 1, len(names), found[-1].name))
    return found

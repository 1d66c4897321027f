"""`genets rank`: the intrinsic rank of convolutions, by stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from genets.cli.options import OUTPUT, Json, Seed, network_argument, option
from genets.core.errors import GenetsError
from genets.core.output_folder import check_writable_folder

if TYPE_CHECKING:
    from genets.analysis.rank.rank import NetworkRank


def rank(
    networks: Annotated[
        list[str],
        network_argument(
            help="Results folders (with their weights), names of the zoo or of Table 7 of the "
            "paper, timm:NAME, structure files or quoted notations."
        ),
    ],
    pretrained: Annotated[
        bool, option("Use published weights, fetched from timm's hub.", name="--pretrained")
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        option(
            "File of weights, .safetensors or .pth of plain tensors; repeated once for each "
            "NETWORK, in the same order.",
            "fresh weights, or those of the results folder",
            metavar="<path>",
        ),
    ] = None,
    super_blocks: Annotated[
        bool,
        option("Count each super-block, not each resolution, as one stage.", name="--super-blocks"),
    ] = False,
    profile: Annotated[
        Path | None,
        option(
            "Folder of `genets profile`; the advice then counts latency on that device.", "none"
        ),
    ] = None,
    out: Annotated[
        Path | None, option("Folder for page, pictures, CSV and JSON.", "none", OUTPUT)
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Show the intrinsic rank of convolutions by stage (Figure 4).

    Extends Figure 4 of the paper. Shows, for the last k x k convolution of every stage, its
    singular values, its stable and effective rank, and the share of directions that holds 90 % of
    the energy; and where BL or DW blocks could replace XX blocks. The rank of fresh weights says
    nothing about the paper's claim: use a results folder, --pretrained or --checkpoint.

    \b
    genets rank runs/demo/results --profile runs/profile --out runs/rank
    genets rank timm:resnet18 timm:resnet34 --pretrained --out runs/rank
    genets rank genet_large --checkpoint genet_large.pth --super-blocks
    """
    if out is not None:
        check_writable_folder(out)
    from genets.analysis.rank.advice import advise, load_block_latencies
    from genets.cli.output import write_and_print
    from genets.report.rank.page import write_rank
    from genets.report.rank.tables import next_step, rank_record, rank_tables

    latencies = load_block_latencies(profile) if profile else None
    weight_files = _match_checkpoints(networks, pretrained, checkpoint or [])
    ranks = _rank_all(weight_files, pretrained, super_blocks, seed, plain=json)
    advice = {each.name: advise(each, latencies) for each in ranks}
    record = rank_record(ranks, advice)
    claims = [each["claim"] for each in record["networks"]]
    steps = [next_step(name, items) for name, items in advice.items()]
    lines = [*claims, *filter(None, steps)]
    write_and_print(
        lambda: write_rank(ranks, advice, latencies, out) if out else {},
        json,
        record,
        rank_tables(ranks, advice),
        lines,
    )


def _match_checkpoints(
    names: list[str], pretrained: bool, checkpoints: list[Path]
) -> list[tuple[str, Path | None]]:
    """Pair each network with its file of weights, if files are given. Raises GenetsError."""
    if not checkpoints:
        return [(name, None) for name in dict.fromkeys(names)]
    if pretrained:
        raise GenetsError("give --pretrained or --checkpoint, not both")
    if len(checkpoints) != len(names):
        raise GenetsError(
            f"--checkpoint must be given once for each network, {len(names)} times, "
            f"not {len(checkpoints)} times"
        )
    return list(zip(names, checkpoints, strict=True))


def _rank_all(
    networks: list[tuple[str, Path | None]],
    pretrained: bool,
    super_blocks: bool,
    seed: int,
    *,
    plain: bool,
) -> list[NetworkRank]:
    from genets.analysis.rank.rank import rank_of
    from genets.cli.progress import show_progress
    from genets.core.progress import Progress
    from genets.networks import resolve_network

    ranks = []
    with show_progress(plain=plain) as on_progress:
        on_progress(Progress("rank", 0, len(networks)))
        for name, file in networks:
            # Only one network is in memory: the largest have gigabytes of weights.
            source = resolve_network(
                name, pretrained=pretrained, weights=file, fit="kernels", seed=seed
            )
            ranks.append(rank_of(source, super_blocks=super_blocks))
            del source
            on_progress(Progress("rank", len(ranks), len(networks), ranks[-1].name))
    return ranks

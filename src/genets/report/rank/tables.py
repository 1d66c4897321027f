"""Tables and records of a rank analysis, for the screen, the page, CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from genets.analysis.rank.advice import Advice
from genets.analysis.rank.layers import GROUPED
from genets.analysis.rank.rank import RATIOS, NetworkRank, StageRank, claim_sentence
from genets.report.tables import screen_table
from genets.structure import Block

HEADER = (
    "stage", "layer", "matrix", "convolution", "stable rank", "effective rank", "90 % of energy",
    "random weights", *(f"kept at {ratio:g}" for ratio in RATIOS),
)  # fmt: skip
TEXT_COLUMNS = 4
SCREEN_HEADER = ("stage", "layer", "matrix", "kind", "stable", "effective", "90 %", "random")
ADVICE_HEADER = ("stage", "block", "energy kept, at most", "advised")
TIMED_HEADER = ("timed at width", "times XX's latency", "95 % interval", "verdict")
DIGITS = 6


def rank_tables(
    networks: Sequence[NetworkRank], advice: Mapping[str, Sequence[Advice]]
) -> list[Table]:
    """The ranks and the advice of each network, for the screen."""
    tables = []
    for network in networks:
        title = (
            f"{network.name}, {network.weights}: stable rank, effective rank and directions with "
            "90 % of the energy, as shares of the output channels"
        )
        rows = [rank_cells(stage)[: len(SCREEN_HEADER)] for stage in network.stages]
        tables.append(screen_table(title, SCREEN_HEADER, rows, fold=("layer", "matrix", "kind")))
        items = [item for item in advice.get(network.name, ()) if item.advised]
        header, rows, _ = advice_rows(items)
        if rows:
            title = f"{network.name}: blocks that could replace XX"
            tables.append(screen_table(title, header, rows, left=2))
    return tables


def next_step(name: str, advice: Sequence[Advice]) -> str | None:
    """The command that tries the advised blocks of a network; None where no block is advised."""
    advised = [choice for item in advice for choice in item.advised]
    if not advised:
        return None
    if all(item.width is None for item in advice):
        return (
            f"{name}: to see whether these blocks are faster on your device: genets profile --out "
            f"runs/profile, and then genets rank with --profile runs/profile"
        )
    kernels = {item.stage.shape[2] for item in advice if item.advised}
    blocks = [f"XX{kernel}" for kernel in sorted(kernels)]
    blocks += [
        str(Block(choice.type, item.stage.shape[2],
                  choice.ratio if choice.type == "BL" else 1 / choice.ratio))
        for item in advice for choice in item.advised
    ]  # fmt: skip
    return (
        f"{name}: to try these blocks in a search: genets search --data DATA --budget BUDGET "
        f"--blocks {','.join(dict.fromkeys(blocks))} --out runs/blocks"
    )


def rank_cells(stage: StageRank) -> list[str]:
    """Cells below `HEADER`; the first ones are those below `SCREEN_HEADER`.

    The ranks are shares of the output channels, the kept energy is a share of the whole.
    """
    spectrum, channels = stage.spectrum, stage.channels
    shares = (spectrum.stable_rank, spectrum.effective_rank, spectrum.directions())
    groups = f", {stage.groups} groups" if stage.kind == GROUPED else ""
    return [
        str(stage.stage),
        stage.layer,
        f"{channels} x {stage.fan_in}",
        f"{stage.kind}{groups}",
        *(f"{value / channels:.1%}" for value in shares),
        "" if stage.random_share is None else f"{stage.random_share:.1%}",
        *(f"{spectrum.kept(ratio):.1%}" for ratio in RATIOS),
    ]


def advice_rows(
    advice: Sequence[Advice],
) -> tuple[tuple[str, ...], list[list[str]], frozenset[int]]:
    """The header, a row for each choice of each stage, and the numbers of the advised rows."""
    timed = any(item.width is not None for item in advice)
    rows: list[list[str]] = []
    advised = set()
    for item in advice:
        stage, untimed = str(item.stage.stage), ["-"] * len(TIMED_HEADER) * timed
        if not item.choices:
            rows.append([stage, "none timed at this width", "-", "", str(item.width), *untimed[1:]])
        elif not item.advised:
            advised.add(len(rows))
            rows.append([stage, "XX", "100.0%", "yes", *untimed])
        for choice in item.choices:
            is_advised = choice in item.advised
            if is_advised:
                advised.add(len(rows))
            row = [stage, choice.block(item.stage), f"{choice.kept:.1%}", "yes" * is_advised]
            if choice.speed is not None:
                low, high = 1 / choice.speed.high, 1 / choice.speed.low
                ratio = f"{choice.times_latency:.2f}{'~' * choice.noisy}"
                interval = f"{low:.2f} to {high:.2f}"
                row += [str(item.width), ratio, interval, choice.speed.verdict]
            rows.append(row)
    return ADVICE_HEADER + TIMED_HEADER * timed, rows, frozenset(advised)


def rank_record(
    networks: Sequence[NetworkRank], advice: Mapping[str, Sequence[Advice]]
) -> dict[str, Any]:
    """Ranks, every singular value over the largest, and the advice by network, for JSON."""
    return {
        "networks": [
            {
                "network": network.name,
                "weights": network.weights,
                "trained": network.trained,
                "resolution": network.resolution,
                "claim": claim_sentence(network),
                "stages": [
                    stage.to_json() | {"values": _rounded(stage)} for stage in network.stages
                ],
                "advice": [item.to_json() for item in advice.get(network.name, ())],
            }
            for network in networks
        ]
    }


def stage_records(networks: Sequence[NetworkRank]) -> list[dict[str, Any]]:
    """A record for each stage, for CSV."""
    return [
        {"network": network.name, "weights": network.weights}
        | stage.to_json()
        | {"kernel": "x".join(map(str, stage.shape[2:]))}
        for network in networks
        for stage in network.stages
    ]


def value_records(networks: Sequence[NetworkRank]) -> list[dict[str, Any]]:
    """A record for each singular value, for CSV: the data of Figure 4."""
    return [
        {
            "network": network.name,
            "stage": stage.stage,
            "layer": stage.layer,
            "index_over_channels": (number + 1) / stage.channels,
            "value_over_largest": value,
        }
        for network in networks
        for stage in network.stages
        for number, value in enumerate(_rounded(stage))
    ]


def _rounded(stage: StageRank) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in stage.spectrum.values]

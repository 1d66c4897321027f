"""Rank as tables and records: for the screen, the page, CSV and JSON."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.analysis.rank.advice import Advice
from genets.analysis.rank.layers import GROUPED
from genets.analysis.rank.rank import RATIOS, NetworkRank, StageRank, claim_sentence

HEADER = (
    "stage", "layer", "matrix", "convolution", "stable rank", "effective rank", "90 % of energy",
    "random weights", *(f"kept at {ratio:g}" for ratio in RATIOS),
)  # fmt: skip
TEXT_COLUMNS = 4
SCREEN = ("stage", "layer", "matrix", "kind", "stable", "effective", "90 %", "random")
DIGITS = 6


def rank_tables(networks: Sequence[NetworkRank]) -> list[Table]:
    """A table for each network, for the screen."""
    tables = []
    for found in networks:
        title = (
            f"{found.name}, {found.weights}: stable rank, effective rank and what holds 90 % of "
            "the energy, as shares of the output channels"
        )
        table = Table(title=Text(title), title_justify="left")
        for number, name in enumerate(SCREEN):
            wraps = name in ("layer", "matrix")
            table.add_column(
                name,
                justify="left" if 0 < number < TEXT_COLUMNS else "right",
                overflow="fold",
                no_wrap=not wraps,
                min_width=6 if wraps else None,
            )
        for stage in found.stages:
            table.add_row(*(Text(cell) for cell in cells(stage)[: len(SCREEN)]))
        tables.append(table)
    return tables


def cells(stage: StageRank) -> list[str]:
    """What stands under `HEADER`, the first of them under `SCREEN`.

    Ranks are shares of the output channels, what is kept is a share of the energy.
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


def rank_record(
    networks: Sequence[NetworkRank], advice: Mapping[str, Sequence[Advice]]
) -> dict[str, Any]:
    """For JSON, with every singular value over the largest. advice: by network."""
    return {
        "networks": [
            {
                "network": found.name,
                "weights": found.weights,
                "trained": found.trained,
                "resolution": found.resolution,
                "claim": claim_sentence(found),
                "stages": [stage.to_json() | {"values": _rounded(stage)} for stage in found.stages],
                "advice": [one.to_json() for one in advice.get(found.name, ())],
            }
            for found in networks
        ]
    }


def stages_csv(networks: Sequence[NetworkRank]) -> str:
    """A line for each stage."""
    records = [
        {"network": found.name, "weights": found.weights}
        | stage.to_json()
        | {"kernel": "x".join(map(str, stage.shape[2:]))}
        for found in networks
        for stage in found.stages
    ]
    return _csv(list(records[0]), [list(record.values()) for record in records])


def values_csv(networks: Sequence[NetworkRank]) -> str:
    """A line for each singular value: the data of Figure 4."""
    rows = [
        [found.name, stage.stage, stage.layer, (number + 1) / stage.channels, value]
        for found in networks
        for stage in found.stages
        for number, value in enumerate(_rounded(stage))
    ]
    return _csv(["network", "stage", "layer", "index_over_channels", "value_over_largest"], rows)


def _rounded(stage: StageRank) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in stage.spectrum.values]


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()

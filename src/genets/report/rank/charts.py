"""Figure 4, singular values by stage, and the rank by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from genets.analysis.rank.rank import NetworkRank
from genets.analysis.rank.spectrum import random_curve
from genets.report.charts import (
    COLOURS,
    FONT,
    GRID_COLOUR,
    HEIGHT,
    colours,
    make_chart,
    png_bytes,
    shapes,
    styled,
)

POINTS = 160  # of one line; more cannot be seen
PANEL_WIDTH, PANELS_IN_A_ROW = 330, 3
RANDOM, RANDOM_COLOUR = "random weights", "#8a929b"


def spectrum_chart(network: NetworkRank) -> Any:
    """Figure 4 for one network: a line for each stage."""
    return styled(_lines(network, [stage.stage for stage in network.stages]))


def draw_spectra(networks: Sequence[NetworkRank], title: str, line: str) -> bytes:
    """Figure 4 as a PNG with a panel for each network. line: below the title."""
    import altair as alt

    stages = sorted({stage.stage for network in networks for stage in network.stages})
    panels = []
    for network in networks:
        head = alt.TitleParams(_titled(network), limit=PANEL_WIDTH, fontSize=13)
        panel = _lines(network, stages)
        panels.append(panel.properties(width=PANEL_WIDTH, height=HEIGHT, title=head))
    figure = alt.concat(*panels, columns=PANELS_IN_A_ROW).properties(
        title=alt.TitleParams(title, subtitle=line, anchor="start", fontSize=15, offset=12)
    )
    figure = figure.configure(font=FONT).configure_legend(orient="bottom", symbolStrokeWidth=2)
    return png_bytes(figure.configure_axis(gridColor=GRID_COLOUR))


def stages_chart(networks: Sequence[NetworkRank]) -> Any:
    """The share of directions that holds 90 % of the energy, by stage; a line for each network."""
    import altair as alt

    values = [
        {
            "network": network.name,
            "stage": stage.stage,
            "layer": stage.layer,
            "kind": stage.kind,
            "share": stage.spectrum.directions() / stage.channels,
            "random": "" if stage.random_share is None else f"{stage.random_share:.1%}",
        }
        for network in networks
        for stage in network.stages
    ]
    shared = make_chart(values).encode(
        x=alt.X("stage:O", title="stage", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("share:Q", title="share of directions with 90 % of the energy",
                scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
        color=colours(alt, "network", [network.name for network in networks]),
    )  # fmt: skip
    kinds = list(dict.fromkeys(stage.kind for network in networks for stage in network.stages))
    points = shared.mark_point(size=80, filled=True).encode(
        shape=shapes(alt, "kind", kinds, "convolution").legend(orient="top"),
        tooltip=[
            alt.Tooltip("network:N"),
            alt.Tooltip("layer:N"),
            alt.Tooltip("kind:N"),
            alt.Tooltip("share:Q", title="90 % of the energy", format=".1%"),
            alt.Tooltip("random:N", title="of random weights"),
        ],
    )
    return styled(shared.mark_line(strokeWidth=1.5) + points)


def _lines(network: NetworkRank, stages: Sequence[int]) -> Any:
    """A line for each stage of a network. stages: The stages in the legend."""
    import altair as alt

    reference = _random_points(network)
    names = [*map(_stage, stages), *([RANDOM] if reference else [])]
    palette = [COLOURS[number % len(COLOURS)] for number in range(len(stages))]
    scale = alt.Scale(domain=names, range=[*palette, RANDOM_COLOUR][: len(names)])
    dashes = alt.Scale(domain=names, range=[*([[1, 0]] * len(stages)), [4, 3]][: len(names)])
    return (
        make_chart([*_points(network), *reference])
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("index:Q", title="index over output channels",
                    scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("value:Q", title="singular value over the largest",
                    scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("series:N", title=None, sort=None, scale=scale),
            strokeDash=alt.StrokeDash("series:N", title=None, sort=None, scale=dashes),
            tooltip=[
                alt.Tooltip("series:N", title="stage"),
                alt.Tooltip("layer:N"),
                alt.Tooltip("index:Q", title="index over channels", format=".3f"),
                alt.Tooltip("value:Q", title="value over the largest", format=".3f"),
            ],
        )
    )  # fmt: skip


def _points(network: NetworkRank) -> list[dict[str, Any]]:
    points = []
    for stage in network.stages:
        values = stage.spectrum.values
        chosen = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
        points += [
            {
                "series": _stage(stage.stage),
                "layer": stage.layer,
                "index": round((int(i) + 1) / len(values), 5),
                "value": round(float(values[i]), 5),
            }
            for i in chosen
        ]
    return points


def _random_points(network: NetworkRank) -> list[dict[str, Any]]:
    """The curve of random weights, where all ungrouped kernels have one aspect ratio."""
    shapes = [(s.channels, s.fan_in) for s in network.stages if s.groups == 1]
    if len({channels / fan_in for channels, fan_in in shapes}) != 1:
        return []
    index, values = random_curve(*shapes[0])
    step = len(index) // POINTS
    return [
        {"series": RANDOM, "layer": "", "index": round(float(x), 5), "value": round(float(y), 5)}
        for x, y in zip(index[::step], values[::step], strict=True)
    ]


def _stage(number: int) -> str:
    return f"stage {number}"


def _titled(network: NetworkRank) -> str:
    return f"{network.name} ({network.weights})"

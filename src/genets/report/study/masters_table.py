"""The ranking of structures that a MasterNet is chosen from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from genets.analysis.masters import RankedMaster, Response


def masters_table(ranked: Sequence[RankedMaster], response: Response) -> Table:
    """A line for each structure, the best first."""
    percent = response == "top1"
    table = Table(title=Text("MasterNets"), title_justify="left")
    table.add_column("structure", no_wrap=True)
    for name in ("top-1" if percent else "cross-entropy", "95 % interval", "behind", "ms/image"):
        table.add_column(name, justify="right", no_wrap=True)

    def shown(value: float) -> str:
        return f"{value:.2%}" if percent else f"{value:.4f}"

    for row in ranked:
        interval = "-" if row.low != row.low else f"{shown(row.low)} to {shown(row.high)}"
        behind = f"{shown(row.behind)}{' ~' if row.tied and row.behind else ''}"
        ms = "-" if row.ms_per_image is None else f"{row.ms_per_image:.4g}"
        table.add_row(Text(row.name), shown(row.mean), interval, behind, ms)
    table.caption = Text(
        f"Mean of {ranked[0].trainings} training(s) each, on the validation images, which are the "
        "same for all. ~ not told from the best"
    )
    table.caption_justify = "left"
    return table

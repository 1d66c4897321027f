"""What a training gave: learning curves, and a table of the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.report.charts import chart_of, colours, save_picture, styled
from genets.training import EpochRecord, RunResult

MOST_TICKS = 12
LOSS, ACCURACY = "curves-loss.png", "curves-accuracy.png"


def save_curves(records: Sequence[EpochRecord], conditions: str, folder: Path) -> None:
    """Write both pictures. conditions: network, data and recipe. Raises OSError."""
    losses = [
        {"epoch": record.epoch, "value": value, "series": series}
        for record in records
        for series, value in (
            ("training loss", record.loss),
            ("validation cross-entropy", record.cross_entropy),
        )
    ]
    accuracy = [
        {"epoch": record.epoch, "value": 100 * record.top1, "series": "validation top-1"}
        for record in records
    ]
    save_picture(_curves(losses, "nats per image"), "Loss", conditions, folder / LOSS)
    save_picture(_curves(accuracy, "%"), "Accuracy", conditions, folder / ACCURACY)


def _curves(values: Sequence[dict[str, Any]], title: str) -> Any:
    import altair as alt

    series = list(dict.fromkeys(value["series"] for value in values))
    epochs = alt.Axis(values=_ticks(values[-1]["epoch"]), format="d")
    lines = (
        chart_of(values)
        .mark_line(point=len(values) < 60)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=epochs, scale=alt.Scale(zero=False, nice=False)),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=colours(alt, "series", series),
        )
    )
    return styled(lines)


def _ticks(epochs: int) -> list[int]:
    """Whole epochs, a dozen at most and the last one among them; an axis takes halves too."""
    every = -(-epochs // MOST_TICKS)
    return list(range(epochs, 0, -every))[::-1]


def training_table(result: RunResult) -> Table:
    """The scores of what is handed over."""
    table = Table(title=Text(f"{result.network} on {result.data}"), title_justify="left")
    for column, justify in (("split", "left"), ("top-1", "right"), ("cross-entropy", "right"),
                            ("images", "right")):  # fmt: skip
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for split, score in (("validation", result.validation), ("test", result.test)):
        figures = f"{score.top1:.2%}", f"{score.cross_entropy:.4f}", str(score.images)
        table.add_row(split, *figures)
    return table

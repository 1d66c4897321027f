"""The report of a training: learning curves and a table of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from genets.report.charts import colours, draw_picture, make_chart, styled
from genets.report.files import write_files
from genets.report.tables import screen_table
from genets.report.wording import score_text
from genets.training import EpochRecord, RunResult
from genets.training.score import metric_score, shown_metrics

MAX_TICKS = 12
LOSS, ACCURACY = "curves-loss.png", "curves-accuracy.png"


def save_curves(records: Sequence[EpochRecord], conditions: str, folder: Path) -> None:
    """Write the learning curves of loss and accuracy as two pictures.

    Args:
        records: The epochs so far.
        conditions: Network, data and recipe, for a line below the titles.
        folder: The folder of the pictures.

    Raises:
        OSError: A picture cannot be written.
    """
    losses = [
        {"epoch": record.epoch, "value": value, "series": series}
        for record in records
        for series, value in (
            ("training loss", record.loss),
            ("validation cross-entropy", record.cross_entropy),
        )
    ]
    accuracy = [
        {"epoch": record.epoch, "value": 100 * share, "series": f"validation {metric.label}"}
        for record in records
        for metric in shown_metrics(balanced=record.score.is_unbalanced)
        if metric.is_share and (share := metric_score(record, metric)) is not None
    ]
    loss_chart, accuracy_chart = _curves(losses, "nats per image"), _curves(accuracy, "%")
    write_files(folder, {
        "loss": (LOSS, draw_picture(loss_chart, "Loss", conditions)),
        "accuracy": (ACCURACY, draw_picture(accuracy_chart, "Accuracy", conditions)),
    })  # fmt: skip


def _curves(values: Sequence[dict[str, Any]], title: str) -> Any:
    import altair as alt

    series = list(dict.fromkeys(value["series"] for value in values))
    epochs = alt.Axis(values=_ticks(values[-1]["epoch"]), format="d")
    lines = (
        make_chart(values)
        .mark_line(point=len(values) < 60)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=epochs, scale=alt.Scale(zero=False, nice=False)),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=colours(alt, "series", series),
        )
    )
    return styled(lines)


def _ticks(epochs: int) -> list[int]:
    """At most 12 whole epochs, the last one included; the default axis has halves too."""
    step = max(1, -(-epochs // MAX_TICKS))
    return list(range(epochs, 0, -step))[::-1] or [0]


def training_table(result: RunResult) -> Table:
    """The scores of the exported network."""
    scores = {"validation": result.validation, "test": result.test}
    shown = shown_metrics(balanced=any(score.is_unbalanced for score in scores.values()))
    rows = [
        [split, *(score_text(metric_score(score, m), m) for m in shown), str(score.images)]
        for split, score in scores.items()
    ]
    header = ["split", *(metric.label for metric in shown), "images"]
    return screen_table(f"{result.network} on {result.data}", header, rows)

"""The common style of all charts, and their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

from genets.core.errors import printable

HEIGHT = 340
PICTURE_WIDTH = 620
PICTURE_PPI = 144
LEGEND_COLUMNS = 2  # fit a phone
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
GRID_COLOUR = "#e6e8eb"
# The colours of Okabe and Ito, which colour-blind readers can distinguish, then darker and lighter
# variants.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F",
    "#7A3E9D", "#999999",
)  # fmt: skip
STAR = "M0,-1L.24,-.31L.95,-.31L.37,.12L.59,.81L0,.38L-.59,.81L-.37,.12L-.95,-.31L-.24,-.31Z"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", STAR,
          "triangle-right", "triangle-left", "M-1,-.5L0,-1L1,-.5L1,.5L0,1L-1,.5Z")  # fmt: skip


def make_chart(values: Iterable[dict[str, Any]]) -> Any:
    """A chart of Altair that holds these values."""
    import altair

    data: Any = altair.Data  # has no types
    return altair.Chart(data(values=list(values)))


def styled(chart: Any) -> Any:
    """The chart in the common style."""
    return (
        chart.properties(height=HEIGHT)
        .configure(font=FONT)
        .configure_axis(labelFontSize=12, titleFontSize=13, gridColor=GRID_COLOUR,
                        labelOverlap=True)
        .configure_legend(labelFontSize=12, titleFontSize=12, orient="bottom",
                          columns=LEGEND_COLUMNS,
                          labelLimit=220, symbolStrokeWidth=2)
        .configure_title(fontSize=14, anchor="start", subtitleColor="#5b6570", offset=12)
        .configure_view(stroke="#d5d9de")
    )  # fmt: skip


def colours(alt: Any, field: str, names: Sequence[str], title: str | None = None) -> Any:
    """A colour for each name, in this order."""
    palette = [COLOURS[number % len(COLOURS)] for number in range(len(names))]
    return alt.Color(f"{field}:N", title=title, sort=None,
                     scale=alt.Scale(domain=list(names), range=palette))  # fmt: skip


def shapes(alt: Any, field: str, names: Sequence[str], title: str | None = None) -> Any:
    """A shape for each name, so that names differ in more than their colour."""
    marks = [SHAPES[number % len(SHAPES)] for number in range(len(names))]
    return alt.Shape(f"{field}:N", title=title, sort=None,
                     scale=alt.Scale(domain=list(names), range=marks))  # fmt: skip


def draw_picture(chart: Any, title: str, conditions: str) -> bytes:
    """A PNG of the chart with its title, and the conditions on a line below it."""
    import altair

    head = altair.TitleParams(printable(title), subtitle=printable(conditions))
    return png_bytes(chart.properties(width=PICTURE_WIDTH, title=head))


def png_bytes(chart: Any) -> bytes:
    picture = BytesIO()
    chart.save(picture, format="png", ppi=PICTURE_PPI)
    return picture.getvalue()

"""Tables: what they say, and that names are not taken for markup."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from genets.core.errors import InfeasibleBudgetError
from genets.latency import Measurement, Target
from genets.nas.study.records import Candidate
from genets.report.evaluation.tables import export_table
from genets.report.study.tables import alternatives_table, fastest_table, selected_table
from genets.report.tables import measurement_table
from genets.report.zoo import ZooRow, zoo_table
from genets.structure import zoo
from genets.training.score import Metric


def text_of(table):
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def selected(high_ms):
    values = (0.2, 0.18, 0.19, 0.185, high_ms, 0.4, False, -0.4, 0.02, 0.05)
    return Candidate(zoo["master_small"], *values)


@pytest.mark.parametrize(
    ("high_ms", "margin", "said"),
    [(0.195, 0.025, "2.5% below the budget"), (0.2, 0, "0.0% below"), (0.22, -0.1, "10.0% ABOVE")],
)
def test_margin_is_what_the_bound_leaves_of_the_budget(high_ms, margin, said):
    assert selected(high_ms).margin == pytest.approx(margin)
    assert said in text_of(selected_table(selected(high_ms), Metric.TOP1))


def test_a_selection_names_the_metric_that_it_predicts():
    text = text_of(selected_table(selected(0.195), Metric.CROSS_ENTROPY))
    assert "predicted cross-entropy │ 0.4000 on validation images" in text
    known = replace(selected(0.195), predicted_accuracy_low=-0.45, predicted_accuracy_high=-0.36)
    text = text_of(selected_table(known, Metric.CROSS_ENTROPY))
    assert "0.4000 (95 % interval 0.3600 to 0.4500) on validation images" in text
    rows = text_of(alternatives_table([selected(0.195)], Metric.CROSS_ENTROPY))
    assert "cross-entropy" in rows
    assert " 0.4000 " in rows
    assert "-0.4" not in rows


def test_names_are_not_markup():
    row = ZooRow("[red]mine[/]", 32, 1_234_567, 2_000_000, "[b]Conv3x16")
    text = text_of(zoo_table([row]))
    assert "[red]mine[/]" in text
    assert "[b]Conv3x16" in text
    assert "1.23 M" in text


def test_measurement():
    target = Target("cuda", batch_size=50)
    values = (0.5, 0.49, 0.51, 0.6, 0.7, (25.0, 25.1), True, {"load": 1.0}, "genets-1", target, 32)
    text = text_of(measurement_table("[/oops]", Measurement(*values)))
    assert "[/oops]" in text
    assert "2000 images per second" in text
    assert "0.49 to 0.51 ms per image" in text
    assert "noisy           │ yes: an end of the 95 % interval is more than 1 % away" in text
    assert "disturbed       │ no" in text
    quick = text_of(measurement_table("quick", Measurement(0.02045, *values[1:])))
    assert "48,900 images per second" in quick
    assert "trimmed" not in text
    paper = text_of(measurement_table("paper", replace(Measurement(*values), protocol="paper")))
    assert "trimmed mean" in paper
    assert "95 % interval of the median" in paper


def test_what_an_export_must_be_fed_is_short():
    triple = (0.3834129571914673,) * 3
    fed = {"name": "images", "dtype": "float32", "shape": [1, 3, 8, 8], "values": "pixels"}
    contract = {
        "files": [],
        "measured": None,
        "batch_dimension": "free",
        "target": {"batch_size": 64},
        "input": fed
        | {
            "mean": triple,
            "std": [0.5, 0.25, 1],
            "resize": {"resized_side": "shorter", "pixels": 9, "interpolation": "bicubic"},
            "crop": {"width": 8, "height": 8},
        },
        "quantisation": None,
        "largest_difference_when_loaded_again": 0.0,
    }
    text = text_of(export_table("net", Path("out"), contract))
    assert "(0.3834, 0.3834, 0.3834), (0.5, 0.25, 1)" in text


def test_fastest():
    assert fastest_table(InfeasibleBudgetError("none")) is None
    assert "Conv" in text_of(fastest_table(InfeasibleBudgetError("none", fastest="Conv3x16s2")))

"""A comparison as tables, CSV and page; a profile as page."""

import csv
import re
from dataclasses import replace
from io import StringIO
from itertools import pairwise

import pytest
from rich.console import Console

from genets.analysis import Comparison, ComparisonRow
from genets.analysis.comparison.rows import RATIO_FIELDS, ReferenceNetwork
from genets.analysis.profile.profile import Profile, ProfileSettings, make_chains
from genets.latency import Measurement, Target
from genets.latency.timing.measurement import Ratio
from genets.networks.baselines import baselines
from genets.report.comparison import charts as comparison_charts
from genets.report.comparison import page as comparison_page
from genets.report.comparison.tables import comparison_tables as shown_tables
from genets.report.comparison.tables import failures
from genets.report.profile import page as profile_page
from genets.report.profile import tables as profile_tables
from genets.report.tables import csv_text

ONE, MANY = (Target(batch_size=size, threads=2) for size in (1, 64))


def row(name, target, ms, error=None):
    known = baselines.get(name)
    measurement = None
    if error is None:
        environment = {"device_name": "a <device>", "packages": {"torch": "2"}}
        measurement = Measurement(
            ms, ms, ms, ms, ms, (ms,) * 3, ms > 8, {"load": 0.1}, "genets-1", target, 224,
            environment,
        )  # fmt: skip
    paper = known.ms_per_image["table7"][target.batch_size] if known else None
    return ComparisonRow(name, known.family if known else "own", target, 224, 10**6, 10**9,
               known.top1_percent if known else None, "table7", paper, 1, 10.0, 0,
               measurement, error)  # fmt: skip


@pytest.fixture
def comparison():
    rows = [
        row(name, target, ms * (2 if target == ONE else 1))
        for name, ms in {"ResNet-34": 4.0, "EfficientNet-B2": 6.0, "GENet-light": 2.0,
                         "[b]mine[/b]<i>": 5.0}.items()
        for target in (ONE, MANY)
    ]  # fmt: skip
    return Comparison((*rows, row("OFANet-9ms", MANY, 0, "operator <odd> is not exported")))


def with_ratio(row, reference, ratio):
    measurement = replace(row.measurement, ratio=Ratio(*ratio))
    return replace(row, measurement=measurement, reference=ReferenceNetwork(reference, 224))


def cells_of(line):
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def text_of(shown, width=200):
    console = Console(width=width, file=StringIO())
    for part in shown:
        console.print(part)
    return console.file.getvalue()


def test_the_screen_shows_networks_by_batch_sizes(comparison):
    text = text_of(shown_tables(comparison))
    line = next(line for line in text.splitlines() if "ResNet-34" in line)
    assert cells_of(line) == [
        "ResNet-34", "224", "74.4 %", "8 ± 0.0 %", "4 ± 0.0 %", "5.13", "0.22",
    ]  # fmt: skip
    assert "paper's V100 FP16, batch 1" in text
    assert "[b]mine[/b]<i>" in text
    assert "12 ± 0.0 % noisy" in text
    assert "noisy: an end of the 95 % interval is more than 1 % away from the median." in text
    assert "OFANet-9ms on cpu, torch, fp32, batch 64, 2 threads: operator <odd>" in text


def test_ratios_stand_beside_the_latencies(plain):
    target = Target(batch_size=64, threads=2)
    rows = (
        with_ratio(row("mine", target, 4.0), "mine", (1.0, 1.0, 1.0)),
        with_ratio(row("timm:b", target, 6.0), "mine", (1.5, 1.494, 1.503)),
        with_ratio(row("c", target, 3.0), "timm:b", (0.5, 0.4975, 0.505)),
        row("older", target, 8.0),
        row("failed", target, 0, "no memory"),
    )
    shown = text_of(shown_tables(Comparison(rows)), width=100)
    lines = {cells_of(line)[0]: cells_of(line)[3:] for line in shown.splitlines() if "│" in line}
    header = next(cells_of(line) for line in shown.splitlines() if "network" in line)
    assert header[3:] == ["batch 64", "x mine", "x timm:b"]
    assert lines == {
        "mine": ["4 ± 0.0 %", "1", "-"],
        "timm:b": ["6 ± 0.0 %", "1.5 ± 0.4 %", "1"],
        "c": ["3 ± 0.0 %", "-", "0.5 ± 1.0 %"],
        "older": ["8 ± 0.0 %", "-", "-"],
        "failed": ["-", "-", "-"],
    }
    for name in ("mine", "timm:b"):
        assert f"x {name}: the latency as a multiple of the latency of {name}" in shown
    page = comparison_page.comparison_page(Comparison(rows), "today")
    assert "<th scope=col>x mine</th>" in page
    assert ">1.5 ± 0.4 %</td>" in page
    records = list(csv.DictReader(StringIO(csv_text(Comparison(rows).summary()))))
    names = ("reference", "reference_resolution", *RATIO_FIELDS)
    assert [tuple(record[name] for name in names) for record in records[1:4]] == [
        ("mine", "224", "1.5", "1.494", "1.503"), ("timm:b", "224", "0.5", "0.4975", "0.505"),
        ("",) * 5,
    ]  # fmt: skip


def test_rows_without_ratios_have_no_column_of_ratios(comparison):
    assert " x " not in text_of(shown_tables(comparison))


@pytest.mark.parametrize(("sizes", "width"), [((64,), 80), ((1, 64), 120)])
def test_the_table_of_own_networks_fits_on_the_screen(sizes, width):
    targets = [Target(batch_size=size, threads=2) for size in sizes]
    rows = [
        with_ratio(row(name, target, 1.234), "timm:resnet18", (1.234, 1.2, 1.25))
        for name in ("timm:resnet18", "genet_light")
        for target in targets
    ]
    text = text_of(shown_tables(Comparison(tuple(rows))), width)
    assert text.count("x timm:resnet18 ") == len(sizes)
    assert text.count("1.234 ± 0.0 %") == 2 * len(sizes)
    assert text.count("1.234 ± 2.8 %") == len(sizes)


def test_a_reference_at_another_resolution_has_its_resolution(plain):
    rows = [with_ratio(row("b", MANY, 4.0), "a", (2.0, 2.0, 2.0)), row("a", MANY, 3.0)]
    rows[1] = replace(rows[1], resolution=256)
    shown = text_of(shown_tables(Comparison(tuple(rows))))
    lines = {cells_of(line)[0]: cells_of(line)[-1] for line in shown.splitlines() if "│" in line}
    assert lines == {"b": "2 ± 0.0 %", "a": "-"}
    assert " x a at 224 pixels " in shown
    assert "x a at 224 pixels: the latency as a multiple of" in shown


def test_a_long_name_is_cut_in_the_header_alone():
    name = "Conv3x32s2 XX3x128s2 XX3x192s2*2 Conv1x2560 @256"
    rows = (with_ratio(row("a", MANY, 1.0), name, (2.0, 2.0, 2.0)),)
    text = text_of(shown_tables(Comparison(rows)))
    assert " x Conv3x32s2 XX3x12... " in text
    assert f"x {name}: the latency as a multiple of" in text


def test_speed_ups_within_the_noise_are_marked(comparison):
    rows = [row("ResNet-34", ONE, 4.0), row("GENet-light", ONE, 4.0)]
    text = text_of(shown_tables(Comparison(tuple(rows))))
    assert "1.00≈" in text
    assert "≈: the 95 % intervals of the two networks touch" in text
    assert "≈" not in text_of(shown_tables(comparison))


def test_only_int8_tables_speak_of_int8(plain):
    int8 = Target(precision="int8", engine="onnxruntime", threads=2)
    rows = [row("ResNet-34", target, 4.0) for target in (ONE, int8)]
    rows[1] = replace(rows[1], paper_table="table9")
    html = comparison_page.comparison_page(Comparison(tuple(rows)), "today")
    assert html.count("Accuracies beside INT8") == 1
    assert html.index("Accuracies beside INT8") > html.index("Latency: cpu, onnxruntime, int8")


def test_a_reason_that_rows_share_is_told_once():
    rows = [row(name, target, 0, "no int8 here") for name in "ab" for target in (ONE, MANY)]
    found = failures([*rows, row("c", ONE, 0, "no memory"), row("d", ONE, 1.0)])
    assert found == [
        "a on cpu, torch, fp32, batch 1, 2 threads and 3 more: no int8 here",
        "c on cpu, torch, fp32, batch 1, 2 threads: no memory",
    ]


def test_the_screen_shows_speed_ups_and_agreement(comparison):
    text = text_of(shown_tables(comparison))
    assert "Speed-ups at equal accuracy (Table 3): cpu, torch, fp32, batch 64" in text
    line = [line for line in text.splitlines() if "ResNet-34" in line][-1]
    assert cells_of(line) == ["ResNet-34", "74.4 %", "4", "GENet-light", "2", "2.00", "2.2",
                     "GENet-light", "2.00"]  # fmt: skip
    assert "rank correlation 1.00 with the paper's Table 7 (V100, PyTorch, FP16)" in text
    assert "over 3 networks" in text


def test_int8_rows_say_whose_accuracy_it_is(comparison):
    rows = tuple(row(name, replace(ONE, precision="int8"), 1.0) for name in comparison.networks)
    text = text_of(shown_tables(Comparison(rows)))
    assert "published FP top-1" in text
    assert "of the full-precision networks" in text
    assert "quantised only for their latency" in text


def test_csv_has_every_row(comparison):
    records = list(csv.DictReader(StringIO(csv_text(comparison.summary()))))
    assert len(records) == 9
    assert records[0]["network"] == "ResNet-34"
    assert float(records[0]["ms_per_image"]) == 8.0
    assert float(records[0]["paper_ms_per_image"]) == 5.13
    assert records[-1]["error"] == "operator <odd> is not exported"
    assert records[-1]["ms_per_image"] == ""


def test_the_page(comparison, plain):
    html = comparison_page.comparison_page(comparison, "today")
    assert html.count('class="chart"') == 2
    assert "[b]mine[/b]&lt;i&gt;" in html
    assert "a &lt;device&gt;" in html
    assert "operator &lt;odd&gt; is not exported" in html
    assert "<dd>1, 64</dd>" in html
    assert "Table 7 (V100, PyTorch, FP16)" in html


def test_a_comparison_without_accuracies_has_no_figure(plain):
    html = comparison_page.comparison_page(Comparison((row("mine", ONE, 1.0),)), "today")
    assert "Figure 5" not in html
    assert "Latency of 1 network<" in html


def test_names_on_the_frontier_do_not_cover_each_other(comparison):
    best = [{"network": "n" * 12, "ms": 1 + i / 50, "top1": 70 + i / 10} for i in range(8)]
    rest = [{"network": "far", "ms": 100.0, "top1": 50.0}]
    placed = comparison_charts._placed(best, [*best, *rest])
    heights = sorted(point["label"] for point in placed)
    line = comparison_charts.LINE / (340 - 40) * (70.7 - 50)
    assert all(b - a > 0.99 * line for a, b in pairwise(heights))


def test_a_profile_page(plain):
    settings = ProfileSettings(ONE, batch_sizes=(1, 64), widths=(32, 64), ratios=(1.0,))
    chains = {chain.name: chain for chain in make_chains((32, 64), (1.0,))}
    found = Profile(
        Comparison(tuple(row("ResNet-34", t, ms) for t, ms in ((ONE, 4.0), (MANY, 1.0)))),
        Comparison(tuple(row(n, ONE, 1.0) for n in ("ResNet-34", "ResNet-50"))),
        Comparison(tuple(row(name, ONE, chain.width / 8) for name, chain in chains.items())),
        chains,
        settings,
    )
    html = profile_page.profile_page(found, "today")
    assert html.count('class="chart"') == 7
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    first = cells.index("ResNet-34, batch 64")
    assert cells[first : first + 4] == ["ResNet-34, batch 64", "batch 1", "4", "4 to 4"]
    assert "latency per image in 1 of 1 comparisons" in html
    assert "XX width 32" in html
    record = profile_tables.profile_record(found)
    assert record["conditions"]["device"] == "a <device> (None)"
    records = record["rows"]
    assert {record["figure"] for record in records} == {"2a", "2bc", "3"}
    assert "ResNet-34" in text_of(profile_tables.profile_tables(found))
    noisy = replace(found, batches=Comparison((row("ResNet-34", ONE, 9.0),)))
    assert " 9 noisy " in text_of(profile_tables.profile_tables(noisy))
    assert "1 of 9 latencies are noisy" in profile_tables.profile_sentences(noisy)["noisy"]

"""Figure 5 of the paper from committed results: accuracy over latency, with the frontier.

    python docs/generator/figure5.py cpu docs/pictures/figure5_cpu.png
    python docs/generator/figure5.py h200 docs/pictures/figure5_h200.png

The chart is the chart of `genets compare`. The latencies come from `benchmarks/results`, so that
nothing is measured again. The accuracies are published.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from genets.analysis import ComparisonRow, find_networks
from genets.latency import Measurement, Target
from genets.report.charts import draw_picture
from genets.report.comparison.charts import accuracy_chart

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
CPU = Target("cpu", "openvino", "fp32", batch_size=1, threads=2)
GPU = Target("cuda", "torch-compile", "fp16", batch_size=64)
PLACES = ("cpu", "h200")
COLOURS = 128


def figure5(place: str) -> bytes:
    """Draw the figure of one of `PLACES` as a PNG."""
    if place == "cpu":
        record = _read("table3_cpu_b1.json")
        rows, target = record["targets"]["cpu-openvino-fp32-b1-t2"]["rows"], CPU
        device, engine = "two CPU cores of an AMD EPYC", "OpenVINO, fp32, batch size 1"
    else:
        record = _read("gpu/h200-2026.json")
        rows, target = record["torch_compile_fp16_batch64"], GPU
        device, engine = "one NVIDIA H200", "torch-compile, fp16, batch size 64"
    chart = accuracy_chart(comparison_rows(rows, target), named=True)
    facts = [engine, record["date"]]
    if "commit" in record:
        facts.append(f"commit {record['commit']}")
    return draw_picture(chart, f"Accuracy over latency on {device}", ", ".join(facts))


def comparison_rows(rows: Iterable[Mapping[str, Any]], target: Target) -> list[ComparisonRow]:
    """Make the rows of a comparison from the figures of a file of results."""
    made = []
    for row in rows:
        (network,) = find_networks([row["network"]], resolution=row["resolution"])
        low = row.get("low_ms_per_image", row.get("low"))
        high = row.get("high_ms_per_image", row.get("high"))
        ms = row["ms_per_image"]
        measurement = Measurement(ms, low, high, high, high, (), noisy=high - low > 0.02 * ms,
                                  seconds={}, protocol="genets-1", target=target,
                                  resolution=row["resolution"])  # fmt: skip
        made.append(
            ComparisonRow(
                network.name, network.family, target, row["resolution"], None, None,
                network.top1_percent, paper_table="", paper_ms=None, run=1, time_limit_s=0.0,
                seed=0, measurement=measurement,
            )
        )  # fmt: skip
    return made


def with_fewer_colours(picture: bytes) -> bytes:
    """Reduce the colours of a PNG, so that the file is small."""
    smaller = BytesIO()
    with Image.open(BytesIO(picture)) as image:
        image.convert("RGB").quantize(COLOURS).save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("place", choices=PLACES, help="where the networks were measured")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    options = parser.parse_args()
    options.picture.write_bytes(with_fewer_colours(figure5(options.place)))


if __name__ == "__main__":
    main()

"""What measurements hold for, as facts for a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from genets.analysis import ComparisonRow
from genets.latency import Measurement, Target


def conditions(rows: Iterable[ComparisonRow], date: str = "") -> dict[str, str]:
    """Device, engines, precisions, batch sizes, threads, protocol, versions; date where given."""
    rows = list(rows)
    environments = [r.measurement.environment for r in rows if r.measurement]
    targets = [row.target for row in rows]
    packages = {f"{name} {number}" for e in environments
                for name, number in (e.get("packages") or {}).items() if number}  # fmt: skip
    facts = {
        "device": _joined(
            f"{e.get('device_name')} ({e.get('capability')})" for e in environments
        ) or _joined(t.device for t in targets),
        "driver": _joined(e.get("driver") for e in environments),
        "engine": _joined(t.engine for t in targets),
        "provider": _joined(t.provider for t in targets),
        "precision": _joined(t.precision for t in targets),
        "batch size": _joined(sorted({t.batch_size for t in targets})),
        "threads": _joined(t.threads for t in targets),
        "protocol": _joined(r.measurement.protocol for r in rows if r.measurement),
        "versions": _joined(sorted(packages)),
        "system": _joined(e.get("system") for e in environments),
        "date": date,
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value}


def short_conditions(rows: Iterable[ComparisonRow], date: str) -> str:
    """Device, protocol, main version and date on one line, for a picture."""
    facts = conditions(rows, date)
    return ", ".join(facts[name] for name in ("device", "protocol", "versions", "date")
                     if name in facts)  # fmt: skip


def interval_text(measurement: Measurement) -> str:
    """The 95 % interval, and whether it is noisy, for who points at it."""
    low, high = measurement.low_ms_per_image, measurement.high_ms_per_image
    return f"{low:.4g} to {high:.4g}{', noisy' if measurement.noisy else ''}"


def accuracy_name(target: Target) -> str:
    """What the published accuracies are called: beside INT8 they are of another network."""
    return "published FP top-1" if target.precision == "int8" else "published top-1"


def described(target: Target) -> str:
    """A target in words: `cpu, torch, fp32, batch 64, 2 threads`."""
    return described_setting(target, f"batch {target.batch_size}")


def described_setting(target: Target, *more: str) -> str:
    """A target in words, without its batch size."""
    threads = (
        [] if target.threads is None else [f"{target.threads} thread{'s' * (target.threads > 1)}"]
    )
    provider = [] if target.provider is None else [target.provider]
    words = [target.device, target.engine, *provider, target.precision, *more, *threads]
    return ", ".join(words)


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))

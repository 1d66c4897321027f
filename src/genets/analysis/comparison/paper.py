"""The paper's table that a target is compared with."""

from __future__ import annotations

from genets.latency import Target
from genets.networks.baselines import PublishedTable, published_tables


def paper_table(target: Target) -> str:
    """The latency table of the nearest setting: 9 for INT8, 8 for TensorRT, else 7."""
    if target.precision == "int8":
        return "table9"
    return "table8" if target.provider == "tensorrt" else "table7"


def paper_title(name: str) -> str:
    """`Table 7 (V100, PyTorch, FP16)`."""
    table: PublishedTable = published_tables()[name]
    conditions = ", ".join((table.device, table.engine, table.precision.upper()))
    return f"Table {name.removeprefix('table')} ({conditions})"

"""Tables of the machine, for `genets doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from genets.report.tables import Fact, facts_table, screen_table

ENGINES_HEADER = ("engine", "device", "can run", "cannot run")
GIB = 2**30


def machine_tables(machine: Mapping[str, Any]) -> list[Table]:
    """Tables of the record of `genets.latency.diagnosis.describe_machine`."""
    facts = [*_device_facts(machine), *_state_facts(machine)]
    return [
        facts_table("Versions", machine["versions"].items()),
        facts_table("This machine", facts),
        _engines_table(machine),
    ]


def _device_facts(machine: Mapping[str, Any]) -> Iterator[Fact]:
    for device in machine["devices"]:
        words = [str(device["device_name"]), f"capability {device['capability']}"]
        if device["device"] == "cpu":
            words.append(" ".join(device["instruction_sets"]))
            if device["onednn_max_isa"]:
                words.append(f"oneDNN limited to {device['onednn_max_isa']}")
            if device["nominal_mhz"]:
                words.append(f"{device['nominal_mhz']} MHz")
        else:
            words += [f"{name} {device[name]}" for name in ("driver", "cuda", "cudnn")]
            words.append(_memory_text(device))
        yield device["device"], ", ".join(word for word in words if word)


def _state_facts(machine: Mapping[str, Any]) -> Iterator[Fact]:
    threads, load = machine["threads"], machine["load"]
    default, usable, cpus = (threads[name] for name in ("default", "usable_cpus", "cpus"))
    yield "threads", f"{default} by default, for {usable} of {cpus} CPUs"
    for name, value in threads.items():
        if name.isupper() and value is not None:
            yield name, value
    averages = load["load_average"]
    if averages is not None:
        yield "load average", ", ".join(f"{value:.2f}" for value in averages)
    if load["other_cpus"] is not None:
        advice = "calm" if load["calm"] else "busy: latencies in ms would be disturbed"
        yield "other processes", f"use {load['other_cpus']:.1f} CPUs; {advice}"
    yield "memory", _memory_text(machine["memory"])
    for disk in machine["disk"]:
        yield "disk", f"{_gib(disk['free_bytes'])} free in {disk['folder']}"


def _engines_table(machine: Mapping[str, Any]) -> Table:
    rows = []
    for each in machine["engines"]:
        name = (
            each["engine"] if each["provider"] is None else f"{each['engine']} {each['provider']}"
        )
        missing = each["missing"]
        # An engine that cannot run at all has one reason for all precisions.
        reasons = missing.values() if each["precisions"] else [*missing.values()][:1]
        rows.append(
            [name, each["device"], ", ".join(each["precisions"]) or "nothing", "; ".join(reasons)]
        )
    return screen_table("Engines", ENGINES_HEADER, rows, left=3, fold=("cannot run",))


def _memory_text(memory: Mapping[str, Any]) -> str:
    return f"{_gib(memory['free_bytes'])} of {_gib(memory['total_bytes'])} free"


def _gib(count: int | None) -> str:
    return "an unknown amount" if count is None else f"{count / GIB:.1f} GiB"

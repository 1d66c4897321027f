"""`genets doctor`: the parts of this machine, and the targets that it can run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from rich.table import Table

from command_line import invoke
from genets.core.errors import TargetError
from genets.latency import ENGINES, Target
from genets.latency.diagnosis import describe_machine
from genets.latency.engines.activity import MachineCounters, ProcessCounters
from genets.report.machine import machine_tables
from json_keys import check_keys


class Load:
    """Others use `others` of two CPUs; time passes only in `sleep`."""

    cores = 2

    def __init__(self, others: float) -> None:
        self.others, self.now_s = others, 0.0

    def process(self) -> ProcessCounters:
        return ProcessCounters(0.0, 0, 0.0)

    def machine(self) -> MachineCounters:
        return MachineCounters(self.now_s, 0.0, self.others * self.now_s)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def machine(others: float = 0.0) -> dict[str, Any]:
    load = Load(others)
    return describe_machine(activity=load, sleep=load.sleep)


def cells(table: Table) -> str:
    return " | ".join(str(cell) for column in table.columns for cell in column.cells)


def test_the_command_prints_one_record_or_tables() -> None:
    printed = json.loads(invoke("doctor", "--json").stdout)
    check_keys("doctor", printed)
    assert printed["versions"]["torch"] == torch.__version__.split("+")[0]
    assert printed["devices"][0]["device"] == "cpu"
    text = invoke("doctor").stdout
    for part in ("Versions", "This machine", "Engines", "free in", "by default, for"):
        assert part in text


def test_an_engine_runs_what_its_check_accepts() -> None:
    """Compared with the checks that a measurement makes."""
    rows = machine()["engines"]
    assert {row["engine"] for row in rows} == set(ENGINES)
    assert {row["device"] for row in rows} == {"cpu", "cuda"}
    for row in rows:
        for precision in ENGINES[row["engine"]].precisions:
            target = Target(row["device"], row["engine"], precision, provider=row["provider"])
            try:
                target.check()
                reason = None
            except TargetError as error:
                reason = str(error)
            assert (precision in row["precisions"]) == (reason is None)
            assert row["missing"].get(precision) == reason
    torch_on_cpu = next(r for r in rows if (r["engine"], r["device"]) == ("torch", "cpu"))
    assert "fp32" in torch_on_cpu["precisions"]


def test_a_damaged_installation_is_a_row_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged:
        precisions, packages = ("fp32", "int8"), ()

        def check(self, target: Target) -> None:
            raise OSError("libgomp.so.1: cannot open shared object file\nmore lines")

    monkeypatch.setitem(ENGINES, "openvino", Damaged())
    found = machine()
    (row,) = (row for row in found["engines"] if row["engine"] == "openvino")
    reason = "OSError: libgomp.so.1: cannot open shared object file"
    assert (row["precisions"], row["missing"]) == ([], {"fp32": reason, "int8": reason})
    table = cells(machine_tables(found)[2])
    assert table.count(reason) == 1
    assert "nothing" in table


@pytest.mark.parametrize(("others", "calm"), [(0.0, True), (1.9, False)])
def test_the_load_of_others(others: float, calm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genets.latency.diagnosis.physical_cores", lambda: 2)
    found = machine(others)
    assert found["load"]["other_cpus"] == pytest.approx(others)
    assert found["load"]["calm"] == calm
    facts = cells(machine_tables(found)[1])
    assert f"use {others:.1f} CPUs; {'calm' if calm else 'busy'}" in facts


def test_what_the_system_does_not_say_is_left_out() -> None:
    found = machine()
    found["load"] = {"load_average": None, "other_cpus": None, "calm": None}
    found["memory"] = {"free_bytes": None, "total_bytes": None}
    found["devices"][0] |= {"nominal_mhz": None, "instruction_sets": [], "onednn_max_isa": "AVX2"}
    facts = cells(machine_tables(found)[1])
    assert "oneDNN limited to AVX2" in facts
    assert "load average" not in facts
    assert "an unknown amount of an unknown amount free" in facts


def test_a_cuda_device_is_described() -> None:
    found = machine()
    found["devices"].append({
        "device": "cuda:0", "device_name": "H100", "capability": "9.0", "driver": "570",
        "cuda": "13.2", "cudnn": 91002, "free_bytes": 2**30, "total_bytes": 2**31,
    })  # fmt: skip
    assert "H100, capability 9.0, driver 570, cuda 13.2, cudnn 91002, 1.0 GiB of 2.0 GiB" in cells(
        machine_tables(found)[1]
    )


def test_the_row_of_the_cpu_describes_the_cpu_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(target: Target) -> dict[str, Any]:
        if target.is_cpu:
            return {"device_name": "Xeon", "capability": "AVX512", "instruction_sets": ["avx2"]}
        return {"device_name": "H100", "capability": "9.0", "driver": "570"}

    monkeypatch.setattr(Target, "_choose_device", lambda self: "cuda")
    monkeypatch.setattr("genets.latency.diagnosis.describe_environment", describe)
    assert "Xeon, capability AVX512, avx2" in cells(machine_tables(machine())[1])


def test_torch_compile_says_that_it_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TargetError, match="'no-such-compiler' is not installed"):
        Target(engine="torch-compile").check()

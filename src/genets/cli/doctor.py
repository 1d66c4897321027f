"""`genets doctor`: the parts of this machine, and the targets that it can run."""

from __future__ import annotations

from genets.cli.options import Json


def doctor(json: Json = False) -> None:
    """Show the parts of this machine and the targets that it can run.

    Shows versions, devices, the precisions that each engine can run, and the reason for each
    precision that it cannot run. Also shows the instruction sets of the CPU, threads, load, free
    memory and free disk.

    \b
    genets doctor
    genets doctor --json > machine.json
    """
    from genets.cli.output import print_result
    from genets.latency.diagnosis import describe_machine
    from genets.report.machine import machine_tables

    machine = describe_machine()
    print_result(json, machine, machine_tables(machine))

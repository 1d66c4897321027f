"""`genets zoo`: the named structures and the baselines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from genets.cli.options import Json, network_argument, option

if TYPE_CHECKING:
    from genets.report.zoo import ZooRow
    from genets.structure import Structure

CLASSES = 1000  # of ImageNet, as the publications count


def zoo(
    name: Annotated[
        str | None,
        network_argument(help="Network to describe; without a name, all networks are listed."),
    ] = None,
    toml: Annotated[
        bool, option("Print the structure file (.toml) of the network.", name="--toml")
    ] = False,
    json: Json = False,
) -> None:
    """List the structures of the zoo and the baselines.

    The figures of a baseline are published figures. Parameters are counted with 1000 classes, and
    multiply-adds for one image at the network's own resolution.

    \b
    genets zoo
    genets zoo genet_large
    genets zoo EfficientNet-B3
    genets zoo master_small --toml > mine.toml
    """
    if toml and name is None:
        raise typer.BadParameter("needs a NAME", param_hint="--toml")
    if toml and json:
        raise typer.BadParameter("cannot be combined with --json", param_hint="--toml")
    if name is None:
        _list_all(json)
    else:
        _show_one(name, toml, json)


def _list_all(json: bool) -> None:
    from genets import structure
    from genets.cli.output import print_result
    from genets.report.zoo import baselines_table, zoo_table
    from genets.structure.published import published_networks

    rows = [_row(name, structure.zoo[name]) for name in structure.zoo]
    baselines = published_networks.values()
    record = {
        "structures": [asdict(row) for row in rows],
        "baselines": [baseline.to_json() for baseline in baselines],
    }
    print_result(json, record, [zoo_table(rows), baselines_table(baselines)])


def _show_one(name: str, toml: bool, json: bool) -> None:
    from genets import structure
    from genets.cli.output import print_lines, print_result
    from genets.report.zoo import stages_table, zoo_table

    if name not in structure.zoo:
        _show_baseline(name, toml, json)
        return
    network = structure.zoo[name]
    if toml:
        print_lines([network.to_toml().rstrip("\n")])
        return
    row = _row(name, network)
    record = {**asdict(row), "stages": [asdict(stage) for stage in network.stages]}
    print_result(json, record, [stages_table(name, network), zoo_table([row])])


def _show_baseline(name: str, toml: bool, json: bool) -> None:
    from genets.cli.output import print_result
    from genets.core.errors import GenetsError, unknown_name
    from genets.report.zoo import baseline_tables
    from genets.structure import zoo
    from genets.structure.published import published_networks

    if name not in published_networks:
        raise GenetsError(unknown_name("network", name, (*zoo, *published_networks)))
    baseline = published_networks[name]
    if toml:
        raise GenetsError(f"{baseline.name} is a baseline and has no structure file")
    print_result(json, baseline.to_json(), baseline_tables(baseline))


def _row(name: str, structure: Structure) -> ZooRow:
    from genets.report.zoo import ZooRow
    from genets.structure.cost import multiply_adds, parameters

    return ZooRow(
        name,
        structure.resolution,
        parameters(structure, CLASSES),
        multiply_adds(structure, CLASSES),
        str(structure),
    )

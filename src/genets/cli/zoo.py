"""`genets zoo`: the named structures and the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from genets.cli.options import Json, option

if TYPE_CHECKING:
    from genets.report import ZooRow
    from genets.structure import Structure


def zoo(
    name: Annotated[
        str | None,
        typer.Argument(help="Network to describe; without a name, all networks are listed."),
    ] = None,
    toml: Annotated[
        bool, option("Print the structure file (.toml) of the network.", name="--toml")
    ] = False,
    json: Json = False,
) -> None:
    """List the structures of the zoo and the baselines.

    The figures of a baseline are published ones. Parameters are counted with 1000 classes, and
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
    from genets.cli.output import print_json, print_tables
    from genets.networks.baselines import baselines
    from genets.report import baselines_table, zoo_table

    rows = [_row(name, structure.zoo[name]) for name in structure.zoo]
    if json:
        print_json(
            {
                "structures": [row.to_json() for row in rows],
                "baselines": [baseline.to_json() for baseline in baselines.values()],
            }
        )
    else:
        print_tables(zoo_table(rows), baselines_table(baselines.values()))


def _show_one(name: str, toml: bool, json: bool) -> None:
    from dataclasses import asdict

    from genets import structure
    from genets.cli.output import print_json, print_tables
    from genets.report import stages_table, zoo_table

    if name not in structure.zoo:
        _show_baseline(name, toml, json)
        return
    network = structure.zoo[name]
    if toml:
        typer.echo(network.to_toml(), nl=False)
        return
    row = _row(name, network)
    if json:
        print_json({**row.to_json(), "stages": [asdict(stage) for stage in network.stages]})
    else:
        print_tables(stages_table(name, network), zoo_table([row]))


def _show_baseline(name: str, toml: bool, json: bool) -> None:
    from genets.cli.output import print_json, print_tables
    from genets.core.errors import GenetsError, unknown_name
    from genets.networks.baselines import baselines
    from genets.report import baseline_tables
    from genets.structure import zoo

    if name not in baselines:
        raise GenetsError(unknown_name("network", name, (*zoo, *baselines)))
    baseline = baselines[name]
    if toml:
        raise GenetsError(f"{baseline.name} is a baseline and has no structure file")
    if json:
        print_json(baseline.to_json())
    else:
        print_tables(*baseline_tables(baseline))


def _row(name: str, structure: Structure) -> ZooRow:
    from genets.networks import count
    from genets.report import ZooRow

    counted = count(structure)
    return ZooRow(
        name, structure.resolution, counted.parameters, counted.multiply_adds, str(structure)
    )

"""`genets export`: the files of a network as an engine runs it."""

from pathlib import Path
from typing import Annotated

import typer

from genets.cli.options import BatchSize, Device, Json, Precision, Provider, Seed, Threads
from genets.core.errors import GenetsError


def export(
    network: Annotated[
        str,
        typer.Argument(help="Results folder (its weights), or any other NETWORK, untrained."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write into; made if it is not there.")],
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    data: Annotated[
        str | None,
        typer.Option(help="Data whose training images set the ranges of int8 (needed there)."),
    ] = None,
    device: Device = None,
    provider: Provider = None,
    precision: Precision = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input size in pixels.  [default: the network's own]")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write what was measured: ONNX (engine onnxruntime) or OpenVINO IR, with contract.json.

    Batch norm folded, the batch size fixed. The contract says what the input must be, how the
    network was quantised, and how the files must be loaded to run as they did. They have been
    loaded again, and give the same outputs, when this returns.

    \b
    genets export runs/demo/results --out deploy
    genets export runs/demo/results --engine openvino --precision int8 --data digits --out deploy
    """
    from genets.cli.networks import calibration_for, named_network
    from genets.cli.options import make_target

    target = make_target(
        {
            "device": device,
            "engine": engine,
            "provider": provider,
            "precision": precision,
            "batch_size": batch_size,
            "threads": threads,
        }
    )
    if target.precision == "int8" and data is None:
        raise GenetsError("precision int8 needs --data, whose training images set its ranges")
    target.check()
    # From here on with PyTorch, for which no wrong word has to wait.
    from genets.cli.output import print_json, print_tables
    from genets.latency.export import export_network
    from genets.report.evaluation.tables import export_table

    loaded = named_network(network, seed, data=data, resolution=resolution)
    contract = export_network(
        loaded.network,
        target,
        loaded.resolution,
        out,
        loaded.images(),
        calibration=calibration_for(target, loaded),
        facts={"network": loaded.name, "trained": loaded.trained, "data": data},
    )
    if json:
        print_json({"folder": str(out), **contract})
    else:
        print_tables(export_table(loaded.name, out, contract))

"""`genets export`: the files of a network for an inference engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genets.cli.options import (
    OUTPUT,
    Json,
    MaxBrokenShare,
    Resolution,
    Seed,
    TargetOptions,
    make_target,
    option,
)
from genets.core.errors import GenetsError

DEFAULT_ENGINE = "onnxruntime"


def export(
    network: Annotated[
        str,
        typer.Argument(
            help="Results folder (with its weights); or, with fresh weights, a zoo name, "
            "timm:NAME, structure file or quoted notation."
        ),
    ],
    out: Annotated[Path, option("Folder for the files; made if it is missing.", panel=OUTPUT)],
    target: Annotated[dict[str, Any], TargetOptions(engine=f"{DEFAULT_ENGINE}, or openvino")],
    data: Annotated[
        str | None,
        option(
            "Data set whose training images set the value ranges of int8.", "none; int8 needs it"
        ),
    ] = None,
    resolution: Resolution = None,
    max_broken_share: MaxBrokenShare = 0.01,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write a network as ONNX or OpenVINO IR, with contract.json.

    The files are the network as `genets measure` times it. Batch norm is folded and the batch size
    is fixed. The contract states what the input must be, how the network was quantised, and how to
    load the files so that they run as measured. Before the command ends, it loads the files and
    checks that their outputs are those of the network.

    \b
    genets export runs/demo/results --out deploy
    genets export runs/demo/results --engine openvino --precision int8 --data digits --out deploy
    """
    chosen = make_target({"engine": DEFAULT_ENGINE} | target)
    if chosen.precision == "int8" and data is None:
        raise GenetsError("precision int8 needs --data: its training images set the value ranges")
    chosen.check()
    # PyTorch is imported only after the options are checked.
    from genets.cli.networks import load_network
    from genets.cli.output import print_result
    from genets.data import check_output_folder
    from genets.latency.export import export_network
    from genets.report.evaluation.tables import export_table

    if data is not None:
        check_output_folder(data, out)
    loaded = load_network(
        network, seed, data=data, resolution=resolution, max_broken_share=max_broken_share
    )
    contract = export_network(
        loaded.source.network,
        chosen,
        loaded.resolution,
        out,
        loaded.images(),
        calibration=loaded.calibration_for(chosen),
        facts={"network": loaded.source.name, "trained": loaded.source.is_trained, "data": data},
    )
    table = export_table(loaded.source.name, out, contract)
    print_result(json, {"folder": str(out), **contract}, [table])

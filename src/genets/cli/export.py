"""`genets export`: the files of a network for an inference engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from genets.cli.options import OUTPUT, Json, MaxBrokenShare, Resolution, SplitSeed, option
from genets.cli.target_options import TargetOptions, check_int8_images, make_target
from genets.core.output_folder import check_writable_folder

if TYPE_CHECKING:
    from genets.cli.networks import NetworkWithData
    from genets.latency import Target
    from genets.latency.export import BatchDimension

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
    batch_dimension: Annotated[
        str,
        option(
            "`free` takes any number of images in one run; `fixed` is the file that genets measure "
            "times, for the batch size of the target; `both` writes the two.",
            choices=("free", "fixed", "both"),
        ),
    ] = "free",
    resolution: Resolution = None,
    max_broken_share: MaxBrokenShare = None,
    seed: SplitSeed = None,
    json: Json = False,
) -> None:
    """Write a network as ONNX or OpenVINO IR, ready for deployment.

    Batch norm is folded. contract.json states how an image file becomes the input, how the network
    was quantised, and how to load the files so that they run as measured. predict.py classifies
    image files by the contract; it needs no genets. Before the command ends, it loads the files
    and compares their outputs with those of the engine. In fp32 on a CPU, it also compares the
    outputs of the engine with those of PyTorch.

    \b
    genets export runs/demo/results --out deploy
    genets export runs/demo/results --batch-dimension both --batch-size 1 --out deploy
    genets export runs/demo/results --engine openvino --precision int8 --data digits --out deploy
    """
    chosen = make_target({"engine": DEFAULT_ENGINE} | target)
    check_int8_images(chosen, data)
    chosen.check()
    check_writable_folder(out)
    # PyTorch is imported only after the options are checked.
    from genets.cli.networks import load_network
    from genets.cli.output import print_result
    from genets.data import check_output_folder
    from genets.report.evaluation.tables import export_table

    if data is not None:
        check_output_folder(data, out)
    loaded = load_network(
        network, seed, data=data, resolution=resolution, max_broken_share=max_broken_share
    )
    contract = _write(loaded, chosen, out, cast("BatchDimension", batch_dimension), data)
    table = export_table(loaded.source.name, out, contract)
    print_result(json, {"folder": str(out), **contract}, [table])


def _write(
    loaded: NetworkWithData,
    chosen: Target,
    out: Path,
    batch_dimension: BatchDimension,
    data: str | None,
) -> dict[str, Any]:
    """Write the files of a network for a target, and return the contract.

    data: the name of the data set whose images set the value ranges of int8.
    """
    from genets.cli.output import print_remark
    from genets.latency.export import export_network

    if chosen.precision == "int8" and loaded.split_origin.remark:
        print_remark(
            f"{loaded.split_origin.remark} The images that set the value ranges of int8 may "
            "not be the training images."
        )
    return export_network(
        loaded.source.network,
        chosen,
        loaded.resolution,
        out,
        loaded.training_images(),
        batch_dimension=batch_dimension,
        calibration=loaded.calibration_for(chosen),
        facts={
            "network": loaded.source.name,
            "trained": loaded.source.is_trained,
            "data": data,
            "calibration": loaded.calibration_record(chosen),
        },
    )

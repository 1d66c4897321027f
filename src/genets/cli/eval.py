"""`genets eval`: the accuracy of a network as an engine runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genets.cli.options import (
    BatchSize,
    Device,
    Engine,
    Json,
    Precision,
    Provider,
    Seed,
    Threads,
)

if TYPE_CHECKING:
    from genets.cli.networks import Loaded
    from genets.latency import Target
    from genets.report.evaluation.record import Evaluation


def eval_(
    network: Annotated[
        str,
        typer.Argument(help="Results folder (its weights), or any other NETWORK."),
    ],
    data: Annotated[str, typer.Option(help="digits, a folder of images, or a timm name.")],
    split: Annotated[
        str, typer.Option(help="test, validation, train, or all three together.")
    ] = "test",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="File of tensors: .safetensors or .pth; also GENet_large.pth of the paper's "
            "authors."
        ),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="With published weights, fetched from timm's hub."),
    ] = False,
    device: Device = None,
    engine: Engine = None,
    provider: Provider = None,
    precision: Precision = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input size in pixels.  [default: the network's own]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for confusion pictures, CSV and JSON.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Score a network in an engine and precision, beside PyTorch in fp32 on the same images.

    top-1, top-5 and cross-entropy; by class how many images are recognised and what the others
    are taken for. int8 takes its ranges from images of the training split. --out writes all
    classes, all confusions, and a picture of them for each target.

    \b
    genets eval runs/demo/results --data digits --out runs/scores
    genets eval runs/demo/results --data digits --engine openvino --precision int8 --json
    genets eval genet_large --weights GENet_large.pth --data imagenet/ --split validation
    genets eval timm:resnet18 --pretrained --data imagenet/ --split validation
    """
    from genets.cli.networks import named_network
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
    target.check()
    loaded = named_network(
        network, seed, data=data, resolution=resolution, pretrained=pretrained, weights=weights
    )
    loaded.check_classes()
    # From here on with charts, for which no wrong word has to wait.
    from genets.cli.output import print_json, print_lines, print_tables
    from genets.report.evaluation.tables import accuracy_table, classes_table, write_evaluation

    found = _evaluation(loaded, target, split)
    files = write_evaluation(found, out) if out else {}
    if json:
        print_json(found.to_json())
    else:
        print_tables(accuracy_table(found), classes_table(found))
        print_lines(f"{name}: {path}" for name, path in files.items())


def _evaluation(loaded: Loaded, target: Target, split: str) -> Evaluation:
    """On `target`, and on torch in fp32."""
    from dataclasses import replace

    from genets.cli.networks import calibration_for
    from genets.latency.evaluation import measure_accuracy
    from genets.report.evaluation.record import Evaluation

    data, images = loaded.data, loaded.split(split)
    assert data is not None
    mean, std = loaded.normalisation or (data.mean, data.std)
    reference = replace(target, engine="torch", precision="fp32", provider=None)
    accuracy = {
        one: measure_accuracy(
            loaded.network,
            one,
            loaded.resolution,
            images,
            calibration=calibration_for(one, loaded),
        )
        for one in dict.fromkeys((target.resolved(), reference.resolved()))
    }
    return Evaluation(
        loaded.name, loaded.weights, data.name, split, data.class_names, loaded.resolution,
        tuple(mean), tuple(std), accuracy,
    )  # fmt: skip

"""`genets eval`: the accuracy of a network in an inference engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genets.cli.options import OUTPUT, Json, MaxBrokenShare, SplitSeed, WeightsResolution, option
from genets.cli.target_options import TargetOptions, make_target
from genets.core.output_folder import check_writable_file, check_writable_folder

if TYPE_CHECKING:
    from genets.cli.networks import NetworkWithData
    from genets.data.split import NamedSplit
    from genets.latency import Target
    from genets.latency.evaluation import Evaluation


def eval_(
    network: Annotated[
        str,
        typer.Argument(
            help="Results folder (with its weights), zoo name, timm:NAME, structure file or quoted "
            "notation."
        ),
    ],
    data: Annotated[
        str, option("Data set: digits, a folder of images, or timm's name of a data set.")
    ],
    target: Annotated[dict[str, Any], TargetOptions()],
    split: Annotated[
        str,
        option(
            "Images to score; `all` is the three splits together.",
            choices=("test", "validation", "train", "all"),
        ),
    ] = "test",
    weights: Annotated[
        Path | None,
        option(
            "File of weights, .safetensors or .pth; also GENet_large.pth of the paper's authors.",
            "fresh weights, or those of the results folder",
        ),
    ] = None,
    pretrained: Annotated[
        bool, option("Use published weights, fetched from timm's hub.", name="--pretrained")
    ] = False,
    resolution: WeightsResolution = None,
    max_broken_share: MaxBrokenShare = None,
    out: Annotated[
        Path | None, option("Folder for confusion pictures, CSV and JSON.", "none", OUTPUT)
    ] = None,
    predictions: Annotated[
        Path | None,
        option("CSV file for the predicted class and probability of each image.", "none", OUTPUT),
    ] = None,
    seed: SplitSeed = None,
    json: Json = False,
) -> None:
    """Score a network in an engine and precision, beside PyTorch in fp32.

    Both engines score the same images. The images are prepared and split as in the training of the
    network. Shows top-1, top-5 and cross-entropy, and for each class the share of correct images
    and the most frequent confusions. With int8, images of the training split set the value ranges.
    --out writes all classes, all confusions, and a picture of the confusions for each target.

    \b
    genets eval runs/demo/results --data digits --out runs/scores
    genets eval runs/demo/results --data digits --predictions predictions.csv
    genets eval runs/demo/results --data digits --engine openvino --precision int8 --json
    genets eval genet_large --weights GENet_large.pth --data imagenet/ --split validation
    genets eval timm:resnet18 --pretrained --data imagenet/ --split validation
    """
    chosen = make_target(target)
    chosen.check()
    if predictions is not None:
        check_writable_file(predictions)
    if out is not None:
        check_writable_folder(out)
    # PyTorch is imported only after the options are checked.
    from genets.cli.networks import load_network
    from genets.data import check_output_folder

    if out is not None:
        check_output_folder(data, out)
    loaded = load_network(
        network,
        seed,
        data=data,
        resolution=resolution,
        pretrained=pretrained,
        weights=weights,
        splits=(split, "train") if chosen.precision == "int8" else (split,),
        max_broken_share=max_broken_share,
    )
    assert loaded.data is not None
    loaded.source.check_classes(loaded.data.class_names, loaded.data.name)
    # The charts are imported only after the network is loaded.
    from genets.cli.output import print_remark, write_and_print
    from genets.report.evaluation.tables import (
        accuracy_table,
        classes_table,
        write_evaluation,
        write_predictions,
    )

    origin = loaded.split_origin
    if origin.remark and (split != "test" or origin.has_changed or chosen.precision == "int8"):
        print_remark(
            f"{origin.remark} The network may have been trained on some of the scored images, so "
            "the scores may be too high."
        )
    images = loaded.split(split)
    evaluation = _evaluate(loaded, chosen, split, images)

    def write() -> dict[str, Path]:
        files = write_evaluation(evaluation, out) if out else {}
        if predictions is not None:
            write_predictions(evaluation, images.names(), predictions)
            files |= {"predictions": predictions}
        return files

    tables = accuracy_table(evaluation), classes_table(evaluation)
    write_and_print(write, json, evaluation.to_json(), tables)


def _evaluate(
    loaded: NetworkWithData, target: Target, split: str, images: NamedSplit
) -> Evaluation:
    """Score the network on `target` and on PyTorch in fp32."""
    from dataclasses import replace

    from genets.data.scoring import describe_input
    from genets.latency.evaluation import Evaluation, measure_accuracy

    source, data, preprocessing = loaded.source, loaded.data, loaded.preprocessing
    assert data is not None
    assert preprocessing is not None
    reference = replace(target, engine="torch", precision="fp32", provider=None)
    accuracy = {
        each: measure_accuracy(
            source.network,
            each,
            loaded.resolution,
            images,
            calibration=loaded.calibration_for(each),
        )
        for each in dict.fromkeys((target.resolved(), reference.resolved()))
    }
    return Evaluation(
        source.name, source.weights, data.name, split, data.class_names, loaded.resolution,
        preprocessing.mean, preprocessing.std, accuracy,
        preprocessing=describe_input(preprocessing, loaded.resolution),
        split_from=loaded.split_origin.source,
        calibration=loaded.calibration_record(target),
    )  # fmt: skip

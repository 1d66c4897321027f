"""`genets predict`: the classes of image files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genets.cli.options import OUTPUT, Json, option
from genets.cli.target_options import TargetOptions, check_int8_images, make_target
from genets.core.errors import GenetsError

if TYPE_CHECKING:
    from genets.cli.networks import NetworkWithData
    from genets.latency import Target
    from genets.latency.classification import ClassifiedImage

MAX_BATCH_SIZE = 64


def predict(
    results: Annotated[str, typer.Argument(help="Results folder of a search or a training run.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of images.")],
    target: Annotated[
        dict[str, Any],
        TargetOptions(batch_size=f"the number of images, at most {MAX_BATCH_SIZE}"),
    ],
    top: Annotated[int, option("Number of classes for each image.", min=1)] = 3,
    data: Annotated[
        str | None,
        option(
            "Data set whose training images set the value ranges of int8.", "none; int8 needs it"
        ),
    ] = None,
    csv: Annotated[
        bool, option("Print CSV, a line for each image, and nothing else.", None, OUTPUT)
    ] = False,
    json: Json = False,
) -> None:
    """Classify image files with a trained network, in any engine.

    The images are prepared as in the training of the network. Shows the best classes of each image
    with their probabilities. An image that cannot be read is named on standard error and left out.

    \b
    genets predict runs/photos/results cat.jpg holidays/
    genets predict runs/photos/results holidays/ --csv > holidays.csv
    genets predict runs/photos/results cat.jpg --engine onnxruntime --top 5 --json
    """
    chosen = make_target(target)
    if csv and json:
        raise GenetsError("take --csv or --json, not both")
    check_int8_images(chosen, data)
    chosen.check()
    # PyTorch is imported only after the options are checked.
    from genets.cli.networks import load_network
    from genets.cli.output import print_lines, print_remark, print_result
    from genets.data.given_images import find_images
    from genets.report.evaluation.predictions import (
        predictions_csv,
        predictions_record,
        predictions_table,
    )

    files = find_images(images, print_remark)
    loaded = load_network(results, None, data=data)
    if "batch_size" not in target:
        chosen = replace(chosen, batch_size=min(len(files), MAX_BATCH_SIZE))
    predicted, unreadable = _classify(loaded, results, files, chosen, top)
    source = loaded.source
    assert source.num_classes is not None
    names = source.class_names or [str(number) for number in range(source.num_classes)]
    if csv:
        print_lines([predictions_csv(predicted, names).rstrip("\n")])
        return
    record = {
        "network": source.name,
        "target": chosen.resolved().to_json(),
        "resolution": loaded.resolution,
        **predictions_record(predicted, names, unreadable),
    }
    title = f"{source.name} on {chosen.name}"
    print_result(json, record, [predictions_table(title, predicted, names)])


def _classify(
    loaded: NetworkWithData, results: str, files: list[str], chosen: Target, top: int
) -> tuple[list[ClassifiedImage], Mapping[str, str]]:
    """Classify image files, and name those that cannot be read.

    Args:
        loaded: The network.
        results: Its name, for errors.
        files: The image files.
        chosen: The target that runs the network.
        top: The number of classes for each image.

    Returns:
        The classified images, and the reason for each unreadable file.

    Raises:
        GenetsError: The network is not trained, or none of the images can be read.
    """
    from genets.cli.output import print_remark
    from genets.data.given_images import GivenImages
    from genets.latency.classification import classify

    preprocessing = loaded.preprocessing
    if not loaded.source.is_trained:
        raise GenetsError(f"{results} has fresh weights; genets predict takes a results folder")
    if preprocessing is None:
        raise GenetsError(
            f"the weights in {results} do not state how an image becomes an input; train the "
            "network with genets train, which stores this"
        )
    given = GivenImages(files, preprocessing, loaded.resolution)
    predicted = classify(
        loaded.source.network,
        chosen,
        loaded.resolution,
        given.batches(chosen.batch_size),
        top=top,
        calibration=loaded.calibration_for(chosen),
    )
    for file, reason in given.unreadable.items():
        print_remark(f"image {file} cannot be read ({reason}) and is left out")
    if not predicted:
        raise GenetsError("none of the images can be read")
    return predicted, given.unreadable

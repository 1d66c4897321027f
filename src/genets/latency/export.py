"""Export: the files of a network for an engine, the contract for their use, and a script.

contract.json    everything that a program needs to use the files
predict.py       classifies image files by the contract, without genets
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from genets.core.errors import TargetError, first_line
from genets.core.files import write_atomic
from genets.core.image_facts import Preprocessing
from genets.core.json_files import write_json
from genets.core.output_folder import make_folder
from genets.data.scoring import DEFAULT, describe_input
from genets.latency.engines import ENGINES, Prepared
from genets.latency.engines.base import MODEL_NAME, normal_images, predict_in_batches
from genets.latency.engines.converted import ConvertedEngine
from genets.latency.environment import describe_environment
from genets.latency.target import Target
from genets.networks.onnx_export import INPUT, OUTPUT

if TYPE_CHECKING:
    from torch import nn

CONTRACT_FILE, SCRIPT_FILE = "contract.json", "predict.py"
SCRIPT = Path(__file__).with_name("exported_script.py")
# Relative to the logits. The loaded files run in the same engine, and torch and an engine sum fp32
# in another order, so a larger difference is more than rounding.
TOLERANCE = 1e-3
BatchDimension = Literal["free", "fixed", "both"]


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images that a network was trained for; a value that is not known is None.

    Attributes:
        preprocessing: How an image becomes an input.
        class_names: In the order of the outputs.
    """

    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None


def export_network(
    network: nn.Module,
    target: Target,
    resolution: int,
    folder: Path,
    images: TrainingImages,
    *,
    batch_dimension: BatchDimension = "free",
    calibration: Tensor | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the engine's files, `contract.json` and `predict.py`; load the files and compare.

    The loaded files are compared with the network as the engine runs it. In fp32 on a CPU, this
    network is also compared with torch. Other precisions and devices round more, and so give other
    logits.

    Args:
        network: Any network; it is not changed.
        target: The target; its engine must be `onnxruntime` or `openvino`.
        resolution: Pixels along one side of the input.
        folder: Receives the files; it is created.
        images: The images that the network was trained for.
        batch_dimension: "free" writes files that take any number of images. "fixed" writes the
            files that `genets measure` times, for the target's batch size. "both" writes the
            free files, and the fixed ones under another name.
        calibration: Images of shape (N, channels, resolution, resolution); required for int8.
        facts: Further entries of the contract.

    Returns:
        The contract, with the names of the files.

    Raises:
        TargetError: The engine writes no files, there are no calibration images for int8, the
            folder cannot be written, or the engine or the loaded files give other outputs; see
            also `measure`.
    """
    engine = ENGINES[target.engine]
    if not isinstance(engine, ConvertedEngine):
        raise TargetError(f"engine {target.engine} writes no files; onnxruntime and openvino do")
    if target.precision == "int8" and calibration is None:
        raise TargetError("an export in precision int8 needs calibration images")
    with engine.open(target):
        prepared = engine.prepare(
            network, target, resolution, calibration, free_batch=batch_dimension != "fixed"
        )
        _check_conversion(network, prepared, target)
        written = _write(prepared, folder, MODEL_NAME)
        if batch_dimension != "fixed":
            _check_free_batch(prepared, folder)
        measured = None
        if batch_dimension == "both":
            fixed = engine.prepare(network, target, resolution, calibration)
            _check_conversion(network, fixed, target)
            measured = _write(fixed, folder, f"{MODEL_NAME}-batch{target.batch_size}")
            measured["batch_size"] = target.batch_size
    assert prepared.files is not None
    _, *image_shape = prepared.input_shape
    contract = {
        **(facts or {}),
        "target": target.resolved().to_json(),
        "settings": prepared.files.settings,
        **describe_model(
            images,
            (target.batch_size if batch_dimension == "fixed" else "N", *image_shape),
            prepared.files.dtype,
        ),
        "quantisation": prepared.quantisation,
        "batch_dimension": "fixed" if batch_dimension == "fixed" else "free",
        **written,
        "measured": measured,
        "environment": describe_environment(target),
    }
    write_contract(folder, contract)
    return contract


def describe_model(
    images: TrainingImages, shape: Sequence[int | str], dtype: str = "float32"
) -> dict[str, Any]:
    """Describe the input, the output and the classes of exported files, for a contract.

    Args:
        images: The images that the network was trained for.
        shape: Of the input; "N" stands for any number of images.
        dtype: The type of the input.
    """
    steps = describe_input(images.preprocessing or DEFAULT, int(shape[-1]))
    if images.preprocessing is None:
        steps |= dict.fromkeys(("resize", "crop", "mean", "std"))
    return {
        "input": {"name": INPUT, "layout": "NCHW", "shape": list(shape), "dtype": dtype, **steps},
        "output": {
            "name": OUTPUT,
            "meaning": "logits, one row for each image; softmax gives probabilities",
        },
        "class_names": images.class_names,
    }


def write_contract(folder: Path, contract: Mapping[str, Any]) -> None:
    """Write `contract.json` and `predict.py`. Raises TargetError if the folder is not writable."""
    try:
        write_atomic(folder / SCRIPT_FILE, SCRIPT.read_bytes())
        write_json(folder / CONTRACT_FILE, contract)
    except OSError as error:
        raise TargetError(f"cannot write into {str(folder)!r}: {error.strerror}") from error


def _write(prepared: Prepared, folder: Path, name: str) -> dict[str, Any]:
    """Write the files of a prepared network, load them, and return their part of the contract."""
    try:
        make_folder(folder)
        paths = prepared.save(folder, name)
    except OSError as error:
        raise TargetError(f"cannot write into {str(folder)!r}: {error.strerror}") from error
    return {
        "files": [path.name for path in paths],
        "largest_difference_when_loaded_again": _largest_difference(prepared, folder, name),
    }


def _check_conversion(network: nn.Module, prepared: Prepared, target: Target) -> None:
    """Raise TargetError unless the engine's network gives the logits of torch; fp32 on a CPU."""
    if target.precision != "fp32" or target.device != "cpu":
        return
    images = normal_images(prepared.input_shape)
    with torch.inference_mode():
        expected = copy.deepcopy(network).cpu().float().eval()(images)
    difference = float((prepared.predict(images) - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(torch.nan_to_num(expected).abs().max())):
        raise TargetError(
            f"the network that {target.engine} made gives logits that differ by {difference:.3g} "
            "from those of torch"
        )


def _check_free_batch(prepared: Prepared, folder: Path) -> None:
    """Raise TargetError unless the written files take another number of images, too."""
    assert prepared.files is not None
    count = 2 if prepared.input_shape[0] == 1 else 1
    images = normal_images((count, *prepared.input_shape[1:]))
    try:
        logits = prepared.files.load(folder)(images)
        fault = f"{len(logits)} outputs for {count} images" if len(logits) != count else ""
    except RuntimeError as error:
        fault = first_line(error)
    if fault:
        raise TargetError(
            f"this network cannot be exported for any number of images ({fault}); "
            "--batch-dimension fixed exports it for the batch size of the target"
        )


def _largest_difference(prepared: Prepared, folder: Path, name: str) -> float:
    """The largest difference between the logits of the prepared network and of its files."""
    assert prepared.files is not None
    images = normal_images(prepared.input_shape)
    expected = prepared.predict(images)
    actual = predict_in_batches(prepared.files.load(folder, name), prepared.input_shape, images)
    difference = float((actual - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(torch.nan_to_num(expected).abs().max())):
        raise TargetError(
            f"the files in {str(folder)!r} give logits that differ by {difference:.3g} from the "
            "exported network"
        )
    return difference

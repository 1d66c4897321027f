"""Export: the files of a network exactly as it is measured, and the contract for their use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genets.core.errors import TargetError
from genets.core.files import write_atomic
from genets.latency.engines import ENGINES, Prepared
from genets.latency.engines.base import normal_images, predict_in_batches
from genets.latency.environment import describe_environment
from genets.latency.target import Target
from genets.networks.onnx_export import INPUT, OUTPUT

if TYPE_CHECKING:
    from torch import nn

CONTRACT_FILE = "contract.json"
# The loaded files run in the same engine, so a larger difference is more than rounding.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Images:
    """The images that a network was trained for; a value that is not known is None.

    Attributes:
        mean: Mean of the pixel values, which are 0 to 1, for R, G, B.
        std: Standard deviation of the pixel values for R, G, B.
        class_names: In the order of the outputs.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None


def export_network(
    network: nn.Module,
    target: Target,
    resolution: int,
    folder: Path,
    images: Images,
    *,
    calibration: Tensor | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the engine's files and `contract.json`, load the files, and compare the outputs.

    Args:
        network: Any network; it is not changed.
        target: The target; its engine must be `onnxruntime` or `openvino`.
        resolution: Pixels along one side of the input.
        folder: Receives the files; it is created.
        images: The images that the network was trained for.
        calibration: Images of shape (N, channels, resolution, resolution); required for int8.
        facts: Further entries of the contract.

    Returns:
        The contract, with the names of the files.

    Raises:
        TargetError: The engine writes no files, there are no calibration images for int8, the
            folder cannot be written, or the loaded files give other outputs; see also `measure`.
    """
    if target.precision == "int8" and calibration is None:
        raise TargetError("an export in precision int8 needs calibration images")
    engine = ENGINES[target.engine]
    with engine.open(target):
        prepared = engine.prepare(network, target, resolution, calibration)
        if prepared.files is None:
            raise TargetError(
                f"engine {target.engine} writes no files; onnxruntime and openvino do"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            paths = prepared.save(folder)
        except OSError as error:
            raise TargetError(f"cannot write into {str(folder)!r}: {error.strerror}") from error
        contract = {
            **(facts or {}),
            **_make_contract(prepared, target, images),
            "files": [path.name for path in paths],
            "largest_difference_when_loaded_again": _largest_difference(prepared, folder),
            "environment": describe_environment(target),
        }
    write_atomic(folder / CONTRACT_FILE, json.dumps(contract, indent=2) + "\n")
    return contract


def _make_contract(prepared: Prepared, target: Target, images: Images) -> dict[str, Any]:
    assert prepared.files is not None
    return {
        "target": target.resolved().to_json(),
        "settings": prepared.files.settings,
        "input": {
            "name": INPUT,
            "layout": "NCHW",
            "shape": list(prepared.input_shape),
            "dtype": prepared.files.dtype,
            "colours": "RGB",
            "values": "(pixel / 255 - mean) / std",
            "mean": images.mean,
            "std": images.std,
        },
        "output": {"name": OUTPUT, "meaning": "logits, one row for each image"},
        "class_names": images.class_names,
        "quantisation": prepared.quantisation,
    }


def _largest_difference(prepared: Prepared, folder: Path) -> float:
    """The largest difference between the logits of the prepared network and of its files."""
    assert prepared.files is not None
    images = normal_images(prepared.input_shape)
    expected = prepared.predict(images)
    actual = predict_in_batches(prepared.files.load(folder), prepared.input_shape, images)
    difference = float((actual - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(torch.nan_to_num(expected).abs().max())):
        raise TargetError(
            f"the files in {str(folder)!r} give logits that differ by {difference:.3g} from the "
            "exported network"
        )
    return difference

"""The export of a network to a results folder, for the people who deploy it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import GenetsError
from genets.core.files import write_atomic
from genets.core.log import get_logger
from genets.data import ImageData
from genets.latency.export import (
    CONTRACT_FILE,
    SCRIPT_FILE,
    TrainingImages,
    describe_model,
    write_contract,
)
from genets.networks import export_onnx, save_weights
from genets.networks.own_blocks import find_block_files
from genets.networks.weights import STRUCTURE_FILE, WEIGHTS_FILE
from genets.structure import Structure

if TYPE_CHECKING:
    from torch import nn

ONNX_FILE = "network.onnx"
# The exported files, by the name that results and `--json` give them.
EXPORTED = {
    "structure": STRUCTURE_FILE,
    "weights": WEIGHTS_FILE,
    "onnx": ONNX_FILE,
    "contract": CONTRACT_FILE,
    "script": SCRIPT_FILE,
}

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OnnxCheck:
    """The outcome of the ONNX export.

    Attributes:
        largest_difference: Between the logits of ONNX Runtime and of torch, on random images; None
            where no ONNX file was written.
        failure: Why no ONNX file was written; empty where it was.
    """

    largest_difference: float | None
    failure: str = ""

    @property
    def unwritten(self) -> tuple[str, ...]:
        """The names in `EXPORTED` of the files that were not written."""
        return ("onnx", "contract", "script") if self.failure else ()


def export_network(
    net: nn.Module, structure: Structure, data: ImageData, folder: Path
) -> OnnxCheck:
    """Write the structure, the weights, the files of own block types, and an ONNX file.

    The ONNX file takes any number of images. A contract and a script for its use are written
    beside it; see `genets.latency.export`. A network that cannot be exported to ONNX keeps its
    other files.

    Args:
        net: The trained network.
        structure: Its structure.
        data: The training images of the network; they give class names and preprocessing.
        folder: The results folder, which `genets.load` reads.

    Returns:
        The outcome of the ONNX export.

    Raises:
        GenetsError: A file cannot be written.
    """
    write_network(net, structure, data, folder)
    for name in (CONTRACT_FILE, SCRIPT_FILE, ONNX_FILE):  # of an earlier winner of this study
        (folder / name).unlink(missing_ok=True)
    try:
        difference = export_onnx(net, folder / ONNX_FILE, structure.resolution)
    except GenetsError as error:
        _log.warning("no ONNX file: %s", error)
        return OnnxCheck(None, str(error))
    images = TrainingImages(data.preprocessing, data.class_names)
    contract = {
        "network": str(structure),
        "trained": True,
        "data": data.name,
        "target": None,
        "settings": {"providers": ["CPUExecutionProvider"], "options": {}, "session": {}},
        **describe_model(images, ("N", 3, structure.resolution, structure.resolution)),
        "quantisation": None,
        "batch_dimension": "free",
        "files": [ONNX_FILE],
        "largest_difference_from_torch": difference,
        "measured": None,
    }
    write_contract(folder, contract)
    return OnnxCheck(difference)


def write_network(net: nn.Module, structure: Structure, data: ImageData, folder: Path) -> None:
    """Write the files that `genets.load` reads; see `export_network`."""
    write_atomic(folder / STRUCTURE_FILE, structure.to_toml())
    for file in find_block_files(stage.type for stage in structure.stages):
        file.copy_to(folder)
    metadata = {"structure": str(structure), **data.weights_metadata()}
    save_weights(net, folder / WEIGHTS_FILE, metadata)

"""The export of a network to a results folder, for the people who deploy it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.files import write_atomic
from genets.data import ImageData
from genets.networks import export_onnx, save_weights
from genets.networks.own_blocks import find_block_files
from genets.networks.weights import STRUCTURE_FILE, WEIGHTS_FILE
from genets.structure import Structure

if TYPE_CHECKING:
    from torch import nn

ONNX_FILE = "network.onnx"
# The exported files, by the name that results and `--json` give them.
EXPORTED = {"structure": STRUCTURE_FILE, "weights": WEIGHTS_FILE, "onnx": ONNX_FILE}


def export_network(net: nn.Module, structure: Structure, data: ImageData, folder: Path) -> float:
    """Write the structure, the weights, the ONNX file and the files of own block types.

    Args:
        net: The trained network.
        structure: Its structure.
        data: The training images of the network; they give class names and normalisation.
        folder: The results folder, which `genets.load` reads.

    Returns:
        The largest difference between the logits of ONNX Runtime and of torch, on random images.

    Raises:
        GenetsError: A file cannot be written, or the ONNX file gives other logits.
    """
    write_atomic(folder / STRUCTURE_FILE, structure.to_toml())
    for file in find_block_files(stage.type for stage in structure.stages):
        file.copy_to(folder)
    metadata = {
        "structure": str(structure),
        "num_classes": str(data.num_classes),
        "class_names": json.dumps(data.class_names),
        "mean": json.dumps(data.mean),
        "std": json.dumps(data.std),
    }
    save_weights(net, folder / WEIGHTS_FILE, metadata)
    return export_onnx(net, folder / ONNX_FILE, structure.resolution)

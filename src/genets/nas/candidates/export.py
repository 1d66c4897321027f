"""The hand-over: what a search leaves in `results/` for whoever deploys the network."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from genets.core.files import write_atomic
from genets.data import ImageData
from genets.nas.study.records import SearchResult
from genets.networks import export_onnx, save_weights
from genets.networks.own_blocks import find_block_files
from genets.networks.weights import STRUCTURE_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from torch import nn

ONNX_FILE = "network.onnx"
RESULT_FILE = "result.json"


def hand_over(result: SearchResult, net: nn.Module, data: ImageData) -> SearchResult:
    """Write structure, weights, ONNX file and, last, `result.json`; gives their paths.

    The ONNX file has been run by ONNX Runtime beside torch when this returns.
    Raises GenetsError.
    """
    folder, structure = result.results, result.selected.structure
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
    difference = export_onnx(net, folder / ONNX_FILE, structure.resolution)
    names = {
        "structure": STRUCTURE_FILE,
        "weights": WEIGHTS_FILE,
        "onnx": ONNX_FILE,
        "result": RESULT_FILE,
    }
    result = replace(result, files={what: folder / name for what, name in names.items()})
    record = result.to_json() | {"input": data.input_contract(structure.resolution)}
    record["onnx_largest_difference"] = difference
    write_atomic(folder / RESULT_FILE, json.dumps(record, indent=2) + "\n")
    return result

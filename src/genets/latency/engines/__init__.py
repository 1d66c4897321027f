"""Inference engines: how a network is prepared for a target, run and timed.

A new engine is a new file in this folder, a line in ENGINES, and a line in
`genets.latency.target.ENGINE_PROVIDERS`. These files import `Target` for type checking only,
because `Target.check` imports them.
"""

from __future__ import annotations

from genets.latency.engines.base import DeviceClock, Engine, ModelFiles, Prepared, Run
from genets.latency.engines.onnxruntime_engine import OnnxRuntimeEngine
from genets.latency.engines.openvino_engine import OpenVinoEngine
from genets.latency.engines.torch_compile import TorchCompileEngine
from genets.latency.engines.torch_engine import TorchEngine
from genets.latency.engines.torch_graph import TorchGraphEngine

ENGINES: dict[str, Engine] = {
    "torch": TorchEngine(),
    "torch-graph": TorchGraphEngine(),
    "torch-compile": TorchCompileEngine(),
    "onnxruntime": OnnxRuntimeEngine(),
    "openvino": OpenVinoEngine(),
}

__all__ = ["ENGINES", "DeviceClock", "Engine", "ModelFiles", "Prepared", "Run"]

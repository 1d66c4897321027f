"""Export to ONNX, checked by running it.

Why a network cannot be converted: the operator, or the module, and one line of reason.

Silence: converters and quantisers report their progress on our standard output.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from genets.core.errors import GenetsError
from genets.core.files import write_atomic
from genets.networks.count import input_channels
from genets.networks.fuse import fold_batchnorm

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT = "images"
OUTPUT = "logits"
# The exported graph sums in another order than torch: float32 noise, relative to the logits.
TOLERANCE = 1e-3
_TRANSLATIONS = "torch.onnx._internal.exporter._registration"


def export_onnx(
    net: nn.Module, path: str | Path, resolution: int, *, batch_size: int | None = None
) -> float:
    """Write `net` as one ONNX file and return its largest absolute difference from torch.

    The graph maps `images` (N, C, resolution, resolution) float32 to `logits` (N, classes),
    batch norm folded; N is free unless `batch_size` fixes it. Before the file appears at
    `path`, ONNX Runtime runs it on random images beside the caller's network, which is
    untouched. Raises GenetsError: the `onnx` extra is not installed, the network cannot be
    exported, its outputs differ, or the file cannot be written.
    """
    check_export_installed()
    path = Path(path)
    if not path.parent.is_dir():
        raise GenetsError(f"cannot write ONNX file {str(path)!r}: its folder does not exist")
    batch = batch_size or 2  # 1 would be taken for a constant
    shape = (batch, input_channels(net), resolution, resolution)
    folded = fold_batchnorm(net).cpu().float()
    content = to_onnx(folded, torch.zeros(shape), free_batch=batch_size is None)
    difference = _difference(net, content, shape)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise GenetsError(f"cannot write ONNX file {str(path)!r}: {error.strerror}") from error
    return difference


def check_export_installed() -> None:
    """Raise GenetsError unless the packages that export needs are there."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise GenetsError(
            f"ONNX export needs the package {', '.join(missing)}; install genets[onnx]"
        )


def to_onnx(net: nn.Module, images: torch.Tensor, *, free_batch: bool = False) -> bytes:
    """The ONNX file of `net`, as it is, for inputs of the shape and type of `images`.

    free_batch: leave the number of images open. Raises GenetsError, with the operator named.
    """
    shapes = ({0: torch.export.Dim("batch")},) if free_batch else None
    with tempfile.TemporaryDirectory(prefix="genets-onnx-") as folder:
        path = Path(folder) / "network.onnx"
        try:
            with quiet(), _operators_read_once():
                torch.onnx.export(
                    net, (images,), path, dynamo=True, verbose=False, external_data=False,
                    input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=shapes,
                )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise GenetsError(
                f"torch cannot export this network to ONNX: {what_failed(error)}"
            ) from error
        return path.read_bytes()


@contextmanager
def _operators_read_once() -> Iterator[None]:
    """torch parses the source of its 500 translations at every export, half of its time.

    A latency table exports hundreds of small networks. Where torch's inside is not what it was,
    nothing is done.
    """
    try:
        apis: Any = import_module(_TRANSLATIONS).onnxscript_apis
        read = apis.get_torchlib_ops
    except (ImportError, AttributeError):
        yield
        return
    apis.get_torchlib_ops = lambda: _read_once(read)
    try:
        yield
    finally:
        apis.get_torchlib_ops = read


@functools.cache
def _read_once(read: Callable[[], Any]) -> Any:
    return read()


def _difference(net: nn.Module, content: bytes, shape: tuple[int, ...]) -> float:
    """Largest difference between ONNX Runtime and the network itself, over random images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = copy.deepcopy(net).cpu().float().eval()(images).numpy()
    (received,) = session.run([OUTPUT], {INPUT: images.numpy()})
    difference = float(np.abs(received - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise GenetsError(
            f"the exported ONNX network differs from torch by {difference:.3g} in its logits"
        )
    return difference


# As torch's exporters and OpenVINO's converter write them, with and without the overload.
_NO_TRANSLATION = re.compile(
    r"(?:No ONNX function found for <OpOverload\(op='|No conversion rule found for operations: "
    r"|Unsupported FX nodes: \{'call_function': \[')([\w.]+)"
)


def what_failed(error: BaseException) -> str:
    """`operator NAME`, or `module NAME: reason`, or the reason alone; always one line."""
    chain = list(_causes(error))
    for cause in chain:
        found = _NO_TRANSLATION.search(str(cause))
        if found:
            return f"operator {found[1]} is not supported"
    reason = next((line for cause in reversed(chain) if (line := _first_line(cause))), "")
    module = next((name for cause in reversed(chain) if (name := _module(cause))), None)
    return f"module {module}: {reason}" if module else reason


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _module(error: BaseException) -> str | None:
    """The class of the innermost module, other than torch's own, whose code was running."""
    trace: TracebackType | None = error.__traceback__
    name = None
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and not type(owner).__module__.startswith("torch."):
            name = type(owner).__name__
        trace = trace.tb_next
    return name


@contextmanager
def quiet() -> Iterator[None]:
    """No prints, warnings or logs below errors from what runs inside; exceptions pass."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)

"""Export to ONNX, checked by running the file; the reason where a conversion fails."""

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

from genets.core.errors import GenetsError, first_line, install_hint
from genets.core.files import write_atomic
from genets.networks.count import input_channels
from genets.networks.fuse import fold_batchnorm

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT = "images"
OUTPUT = "logits"
# The largest accepted difference, relative to the logits. The exported graph sums in another order
# than torch, which gives float32 noise.
TOLERANCE = 1e-3


def export_onnx(
    net: nn.Module, path: str | Path, resolution: int, *, batch_size: int | None = None
) -> float:
    """Export a network to one ONNX file.

    The graph maps `images` (N, C, resolution, resolution), float32, to `logits` (N, classes), with
    batch norm folded. Before the file is written, ONNX Runtime runs it on random images, and its
    outputs are compared with those of the network.

    Args:
        net: The network, which is not changed.
        path: The file to write; its folder must exist.
        resolution: Pixels along one side of the images.
        batch_size: The number of images N; None leaves it free.

    Returns:
        The largest absolute difference between the logits of the file and of the network.

    Raises:
        GenetsError: A package for ONNX is not installed, the network cannot be exported, its
            outputs differ, or the file cannot be written.
    """
    check_export_installed()
    path = Path(path)
    if not path.parent.is_dir():
        raise GenetsError(f"cannot write ONNX file {str(path)!r}: its folder does not exist")
    shape = (batch_size or 2, input_channels(net), resolution, resolution)
    folded = fold_batchnorm(net).cpu().float()
    content = to_onnx(folded, torch.zeros(shape), free_batch=batch_size is None)
    difference = _difference(net, content, shape)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise GenetsError(f"cannot write ONNX file {str(path)!r}: {error.strerror}") from error
    return difference


def check_export_installed() -> None:
    """Raise GenetsError unless the packages that the export needs are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise GenetsError(f"ONNX export needs the package {', '.join(missing)}; {install_hint()}")


def to_onnx(net: nn.Module, images: torch.Tensor, *, free_batch: bool = False) -> bytes:
    """Convert a network to the content of an ONNX file, without folding anything.

    Args:
        net: The network.
        images: An input of the right shape and type.
        free_batch: Whether the number of images is left open.

    Raises:
        GenetsError: The network cannot be converted; the message names the operator.
    """
    images, shapes = example_input(images, free_batch=free_batch)
    with tempfile.TemporaryDirectory(prefix="genets-onnx-") as folder:
        path = Path(folder) / "network.onnx"
        try:
            with quiet(), _translations_cached():
                torch.onnx.export(
                    net, (images,), path, dynamo=True, verbose=False, external_data=False,
                    input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=shapes,
                )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise GenetsError(
                f"torch cannot export this network to ONNX: {describe_failure(error)}"
            ) from error
        return _without_sources(path.read_bytes())


def example_input(images: torch.Tensor, *, free_batch: bool) -> tuple[torch.Tensor, Any]:
    """The input that torch.export runs, and the dimensions that it leaves open.

    Args:
        images: An input of the right shape and type.
        free_batch: Whether the number of images is left open.
    """
    if not free_batch:
        return images, None
    if len(images) == 1:
        images = torch.cat([images, images])  # torch would take the number 1 for a constant
    return images, ({0: torch.export.Dim("batch")},)


def _without_sources(content: bytes) -> bytes:
    """Remove the notes on each operator: torch writes paths and lines of this machine's code."""
    import onnx

    def clear(message: Any) -> None:
        for part, value in message.ListFields():
            if part.name in ("metadata_props", "doc_string"):
                message.ClearField(part.name)
            elif part.message_type is not None:
                for each in [value] if hasattr(value, "ListFields") else value:
                    clear(each)

    model = onnx.load_from_string(content)
    clear(model)
    return bytes(model.SerializeToString())


# PRIVATE PART OF TORCH. At every export torch parses the source of its 500 operator translations,
# which takes half of the time of an export, and a latency table exports hundreds of small networks.
# So `get_torchlib_ops`, which parses them, is replaced by a cached version during an export. torch
# 2.15 finds it at the name below; a torch without this module or function exports correctly, but
# takes twice as long. A later torch that changes the returned translations in place would need a
# fresh list for every export: remove the cache then.
_TRANSLATIONS = "torch.onnx._internal.exporter._registration"


@contextmanager
def _translations_cached() -> Iterator[None]:
    try:
        apis: Any = import_module(_TRANSLATIONS).onnxscript_apis
        parse = apis.get_torchlib_ops
    except (ImportError, AttributeError):
        yield
        return
    apis.get_torchlib_ops = lambda: _cached(parse)
    try:
        yield
    finally:
        apis.get_torchlib_ops = parse


@functools.cache
def _cached(parse: Callable[[], Any]) -> Any:
    return parse()


def _difference(net: nn.Module, content: bytes, shape: tuple[int, ...]) -> float:
    """The largest difference between ONNX Runtime and the network, on random images."""
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


# The messages of torch's exporters and of OpenVINO's converter on an operator without translation.
_NO_TRANSLATION = re.compile(
    r"(?:No ONNX function found for <OpOverload\(op='|No conversion rule found for operations: "
    r"|Unsupported FX nodes: \{'call_function': \[')([\w.]+)"
)


def describe_failure(error: BaseException) -> str:
    """Say in one line why a network cannot be converted, with the operator or module at fault."""
    chain = list(_causes(error))
    for cause in chain:
        match = _NO_TRANSLATION.search(str(cause))
        if match:
            return f"operator {match[1]} is not supported"
    reason = first_line(chain[-1])
    module = next((name for cause in reversed(chain) if (name := _innermost_module(cause))), None)
    return f"module {module}: {reason}" if module else reason


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _innermost_module(error: BaseException) -> str | None:
    """The class of the innermost module, outside torch, whose code was running."""
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
    """Suppress prints, warnings and log records below errors in the block, but no exceptions.

    Converters and quantisers report their progress on standard output.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)

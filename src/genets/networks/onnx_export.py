"""Export to ONNX, checked by running it."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import nn

from genets.errors import GenetsError
from genets.files import write_atomic
from genets.networks.count import input_channels
from genets.networks.fuse import fold_batchnorm

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT = "images"
OUTPUT = "logits"
# The exported graph sums in another order than torch: float32 noise, relative to the logits.
TOLERANCE = 1e-3


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
    with tempfile.TemporaryDirectory(prefix="genets-onnx-") as folder:
        draft = Path(folder) / "network.onnx"
        _export(folded, draft, torch.zeros(shape), dynamic=batch_size is None)
        content = draft.read_bytes()
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


def _export(net: nn.Module, path: Path, images: torch.Tensor, *, dynamic: bool) -> None:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    try:
        with _quiet():
            torch.onnx.export(
                net, (images,), path, dynamo=True, verbose=False, external_data=False,
                input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=shapes,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().split("\n")[0]
        raise GenetsError(f"torch cannot export this network to ONNX: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress on stdout and in its own warnings and logs."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


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

"""Weights to begin with, out of files of plain tensors; other classes get another head."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from timm.models import load_state_dict
from torch import Tensor, nn

from genets.errors import GenetsError
from genets.networks.weights import load_tensors, read_weights


def start_from(
    net: nn.Module, path: str | Path, num_classes: int, on_note: Callable[[str], None]
) -> None:
    """Load a weights file into `net`; a head for other classes stays fresh, which is told.

    path: safetensors, or a checkpoint of tensors (.pth), read without running what is in it.
    Raises GenetsError: no such file, not plain tensors, or weights of another network.
    """
    tensors = read_tensors(path)
    own = net.state_dict()
    head = head_of(net)
    keys = [name for name in own if name.startswith(f"{head}.")] if head else []
    if any(name in tensors and tensors[name].shape != own[name].shape for name in keys):
        theirs = next(len(tensors[name]) for name in keys if name in tensors)
        tensors = {**tensors, **{name: own[name] for name in keys}}
        on_note(
            f"weights {str(path)!r} are of {theirs} classes: the head ({head}) is made anew "
            f"for {num_classes}"
        )
    load_tensors(net, tensors, path)


def head_of(net: Any) -> str | None:
    """The name of the layer that gives the logits."""
    config = getattr(net, "pretrained_cfg", None) or {}
    name = config.get("classifier")
    if isinstance(name, str) and name:
        return name
    linears = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises GenetsError."""
    path = Path(path)
    if path.suffix == ".safetensors" or not path.is_file():
        return read_weights(path)[0]
    try:
        with warnings.catch_warnings():  # of torch, on foreign pickles, which are refused anyway
            warnings.simplefilter("ignore", UserWarning)
            tensors = load_state_dict(str(path), weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError, ValueError, KeyError,
            AttributeError, zipfile.BadZipFile) as error:  # fmt: skip
        raise GenetsError(
            f"weights {str(path)!r} are refused: no file of plain tensors ({_reason(error)})"
        ) from error
    other = [f"{name} ({type(v).__name__})" for name, v in tensors.items()
             if not isinstance(v, Tensor)]  # fmt: skip
    if other or not tensors:
        what = f"it holds {other[0]}" if other else "it is empty"
        raise GenetsError(f"weights {str(path)!r} are refused: no file of plain tensors ({what})")
    return tensors


def _reason(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.partition(" No automatic")[0].rstrip(".")

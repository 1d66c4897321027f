"""Weights to begin with, out of files of plain tensors; other classes get another head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from genets.networks.weight_files import tensors_for
from genets.networks.weights import load_tensors


def start_from(
    net: nn.Module, path: str | Path, num_classes: int, on_note: Callable[[str], None]
) -> None:
    """Load a weights file into `net`; a head for other classes stays fresh, which is told.

    path: see `tensors_for`.
    Raises GenetsError: no such file, not plain tensors, or weights of another network.
    """
    tensors = tensors_for(net, path)
    own = net.state_dict()
    head = head_of(net)
    keys = [name for name in own if name.startswith(f"{head}.")] if head else []
    counts = {
        len(tensors[name])
        for name in keys
        if name in tensors and tensors[name].ndim and len(tensors[name]) != len(own[name])
    }
    if counts:
        tensors = {**tensors, **{name: own[name] for name in keys}}
    load_tensors(net, tensors, path)
    if counts:
        on_note(
            f"weights {str(path)!r} are of {max(counts)} classes: the head ({head}) is made anew "
            f"for {num_classes}"
        )


def head_of(net: Any) -> str | None:
    """The name of the layer that gives the logits."""
    config = getattr(net, "pretrained_cfg", None) or {}
    name = config.get("classifier")
    if isinstance(name, str) and name:
        return name
    linears = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None

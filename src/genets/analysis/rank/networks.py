"""Networks whose rank is looked at, and where their weights come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from genets.core.errors import GenetsError
from genets.networks import NamedNetwork, resolve_network
from genets.networks.weights import tensors_for

FRESH = "fresh"


@dataclass(frozen=True)
class Weighted:
    """weights: where they come from; `fresh` for untrained ones."""

    named: NamedNetwork
    weights: str

    @property
    def trained(self) -> bool:
        return self.weights != FRESH


def weighted_network(
    text: str, *, pretrained: bool = False, checkpoint: Path | None = None, seed: int = 0
) -> Weighted:
    """The network that `text` names, as `resolve_network` takes it, with its weights.

    pretrained: those that were published. checkpoint: a file of tensors for this network; its
    classifier may have other classes. A results folder has its own. seed: of fresh weights.
    Raises GenetsError: an unknown name, or there are no such weights.
    """
    folder = Path(text.strip()).is_dir()
    if folder and checkpoint is not None:
        raise GenetsError(f"{text} is a results folder, which has weights of its own")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        named = resolve_network(text, pretrained=pretrained and not folder)
    if checkpoint is not None:
        load_kernels(named.network, checkpoint)
        return Weighted(replace(named, name=f"{named.name}, {checkpoint}"), "checkpoint")
    if folder:
        return Weighted(replace(named, name=text), "results folder")
    return Weighted(named, "pretrained" if pretrained else FRESH)


@torch.no_grad()
def load_kernels(net: nn.Module, path: Path) -> None:
    """Load the kernels of all convolutions from a checkpoint (.safetensors, or .pth of tensors).

    path: see `tensors_for`. What else it holds is ignored.
    Raises GenetsError: the file is missing, no file of tensors, or of another network.
    """
    known = tensors_for(net, path)
    kernels = {f"{name}.weight": conv.weight for name, conv in net.named_modules()
               if isinstance(conv, nn.Conv2d)}  # fmt: skip
    missing = [name for name in kernels if name not in known]
    if missing:
        raise GenetsError(
            f"checkpoint {str(path)!r} is not of this network: it lacks {_first(missing)}; "
            f"it has {_first(list(known))}"
        )
    for name, kernel in kernels.items():
        if known[name].shape != kernel.shape:
            raise GenetsError(
                f"checkpoint {str(path)!r} is of another network: {name} has shape "
                f"{tuple(known[name].shape)}, this network needs {tuple(kernel.shape)}"
            )
    for name, kernel in kernels.items():
        kernel.copy_(known[name])


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "no tensors"

"""Weights in safetensors files, and networks from results folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from timm.models.byobnet import ByobNet
from torch import nn

from genets.core.errors import GenetsError
from genets.core.files import write_atomic
from genets.networks.build import build
from genets.structure import Structure

STRUCTURE_FILE = "structure.toml"
WEIGHTS_FILE = "weights.safetensors"


def save_weights(net: nn.Module, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the state of `net` and the texts of `metadata`; never leaves half a file.

    `load` reads `num_classes` and, where it is not 3, `in_channels` from the metadata.
    Raises GenetsError: the file cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    try:
        write_atomic(path, save(tensors, dict(metadata)))
    except OSError as error:
        raise GenetsError(f"cannot write weights {str(path)!r}: {error.strerror}") from error


def load_weights(net: nn.Module, path: str | Path) -> dict[str, str]:
    """Load weights of exactly this network and return the file's metadata.

    Raises GenetsError, with `net` unchanged: the file is missing, truncated, not of this
    network, or of other shapes.
    """
    tensors, metadata = read_weights(path)
    load_tensors(net, tensors, path)
    return metadata


def load_tensors(net: nn.Module, tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Load the state of exactly this network; `path` is where it came from.

    Raises GenetsError, with `net` unchanged: not of this network, or of other shapes.
    """
    own = net.state_dict()
    differing = sorted(own.keys() ^ tensors.keys())
    if differing:
        missing = [name for name in differing if name in own]
        foreign = [name for name in differing if name not in own]
        parts = [f"{what} {_first(names)}" for what, names in
                 (("it lacks", missing), ("it has unknown", foreign)) if names]  # fmt: skip
        raise GenetsError(f"weights {str(path)!r} are not of this network: {' and '.join(parts)}")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise GenetsError(
                f"weights {str(path)!r} are of another network: {name} has shape "
                f"{tuple(tensor.shape)}, this network needs {tuple(own[name].shape)}"
            )
    net.load_state_dict(tensors)


def check_results(folder: Path) -> None:
    """Raise GenetsError, saying where else to look, unless a trained network lies in `folder`."""
    if (folder / STRUCTURE_FILE).exists() or (folder / WEIGHTS_FILE).exists():
        return
    inside, checkpoints = folder / "results", folder / "checkpoints"
    if (inside / WEIGHTS_FILE).exists():
        raise GenetsError(f"{str(folder)!r} is no results folder, but {str(inside)!r} is one")
    reason = f"it has neither {STRUCTURE_FILE} nor {WEIGHTS_FILE}"
    if checkpoints.is_dir():
        reason = f"its training has not ended; files of weights are in {str(checkpoints)!r}"
    raise GenetsError(f"{str(folder)!r} is no results folder: {reason}")


def load_structure_network(folder: str | Path) -> ByobNet:
    """The network of a results folder with a structure file, trained, in eval mode, on the CPU.

    Raises GenetsError: a file is missing, damaged, or they do not belong together.
    """
    folder = Path(folder)
    structure = Structure.load(folder / STRUCTURE_FILE)
    path = folder / WEIGHTS_FILE
    _, metadata = read_weights(path)
    sizes = {}
    for key, default in (("num_classes", ""), ("in_channels", "3")):
        sizes[key] = stated_number(metadata, key, path, default)
    net = build(structure, sizes["num_classes"], sizes["in_channels"])
    load_weights(net, path)
    return net.eval()


def stated_number(
    metadata: Mapping[str, str], key: str, path: str | Path, default: str = ""
) -> int:
    """A number that a weights file states. Raises GenetsError if it does not."""
    text = metadata.get(key, default)
    if not (text.isascii() and text.isdigit()):
        raise GenetsError(f"weights {str(path)!r} must state {key} as a number, not {text!r}")
    return int(text)


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises GenetsError."""
    path = Path(path)
    if not path.is_file():
        raise GenetsError(f"no weights file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise GenetsError(
            f"weights {str(path)!r} are truncated or not a safetensors file ({error})"
        ) from error


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more

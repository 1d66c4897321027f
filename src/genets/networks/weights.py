"""Weights in safetensors files, and networks from results folders.

Files of weights that others made: plain tensors, under the names that they knew them by.

The weights that the paper's authors published: GENet_small.pth, _normal.pth and _large.pth.

Their files (github.com/idstcv/GPU-Efficient-Networks) hold the state of the networks that are
`genet_light`, `genet_normal` and `genet_large` here, tensor for tensor, under names of their own:

    module_list.0.netblock, .1.netblock             stem: convolution, batch norm
    module_list.I.conv_list.B.L                     super-block I - 2, block B; L counts its
                                                    convolutions, norms and activations
    module_list.I.shortcut_list.B.0, .1             the block's projection: convolution, norm
    module_list.N.netblock, .N+1.netblock           head: convolution, batch norm
    fc_linear                                       classifier

Position 2 is the stem's activation, so super-blocks begin at 3.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from timm.models import load_state_dict
from timm.models.byobnet import ByobNet
from torch import Tensor, nn

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


# What `genets train` puts before the names in its checkpoints, the better weights first.
PREFIXES = ("average.", "network.")


def tensors_for(net: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, by the names of `net` where the file is one of the authors'.

    path: safetensors, or a checkpoint of tensors (.pth), read without running what is in it; of
    a checkpoint of `genets train` the averaged weights where there are any.
    Raises GenetsError: no such file, or not plain tensors. Whether they fit, loading shows.
    """
    return with_our_names(read_tensors(path), net.state_dict())


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, by its own names. Raises GenetsError."""
    path = Path(path)
    if path.suffix == ".safetensors" or not path.is_file():
        return _better(read_weights(path)[0])
    try:
        with warnings.catch_warnings():  # of torch, on foreign pickles, which are refused anyway
            warnings.simplefilter("ignore", UserWarning)
            tensors = load_state_dict(str(path), weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError, ValueError, KeyError,
            TypeError, AttributeError, zipfile.BadZipFile) as error:  # fmt: skip
        raise GenetsError(
            f"weights {str(path)!r} are refused: no file of plain tensors ({_reason(error)})"
        ) from error
    other = [f"{name} ({type(v).__name__})" for name, v in tensors.items()
             if not isinstance(v, Tensor)]  # fmt: skip
    if other or not tensors:
        what = f"it holds {other[0]}" if other else "it is empty"
        raise GenetsError(f"weights {str(path)!r} are refused: no file of plain tensors ({what})")
    return _better(tensors)


def _better(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        own = {name.removeprefix(prefix): value for name, value in tensors.items()
               if name.startswith(prefix)}  # fmt: skip
        if own:
            return own
    return tensors


def _reason(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.partition(" No automatic")[0].rstrip(".")


THEIRS = ("module_list.", "fc_linear.")
FIRST = 3  # position of the first super-block
BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(?:shortcut|conv(\d)_\w+)\.(conv|bn)\.(\w+)")


def with_our_names(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of such a file under timm's names; those of any other file as they are.

    own: the names of the network's state. What it does not have keeps its name.
    """
    if not any(name.startswith(THEIRS) for name in tensors):
        return dict(tensors)
    ours = published_names(own)
    return {ours.get(name, name): tensor for name, tensor in tensors.items()}


def published_names(own: Iterable[str]) -> dict[str, str]:
    """By their name ours, for the state of a network of a structure."""
    own = list(own)
    stages = {int(found[1]) for name in own if (found := BLOCK.fullmatch(name))}
    return {_theirs(name, len(stages)): name for name in own}


def _theirs(name: str, super_blocks: int) -> str:
    found = BLOCK.fullmatch(name)
    if found:
        stage, block, number, layer, field = found.groups()
        is_norm = int(layer == "bn")
        where = f"module_list.{FIRST + int(stage)}"
        if number is None:
            return f"{where}.shortcut_list.{block}.{is_norm}.{field}"
        # Convolution, norm, activation; the last activation follows the sum.
        return f"{where}.conv_list.{block}.{3 * (int(number) - 1) + is_norm}.{field}"
    for ours, theirs in (
        ("stem.conv.", "module_list.0.netblock."),
        ("stem.bn.", "module_list.1.netblock."),
        ("final_conv.conv.", f"module_list.{FIRST + super_blocks}.netblock."),
        ("final_conv.bn.", f"module_list.{FIRST + super_blocks + 1}.netblock."),
        ("head.fc.", "fc_linear."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name

"""Files of weights: ours, those of other programs, and those that the paper's authors published.

The authors' files (github.com/idstcv/GPU-Efficient-Networks: GENet_small.pth, GENet_normal.pth and
GENet_large.pth) hold the states of `genet_light`, `genet_normal` and `genet_large`, tensor for
tensor, under other names:

    module_list.0.netblock, .1.netblock             stem: convolution, batch norm
    module_list.I.conv_list.B.L                     super-block I - 3 (counted from 0), block B;
                                                    L counts its convolutions, norms, activations
    module_list.I.shortcut_list.B.0, .1             the block's projection: convolution, norm
    module_list.N.netblock, .N+1.netblock           head: convolution, batch norm
    fc_linear                                       classifier

Position 2 is the stem's activation, so super-blocks begin at 3.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from timm.models import load_state_dict
from torch import Tensor, nn

from genets.core.errors import FullDiskError, GenetsError, first_line, shown
from genets.core.files import write_atomic

FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
STRUCTURE_FILE = "structure.toml"
WEIGHTS_FILE = "weights.safetensors"
# The prefixes of names in the checkpoints of a training. Averaged weights are preferred.
PREFIXES = ("average.", "network.")
OTHER_PREFIXES = ("optimizer.", "floor.")
MAX_DIGITS = 18  # of a number in the metadata
# Prefixes that other programs put before every name: parallel training, torch.compile, Lightning.
WRAPPERS = ("module.", "_orig_mod.", "model.")
# The number of updates of a batch norm; files of old PyTorch versions have no such tensor.
COUNTER = "num_batches_tracked"
AVERAGED = "n_averaged"  # PyTorch's AveragedModel adds this number to the tensors


def save_weights(net: nn.Module, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the state of a network to a safetensors file, completely or not at all.

    Args:
        net: The network; its state is written from whatever device it is on.
        path: The file; an existing one is replaced.
        metadata: Texts to store beside the tensors. `load` reads `num_classes` and, where it is
            not 3, `in_channels`.

    Raises:
        GenetsError: The file cannot be written; see `write_weights`.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    write_weights(path, save(tensors, dict(metadata)))


def write_weights(path: str | Path, content: bytes) -> None:
    """Write the content of a safetensors file, completely or not at all.

    Raises:
        FullDiskError: The disk is full.
        GenetsError: The file cannot be written for another reason.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        kind = FullDiskError if error.errno in FULL_DISK else GenetsError
        raise kind(f"cannot write weights {str(path)!r}: {error.strerror}") from error


def load_weights(net: nn.Module, path: str | Path) -> dict[str, str]:
    """Load a safetensors file that holds the complete state of this network.

    Args:
        net: The network, which is changed in place.
        path: The file.

    Returns:
        The metadata of the file.

    Raises:
        GenetsError: The file is missing, truncated, or of another network; `net` is unchanged.
    """
    tensors, metadata = read_weights(path)
    load_tensors(net, tensors, path)
    return metadata


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the complete state of this network; only counters of batch norms may be missing.

    Raises GenetsError, which names `path`, the source of the tensors, where another tensor is
    missing, or a tensor is unknown or of another shape; `net` is then unchanged.
    """
    own = net.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    foreign = sorted(tensors.keys() - own.keys())
    if foreign or not all(name.endswith(COUNTER) for name in missing):
        parts = [f"{what} {_some_of(names)}" for what, names in
                 (("it lacks", missing), ("it has unknown", foreign)) if names]  # fmt: skip
        raise GenetsError(f"weights {str(path)!r} are not of this network: {' and '.join(parts)}")
    _check_shapes(own, tensors, path)
    net.load_state_dict({**own, **tensors})


@torch.no_grad()
def load_kernels(net: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the kernels of all convolutions; other tensors, such as a classifier's, are ignored.

    Raises GenetsError, which names `path`, the source of the tensors, where a kernel is missing
    or of another shape; `net` is then unchanged.
    """
    kernels = {f"{name}.weight": conv.weight for name, conv in net.named_modules()
               if isinstance(conv, nn.Conv2d)}  # fmt: skip
    missing = [name for name in kernels if name not in tensors]
    if missing:
        raise GenetsError(
            f"weights {str(path)!r} are not of this network: it lacks {_some_of(missing)}; "
            f"it has {_some_of(list(tensors))}"
        )
    _check_shapes(kernels, tensors, path)
    for name, kernel in kernels.items():
        kernel.copy_(tensors[name])


def _check_shapes(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str | Path
) -> None:
    for name, tensor in tensors.items():
        if name in own and tensor.shape != own[name].shape:
            raise GenetsError(
                f"weights {str(path)!r} are of another network: {name} has shape "
                f"{tuple(tensor.shape)}, this network needs {tuple(own[name].shape)}"
            )


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise GenetsError where a tensor holds NaN or infinity; `path` is the source of all."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            value = "NaN" if tensor.isnan().any() else "infinity"
            raise GenetsError(f"weights {str(path)!r} are damaged: {name} holds {value}")


def _some_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "no tensors"


def check_results(folder: Path) -> None:
    """Raise GenetsError unless a trained network is in `folder`; the message says where to look."""
    if (folder / STRUCTURE_FILE).exists() or (folder / WEIGHTS_FILE).exists():
        return
    checkpoints = folder / "checkpoints"
    # A search of several budgets has a folder for each budget inside `results`.
    patterns = (f"*/{WEIGHTS_FILE}", f"results/*/{WEIGHTS_FILE}")
    inside = [str(path.parent) for pattern in patterns for path in sorted(folder.glob(pattern))]
    if inside:
        raise GenetsError(
            f"{str(folder)!r} is not a results folder, but {' and '.join(map(repr, inside))} "
            f"{'is one' if len(inside) == 1 else 'are'}"
        )
    reason = f"it has neither {STRUCTURE_FILE} nor {WEIGHTS_FILE}"
    if (folder / "contract.json").exists():
        reason = "it is an export for deployment; its predict.py classifies images"
    if checkpoints.is_dir():
        reason = f"its training has not ended; files of weights are in {str(checkpoints)!r}"
    raise GenetsError(f"{str(folder)!r} is not a results folder: {reason}")


def stated_number(
    metadata: Mapping[str, str], key: str, path: str | Path, default: str = ""
) -> int:
    """Read a number from the metadata of a weights file. Raises GenetsError."""
    text = metadata.get(key, default)
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise GenetsError(f"weights {str(path)!r} must state {key} as a number, not {shown(text)}")
    return int(text)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file. Raises GenetsError."""
    path = Path(path)
    _check_file(path)
    with _readable(path), safe_open(path, framework="pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise GenetsError(f"weights {str(path)!r} are a folder, where a file is expected")
    if not path.is_file():
        raise GenetsError(f"no weights file {str(path)!r}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged safetensors file into a GenetsError."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise GenetsError(
            f"weights {str(path)!r} are truncated or not a safetensors file ({error})"
        ) from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the texts beside the tensors; a checkpoint of PyTorch has none. Raises GenetsError."""
    path = Path(path)
    if path.suffix != ".safetensors":
        return {}
    _check_file(path)
    with _readable(path), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def tensors_for(net: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Read a file of tensors under the names of `net`.

    The prefixes of `WRAPPERS` are removed, and a file of the paper's authors gets the names of
    `net`.

    Args:
        net: The network whose names are used. Whether the tensors fit is checked by loading them.
        path: A safetensors file or a checkpoint of tensors (.pth), which is read without running
            code. From a checkpoint of `genets train` the averaged weights are taken, if it has
            any.

    Returns:
        The tensors by name.

    Raises:
        GenetsError: There is no such file, or it holds something other than tensors.
    """
    own = net.state_dict()
    return with_our_names(_unwrapped(read_tensors(path), own), own)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file under the file's own names; see `tensors_for`."""
    path = Path(path)
    if path.suffix == ".safetensors" or not path.is_file():
        return _without_prefix(read_weights(path)[0])
    refusal = f"cannot load weights {str(path)!r}: expected a file that contains only tensors"
    try:
        with warnings.catch_warnings():  # torch warns of foreign pickles, which are refused anyway
            warnings.simplefilter("ignore", UserWarning)
            tensors = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a foreign file may raise any class of error in the unpickler
        reason = first_line(error).partition(" No automatic")[0].rstrip(".")
        raise GenetsError(f"{refusal} ({reason})") from error
    other = [f"{name} ({type(v).__name__})" for name, v in tensors.items()
             if not isinstance(v, Tensor)]  # fmt: skip
    if other or not tensors:
        raise GenetsError(f"{refusal} ({f'it holds {other[0]}' if other else 'it is empty'})")
    return _without_prefix(tensors)


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in a checkpoint of a training; other files stay as they are.

    A network may have some names with such a prefix, as timm's VOLO has `network.0.0.norm1.weight`.
    """
    if not all(name.startswith((*PREFIXES, *OTHER_PREFIXES)) for name in tensors):
        return tensors
    for prefix in PREFIXES:
        own = {name.removeprefix(prefix): value for name, value in tensors.items()
               if name.startswith(prefix)}  # fmt: skip
        if own:
            return own
    return tensors


def _unwrapped(tensors: dict[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Remove a prefix that a program has put before every name, but none of the network's own."""
    own = list(own)
    tensors = {name: tensor for name, tensor in tensors.items() if name != AVERAGED}
    while prefix := next((p for p in WRAPPERS if _all_start(tensors, p)), None):
        if _all_start(own, prefix):
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _all_start(names: Collection[str], prefix: str) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


THEIRS = ("module_list.", "fc_linear.")
FIRST = 3  # position of the first super-block
BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(?:shortcut|conv(\d)_\w+)\.(conv|bn)\.(\w+)")


def with_our_names(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Give the tensors of an authors' file timm's names; other files keep their names.

    Args:
        tensors: The tensors of a file.
        own: The names in the network's state. A tensor without a counterpart keeps its name.
    """
    if not any(name.startswith(THEIRS) for name in tensors):
        return dict(tensors)
    ours = published_names(own)
    return {ours.get(name, name): tensor for name, tensor in tensors.items()}


def published_names(own: Iterable[str]) -> dict[str, str]:
    """Map the authors' names to ours, for the state of a structure's network."""
    own = list(own)
    stages = {int(match[1]) for name in own if (match := BLOCK.fullmatch(name))}
    return {_published_name(name, len(stages)): name for name in own}


def _published_name(name: str, super_blocks: int) -> str:
    match = BLOCK.fullmatch(name)
    if match:
        stage, block, number, layer, field = match.groups()
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

"""Files of weights that others made: plain tensors, under the names that they knew them by."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError

from timm.models import load_state_dict
from torch import Tensor, nn

from genets.core.errors import GenetsError
from genets.networks.published_weights import with_our_names
from genets.networks.weights import read_weights

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

"""The images of a run, and what becomes of those that cannot be read.

The network that a run trains, with the weights it begins with.

Weights to begin with, out of files of plain tensors; other classes get another head.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genets.core.errors import DataError, GenetsError, TrainingError
from genets.core.files import write_atomic
from genets.data import LOADERS, ImageData, broken_files, load_data, seeded_globals
from genets.networks import NamedNetwork, resolve_network
from genets.networks.onnx_export import what_failed
from genets.networks.weights import load_tensors, tensors_for
from genets.structure import Structure
from genets.training.distributed import Processes
from genets.training.recipe import RunRecipe
from genets.training.run_settings import RunSettings


def load_images(
    settings: RunSettings, processes: Processes, workers: int | None, note: Callable[[str], None]
) -> ImageData:
    """The share of this process; none are checked yet. Raises DataError."""
    assert settings.resolution is not None
    options: dict[str, Any] = {}
    if settings.data in LOADERS:  # they draw their images, and augment them while they do
        _tell_what_is_not_used(settings.recipe, settings.data, note)
    else:
        options["augmentation"] = settings.recipe.augmentation()
    return load_data(
        settings.data,
        settings.resolution,
        seed=settings.seed,
        device=processes.device,
        workers=workers,
        check=False,
        share=processes.share,
        **options,
    )


@contextmanager
def keep_broken(
    data: ImageData, path: Path, processes: Processes, say: Callable[[str], None]
) -> Iterator[None]:
    """From now on name each image that cannot be read: to the user, and in a line of `path`.

    Those that an earlier process met are looked at again. Raises DataError: too many; all that
    are known then are in `path`.
    """
    broken = data.broken
    if broken is None:
        yield
        return
    before = [json.loads(line)["image"] for line in _lines(path)]
    processes.gather(None)  # all have read it

    def tell(name: str, reason: str) -> None:
        if processes.is_first:
            say(f"image {name} cannot be read ({reason}) and is skipped")
            with open(path, "a", encoding="utf-8") as file:
                file.write(_line(name, reason))

    broken.report = tell
    if processes.is_first and before:
        write_atomic(path, "")
    try:
        broken.meet(broken_files([name for name in before if Path(name).is_absolute()]))
        yield
    except DataError:
        if processes.is_first and broken.reasons:
            write_atomic(path, "".join(_line(*one) for one in broken.reasons.items()))
            say(f"{len(broken.reasons)} images that cannot be read are named in {path}")
        raise


def check_all(data: ImageData, processes: Processes, note: Callable[[str], None]) -> None:
    """Read every image once, each process its share. Raises DataError: too many are broken."""
    if data.broken is None or not data.broken.paths:
        note(f"{data.name} is no folder of images: they are checked when they are read")
        return
    for found in processes.gather(data.broken.scan(processes.share)):
        data.broken.meet(found)


def _line(name: str, reason: str) -> str:
    return json.dumps({"image": name, "reason": reason}) + "\n"


def _lines(path: Path) -> list[str]:
    """Whole lines: a process that was killed may have left a part of one."""
    if not path.exists():
        return []
    return [
        line for line in path.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")
    ]


def _tell_what_is_not_used(recipe: RunRecipe, data: str, note: Callable[[str], None]) -> None:
    unused = [name for name in ("auto_augment", "erase") if getattr(recipe, name)]
    if unused:
        note(f"{data} has nuisance of its own: {' and '.join(unused)} are not used")


def run_network(
    settings: RunSettings, data: ImageData, fresh: bool, note: Callable[[str], None]
) -> tuple[nn.Module, Structure | None]:
    """The network at the images' resolution. fresh: with its weights to begin with."""
    with seeded_globals("network", settings.seed):
        named = resolve_network(
            settings.network, data.num_classes, pretrained=settings.pretrained and fresh
        )
    structure = named.structure
    if structure is not None:
        structure = structure.with_resolution(data.resolution)
    else:
        _check_resolution(named, data)
    if fresh and settings.weights:
        start_from(named.network, settings.weights, data.num_classes, note)
    if fresh and settings.pretrained:
        _tell_pretrained(named, data, note)
    return named.network, structure


def _tell_pretrained(named: NamedNetwork, data: ImageData, note: Callable[[str], None]) -> None:
    config = getattr(named.network, "pretrained_cfg", None) or {}
    classes = config.get("num_classes", data.num_classes)
    if classes != data.num_classes:
        note(
            f"the published weights of {named.name} are of {classes} classes: the head "
            f"({head_of(named.network)}) is made anew for {data.num_classes}"
        )
    for name, own in (("mean", data.mean), ("std", data.std)):
        theirs = tuple(config.get(name, own))
        if theirs != own:
            note(f"{named.name} was trained with {name} {theirs}, {data.name} has {own}")


def _check_resolution(named: NamedNetwork, data: ImageData) -> None:
    """Structures check themselves; other networks are tried. Raises TrainingError."""
    size = data.resolution
    named.network.eval()
    try:
        with torch.no_grad():
            logits = named.network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, GenetsError):
            raise
        raise TrainingError(
            f"{named.name} cannot take images of {size} pixels: {what_failed(error)}"
        ) from error
    assert logits.shape == (1, data.num_classes), logits.shape


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

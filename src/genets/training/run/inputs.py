"""The images and the network of a training run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genets.core.errors import DataError, GenetsError, TrainingError
from genets.core.files import write_atomic
from genets.core.image_facts import Preprocessing
from genets.core.json_files import READ_ERRORS, describe_damage
from genets.core.progress import OnProgress
from genets.data import (
    LOADERS,
    ImageData,
    broken_files,
    describe_equal_files,
    load_data,
    seeded_globals,
)
from genets.data.scoring import DEFAULT
from genets.data.split_origin import find_split_origin
from genets.networks import NetworkSource, resolve_network
from genets.networks.onnx_export import describe_failure
from genets.networks.source import PUBLISHED, classifier_names
from genets.networks.weights import read_metadata
from genets.networks.weights_facts import read_facts
from genets.structure import Structure
from genets.training.recipe import describe_unused
from genets.training.run.distributed import Processes
from genets.training.run.settings import RunSettings


def load_images(
    settings: RunSettings,
    processes: Processes,
    workers: int | None,
    note: Callable[[str], None],
    checkpoints: Sequence[Path] = (),
) -> ImageData:
    """Load this process's share of the images, without checking them.

    Args:
        settings: The settings of the run.
        processes: The processes that train together.
        workers: The number of processes that read images; None chooses it.
        note: Called with messages.
        checkpoints: See `preprocessing_of`.

    Raises:
        GenetsError: The images or the starting weights cannot be read.
    """
    assert settings.resolution is not None
    options: dict[str, Any] = {}
    if settings.data in LOADERS:  # these data sets draw their own images, and disturb them
        unused = describe_unused(settings.data, settings.recipe)
        if unused:
            note(unused)
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
        preprocessing=preprocessing_of(settings, checkpoints),
        max_broken_share=settings.max_broken_share,
        **options,
    )


def preprocessing_of(
    settings: RunSettings, checkpoints: Sequence[Path] = ()
) -> Preprocessing | None:
    """That of genets with the mean and deviation of the starting weights, if they are known.

    Args:
        settings: The settings of the run.
        checkpoints: The files of a run that is continued. They state its preprocessing, so its
            starting weights may have moved.

    Raises:
        GenetsError: The weights are missing or damaged.
    """
    if settings.normalisation == "data" or not (settings.pretrained or settings.weights):
        return None
    for path in reversed(checkpoints):
        try:
            stored = read_facts(read_metadata(path), path).preprocessing
        except GenetsError:  # an older checkpoint may be whole
            continue
        if stored is not None:
            return replace(DEFAULT, mean=stored.mean, std=stored.std)
    source = resolve_network(settings.network, 2, seed=0)
    facts = source.facts_about(pretrained=settings.pretrained, weights=settings.weights or None)
    own = facts.preprocessing
    return own and replace(DEFAULT, mean=own.mean, std=own.std)


@contextmanager
def log_broken(
    data: ImageData, path: Path, processes: Processes, note: Callable[[str], None]
) -> Iterator[None]:
    """During the block, report each image that cannot be read, and write it to the file `path`.

    Images that the file already names are checked again. Raises DataError where too many images
    are broken; `path` then names all that were found.
    """
    broken = data.broken
    if broken is None:
        yield
        return
    earlier = _read_broken(path)
    processes.gather(None)  # wait until all processes have read the file

    def report(name: str, reason: str) -> None:
        if processes.is_first:
            note(f"image {name} cannot be read ({reason}) and is skipped")
            with open(path, "a", encoding="utf-8") as file:
                file.write(_line(name, reason))

    broken.report = report
    if processes.is_first and earlier:
        write_atomic(path, "")
    try:
        broken.meet(broken_files([name for name in earlier if Path(name).is_absolute()]))
        yield
    except DataError:
        if processes.is_first and broken.reasons:
            write_atomic(path, "".join(_line(*item) for item in broken.reasons.items()))
            note(f"{path} names the {len(broken.reasons)} images that cannot be read")
        raise


def check_all(
    data: ImageData,
    processes: Processes,
    note: Callable[[str], None],
    on_progress: OnProgress | None = None,
) -> None:
    """Read every image once, each process its share, and note equal files in several splits.

    on_progress: called with the number of images that this process has read.

    Raises DataError: too many are broken.
    """
    if data.broken is None or not data.broken.paths:
        note(f"{data.name} is not a folder of images, so its images are checked during training")
        return
    for reasons in processes.gather(data.broken.scan(processes.share, on_progress)):
        data.broken.meet(reasons)
    equal_files = describe_equal_files(data) if processes.is_first else ""
    if equal_files:
        note(equal_files)


def _line(name: str, reason: str) -> str:
    return json.dumps({"image": name, "reason": reason}) + "\n"


def _read_broken(path: Path) -> list[str]:
    """The images that an earlier process found to be broken. Raises TrainingError."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(True)
        # A killed process may have written a part of the last line.
        return [str(json.loads(line)["image"]) for line in lines if line.endswith("\n")]
    except READ_ERRORS as error:
        raise TrainingError(
            f"{path} is damaged ({describe_damage(error)}); remove it, and continue the run"
        ) from error


def make_network(
    settings: RunSettings, data: ImageData, fresh: bool, note: Callable[[str], None]
) -> tuple[nn.Module, Structure | None]:
    """Make the network of a run at the resolution of its images.

    Args:
        settings: The settings of the run.
        data: The images.
        fresh: Whether to load the starting weights; a checkpoint has its own.
        note: Called with messages, such as that the classifier is new.

    Returns:
        The network, and its structure, if it has one.

    Raises:
        GenetsError: The network or its starting weights cannot be loaded, or it does not run at
            this resolution.
    """
    with seeded_globals("network", settings.seed):
        source = resolve_network(
            settings.network,
            data.num_classes,
            pretrained=settings.pretrained and fresh,
            weights=settings.weights or None if fresh else None,
            fit="new classifier",
            class_names=data.class_names,
        )
    structure = source.structure
    if structure is not None:
        structure = structure.with_resolution(data.resolution)
    else:
        _check_resolution(source, data)
    if source.is_trained:
        for message in starting_notes(source, data):
            note(message)
    return source.network, structure


def starting_notes(source: NetworkSource, data: ImageData) -> Iterator[str]:
    """Messages on starting weights that were trained for other classes or other images."""
    weights, others = f"weights {source.weights!r}", source.other_class_names(data.class_names)
    if source.weights == PUBLISHED:
        weights = f"the published weights of {source.name}"
    classifier = f"the classifier ({', '.join(classifier_names(source.network))}) is new"
    if source.num_classes not in (None, data.num_classes):
        yield (
            f"{weights} are for {source.num_classes} classes: {classifier}, for "
            f"{data.num_classes} classes"
        )
    elif others:
        pair = "{!r} instead of {!r}".format(*others[0])
        yield f"{weights} are for other classes, such as {pair}: {classifier}"
    known = source.normalisation or (data.mean, data.std)
    for name, own, stated in zip(("mean", "std"), (data.mean, data.std), known, strict=True):
        if tuple(stated) != own:
            yield f"{source.name} was trained with {name} {stated}, and {data.name} has {own}"
    origin = source.facts.origin
    if origin is not None and origin.may_share_images(data.origin):
        remark = find_split_origin(data, origin, trained=True).remark
        if remark:
            yield (
                f"{remark} The starting weights may have been trained on images that are now "
                "validation or test images, so the scores may be too high."
            )


def _check_resolution(source: NetworkSource, data: ImageData) -> None:
    """Run a network without a structure; structures check themselves. Raises TrainingError."""
    size = data.resolution
    source.network.eval()
    try:
        with torch.no_grad():
            logits = source.network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, GenetsError):
            raise
        raise TrainingError(
            f"{source.name} cannot take images of {size} pixels: {describe_failure(error)}"
        ) from error
    assert logits.shape == (1, data.num_classes), logits.shape

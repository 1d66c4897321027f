"""A network with its weights, from any text that a command takes as a NETWORK."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import timm
from torch import nn

from genets.core.errors import DataError, GenetsError, unknown_name
from genets.core.files import describe_hidden_folder, normal_name
from genets.core.log import get_logger
from genets.networks.baselines import baselines
from genets.networks.baselines.builders import build_network
from genets.networks.build import build, seeded_weights
from genets.networks.count import input_channels
from genets.networks.folder_name import find_results_folder, is_network_name
from genets.networks.weights import (
    STRUCTURE_FILE,
    WEIGHTS_FILE,
    check_finite,
    check_results,
    load_kernels,
    load_tensors,
    read_metadata,
    read_weights,
    stated_number,
    tensors_for,
)
from genets.networks.weights_facts import (
    WeightsFacts,
    describe_training,
    pretrained_config,
    published_facts,
    read_facts,
)
from genets.structure import Structure, zoo

_log = get_logger(__name__)

TIMM_PREFIX = "timm:"
FRESH, FOLDER, PUBLISHED = "fresh", "results folder", "published"
LARGE_CLASSIFIER = 2.0  # times the deviation of PyTorch's weights
TRAIN_STATE = "state"  # a key in the metadata of every checkpoint of `genets train`
Normalisation = tuple[Sequence[float], Sequence[float]]
Fit = Literal["exact", "new classifier", "kernels"]


@dataclass(frozen=True)
class NetworkSource:
    """A network with its weights, and known facts about them.

    Attributes:
        name: Name of the network in texts.
        network: The network.
        structure: Its structure; None for a network outside the design space.
        resolution: The resolution of the images that the weights were trained with, in pixels;
            where that is not known, the network's own.
        weights: `fresh`, `published`, `results folder`, or the path of a weights file.
        num_classes: The number of classes that the weights were trained for; None where that is
            not known. A network with a new classifier has another number.
        facts: Known facts about the training of the weights.
    """

    name: str
    network: nn.Module
    structure: Structure | None
    resolution: int
    weights: str = FRESH
    num_classes: int | None = None
    facts: WeightsFacts = field(default_factory=WeightsFacts)

    @property
    def is_trained(self) -> bool:
        return self.weights != FRESH

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes; None where they are not stored."""
        return self.facts.class_names

    @property
    def normalisation(self) -> Normalisation | None:
        """Mean and standard deviation, for R, G and B, that the weights were trained with.

        They are stored beside the weights or published with them. None means those of the data.
        """
        preprocessing = self.facts.preprocessing
        return None if preprocessing is None else (preprocessing.mean, preprocessing.std)

    def facts_about(self, *, pretrained: bool, weights: str | Path | None) -> WeightsFacts:
        """Known facts about weights that this network may load, without loading them.

        Args:
            pretrained: Published weights.
            weights: A file of weights.

        Raises:
            GenetsError: The file is missing or damaged.
        """
        if weights is None:
            return published_facts(self.network) if pretrained else self.facts
        metadata = read_metadata(weights)
        facts = read_facts(metadata, weights)
        # The configuration of a structure's network holds defaults, not facts about its weights.
        known = facts.preprocessing is not None or TRAIN_STATE in metadata
        return facts if known or self.structure is not None else published_facts(self.network)

    def other_class_names(self, class_names: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs of unlike names, of the weights and of the data, of the same output."""
        return _unlike_names(self.class_names or (), class_names)

    def check_classes(self, class_names: Sequence[str], data_name: str) -> None:
        """Raise DataError if the weights were trained for other classes than those of the data."""
        count, pairs = self.num_classes, self.other_class_names(class_names)
        if count is not None and count != len(class_names):
            raise DataError(
                f"{self.name} has {count} classes and {data_name} has {len(class_names)}; "
                f"train this network on {data_name} first"
            )
        if pairs:
            raise DataError(
                f"{self.name} and {data_name} have different names for {len(pairs)} of "
                f"{len(class_names)} classes, such as {pairs[0][0]!r} and {pairs[0][1]!r}; "
                f"train this network on {data_name} first"
            )


def _unlike_names(names: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (name, other)
        for name, other in zip(names, others, strict=False)
        if normal_name(name) != normal_name(other)
    ]


def load(folder: str | Path) -> nn.Module:
    """Load the trained network of a results folder.

    Args:
        folder: The `results` folder of a search or of a training run.

    Returns:
        The network, in eval mode and on the CPU.

    Raises:
        GenetsError: A file is missing or damaged, or the files do not belong together.
    """
    return _from_results(Path(folder), str(folder)).network


def resolve_network(
    text: str,
    num_classes: int = 1000,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    fit: Fit = "exact",
    class_names: Sequence[str] = (),
    seed: int | None = None,
) -> NetworkSource:
    """Make the network that a text names.

    Args:
        text: A zoo name (`genet_large`), a baseline in any case (`EfficientNet-B3`), `timm:NAME`,
            a structure file (`mine.toml`), a notation (`Conv3x32s2 ... @256`), or a results
            folder, whose own weights and number of classes are used. A name is never a folder: a
            folder `genet_large` is `./genet_large`.
        num_classes: The number of classes of the network.
        pretrained: Load published weights. The classifier is fresh where they are for another
            number of classes. A results folder has its own weights, so this changes nothing.
        weights: A file of weights to load; see `tensors_for`.
        fit: How the file must fit. "exact": completely. "new classifier": where it is for other
            classes, the classifier stays fresh. "kernels": only the kernels of the convolutions are
            loaded, and the rest of the file is ignored.
        class_names: The names of the classes, for "new classifier". Without names, a file for as
            many classes is a file for the same classes.
        seed: The seed of fresh weights; torch's global generator is then left alone. None draws
            from that generator.

    Returns:
        The network, on the CPU, with known facts about its weights.

    Raises:
        GenetsError: The text names no network (the message has the nearest names), the weights
            do not exist, do not fit or cannot be fetched, or two sources of weights are given.
        StructureError: The structure is malformed.
    """
    if pretrained and weights is not None:
        raise GenetsError("take published weights (pretrained) or a weights file, not both")
    with nullcontext() if seed is None else seeded_weights(seed):
        source = _named(text.strip(), num_classes, pretrained)
        if weights is not None:
            return _with_file(source, weights, num_classes, fit, class_names)
        if source.weights == PUBLISHED and source.num_classes not in (None, num_classes):
            _limit_classifier(source.network)
    return source


def _with_file(
    source: NetworkSource, weights: str | Path, num_classes: int, fit: Fit, names: Sequence[str]
) -> NetworkSource:
    """The network with the weights of a file; for the rest see `resolve_network`."""
    if source.weights == FOLDER:
        raise GenetsError(
            f"{source.name} is a results folder, which has its own weights; leave the weights "
            "file out"
        )
    path, metadata = Path(weights), read_metadata(weights)
    known = read_facts(metadata, path).class_names or ()
    is_for_others = fit == "new classifier" and bool(_unlike_names(known, names))
    file_classes = _load_file(source.network, weights, num_classes, fit, is_for_others)
    if is_for_others or file_classes not in (None, num_classes):
        _limit_classifier(source.network)
    facts, pixels = source.facts_about(pretrained=False, weights=path), source.resolution
    if fit != "kernels":
        file_classes = stated_number(metadata, "num_classes", path, str(file_classes))
        pixels = facts.resolution or pixels
    return replace(
        source, weights=str(path), num_classes=file_classes, facts=facts, resolution=pixels
    )


def _limit_classifier(net: nn.Module) -> None:
    """Draw a new classifier again as PyTorch does, where its weights are far larger than those.

    With ten classes, timm's weights for an EfficientNet are ten times as large. The loss of the
    first steps is then large, and these steps damage the trained layers.
    """
    for layer in map(net.get_submodule, classifier_names(net)):
        if isinstance(layer, nn.Linear):
            pytorch_std = (3 * layer.in_features) ** -0.5
            if layer.weight.std() > LARGE_CLASSIFIER * pytorch_std:
                layer.reset_parameters()


def _named(text: str, num_classes: int, pretrained: bool) -> NetworkSource:
    path = Path(text)
    if text.startswith(TIMM_PREFIX):
        return _from_timm(text, num_classes, pretrained)
    if text.endswith(".toml"):
        return _from_structure(path.stem, Structure.load(path), num_classes, pretrained)
    if find_results_folder(text) is not None:
        return _from_results(path, text)
    if is_network_name(text):
        hidden = describe_hidden_folder(text, "the network of that name")
        if hidden:
            _log.info("%s", hidden)
    if "@" in text or any(c.isspace() for c in text):
        return _from_structure(text, Structure.parse(text), num_classes, pretrained)
    if "/" in text:
        raise GenetsError(f"there is no results folder {text!r}")
    if text in zoo:
        return _from_structure(text, zoo[text], num_classes, pretrained)
    if text in baselines:
        baseline = baselines[text]
        network = baseline.network(num_classes, pretrained)
        return _made(baseline.name, network, baseline.structure, baseline.resolution, pretrained)
    if timm.is_model(text):
        raise GenetsError(
            f"unknown network {text!r}; for timm's network of this name, write {TIMM_PREFIX}{text}"
        )
    raise GenetsError(
        f"{unknown_name('network', text, (*zoo, *baselines))} (a network is a zoo name, a "
        f"baseline, timm:NAME, a .toml structure file, a quoted notation or a results folder)"
    )


def _from_results(folder: Path, name: str) -> NetworkSource:
    """The network of the folder's structure, or of the name that its weights state."""
    if not folder.is_dir():
        raise GenetsError(f"there is no results folder {str(folder)!r}")
    check_results(folder)
    path = folder / WEIGHTS_FILE
    text = results_network(folder)
    tensors, metadata = read_weights(path)
    num_classes = stated_number(metadata, "num_classes", path)
    if (folder / STRUCTURE_FILE).exists():
        structure = Structure.parse(text)
        in_channels = stated_number(metadata, "in_channels", path, "3")
        network = build(structure, num_classes, in_channels)
        source = _made(name, network, structure, structure.resolution)
    else:
        source = _named(text, num_classes, pretrained=False)
        resolution = stated_number(metadata, "resolution", path)
        source = replace(source, name=name, resolution=resolution)
    load_tensors(source.network, tensors, path)
    source.network.eval()
    facts = read_facts(metadata, path)
    if facts.class_names is not None and len(facts.class_names) != num_classes:
        raise GenetsError(
            f"weights {str(path)!r} state {num_classes} classes and {len(facts.class_names)} names"
        )
    input_size = input_channels(source.network), source.resolution, source.resolution
    describe_training(source.network, input_size, num_classes, facts)
    return replace(source, weights=FOLDER, num_classes=num_classes, facts=facts)


def results_network(folder: Path) -> str:
    """The notation or the name of the network in a results folder. Raises GenetsError."""
    if (folder / STRUCTURE_FILE).exists():
        return str(Structure.load(folder / STRUCTURE_FILE))
    path = folder / WEIGHTS_FILE
    metadata = read_metadata(path)
    if "network" not in metadata:
        raise GenetsError(f"{str(folder)!r} has no {STRUCTURE_FILE}, and {path} names no network")
    return metadata["network"]


def read_start(folder: Path) -> tuple[str, str]:
    """The network in a results folder and the path of its weights, as settings store them.

    The network is a notation or a name, so it is valid without the folder. The path is absolute.

    Raises GenetsError: the folder is no results folder, or a file in it is damaged.
    """
    check_results(folder)
    return results_network(folder), str((folder / WEIGHTS_FILE).absolute())


def _from_structure(
    name: str, structure: Structure, num_classes: int, pretrained: bool
) -> NetworkSource:
    network = build(structure, num_classes, pretrained=pretrained)
    return _made(name, network, structure, structure.resolution, pretrained)


def _from_timm(text: str, num_classes: int, pretrained: bool) -> NetworkSource:
    name = text.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name):
        raise GenetsError(unknown_name("timm network", name, timm.list_models()))
    try:
        network = build_network(text, text, {}, num_classes, pretrained)
    except RuntimeError as error:  # a tag that this network does not have
        raise GenetsError(f"timm cannot create {name!r}: {error}") from error
    resolution = pretrained_config(network)["input_size"][-1]
    return _made(text, network, None, resolution, pretrained)


def _made(
    name: str,
    network: nn.Module,
    structure: Structure | None,
    resolution: int,
    pretrained: bool = False,
) -> NetworkSource:
    if not pretrained:
        return NetworkSource(name, network, structure, resolution)
    num_classes, facts = pretrained_config(network).get("num_classes"), published_facts(network)
    return NetworkSource(name, network, structure, resolution, PUBLISHED, num_classes, facts)


def _load_file(
    net: nn.Module, path: str | Path, num_classes: int, fit: Fit, is_for_others: bool
) -> int | None:
    """Load the file, and return the number of its classes; None where it does not matter.

    Args:
        net: The network.
        path: The file.
        num_classes: The number of classes of the network.
        fit: See `resolve_network`.
        is_for_others: Whether the file states other class names than those of the data.
    """
    tensors = tensors_for(net, path)
    if fit == "kernels":
        check_finite(tensors, path)
        load_kernels(net, tensors, path)
        return None
    own, heads = net.state_dict(), tuple(f"{name}." for name in classifier_names(net))
    keys = [name for name in own if name.startswith(heads)]
    other_counts = [
        len(tensors[name])
        for name in keys
        if name in tensors and tensors[name].ndim and len(tensors[name]) != len(own[name])
    ]
    if other_counts and fit == "exact":
        raise DataError(
            f"weights {str(path)!r} are for {max(other_counts)} classes, not for {num_classes}; "
            "`genets train` can replace the classifier"
        )
    if other_counts or is_for_others:
        tensors = {**tensors, **{name: own[name] for name in keys}}
    check_finite(tensors, path)
    load_tensors(net, tensors, path)
    return max(other_counts, default=num_classes)


def classifier_names(net: nn.Module) -> tuple[str, ...]:
    """The names of the layers that give the logits; empty where no layer is linear.

    A network that was distilled, such as RepViT, has two classifiers and gives their mean.
    """
    stated = pretrained_config(net).get("classifier") or ()
    modules = dict(net.named_modules())
    names = [name for name in ((stated,) if isinstance(stated, str) else stated) if name in modules]
    linears = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    return tuple(names or linears[-1:])

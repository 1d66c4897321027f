"""The names of rivals: published networks that a search shows beside its winner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from genets.core.errors import SettingsError, shown
from genets.structure import zoo
from genets.structure.published import published_networks

DEFAULT = "default"  # in place of a name: the networks of DEFAULT_RIVALS
NONE = "none"  # in place of all names
SCRATCH = "scratch"  # in place of a file of weights
MAX_RIVALS = 16  # each rival that meets a budget is trained

# Small, well-known networks of different families. timm has ImageNet weights of each.
DEFAULT_RIVALS = (
    "timm:mobilenetv3_small_100",
    "timm:efficientnet_lite0",
    "timm:resnet18",
    "timm:gernet_s",
)


@dataclass(frozen=True, slots=True)
class RivalName:
    """A rival as a user names it: `NETWORK`, `NETWORK=FILE` or `NETWORK=scratch`.

    Attributes:
        network: The network; see `resolve_network`.
        weights: A file of weights, or `scratch`. Empty for published weights, or for those of a
            results folder.
        is_default: Whether it is a rival of `DEFAULT_RIVALS`, which may be left out.
    """

    network: str
    weights: str = ""
    is_default: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name. Paths of existing files become absolute. Raises SettingsError."""
        if _is_path(text.strip()):  # a folder may have = in its name
            return cls(os.path.abspath(os.path.expanduser(text.strip())))
        network, equals, weights = (part.strip() for part in text.partition("="))
        if not network or (equals and not weights):
            raise SettingsError(
                f"rivals must be networks such as timm:resnet18, or NETWORK=FILE with a file of "
                f"weights, not {shown(text)}"
            )
        if _is_path(network):
            network = os.path.abspath(os.path.expanduser(network))
        if weights not in ("", SCRATCH):
            weights = os.path.abspath(os.path.expanduser(weights))
        return cls(network, weights)

    def __str__(self) -> str:
        return f"{self.network}={self.weights}" if self.weights else self.network


def read_rivals(value: Any) -> tuple[str, ...]:
    """Read the names of rivals from a list, or from a text such as `timm:resnet18,genet_light`.

    Raises SettingsError.
    """
    if isinstance(value, str):
        value = [] if value.strip() in ("", NONE) else value.split(",")
    if value is None or not isinstance(value, list | tuple):
        raise SettingsError(f"rivals must be a list such as timm:resnet18, not {shown(value)}")
    names: list[str] = []
    for text in value:
        if not isinstance(text, str) or text.strip() == NONE:
            raise SettingsError(f"rivals must be names of networks, not {shown(text)}")
        name = DEFAULT if text.strip() == DEFAULT else str(RivalName.parse(text))
        if name in names:
            raise SettingsError(f"rivals must name each network once, not {name} twice")
        names.append(name)
    if len(expand_rivals(names)) > MAX_RIVALS:
        raise SettingsError(
            f"rivals must be at most {MAX_RIVALS} networks, because each is trained, "
            f"not {len(expand_rivals(names))}"
        )
    return tuple(names)


def expand_rivals(texts: Sequence[str]) -> list[RivalName]:
    """Give the rivals, with those of `default` that are not named beside it."""
    named = {text: RivalName.parse(text) for text in texts if text != DEFAULT}
    networks = {each.network for each in named.values()}
    default = [RivalName(each, is_default=True) for each in DEFAULT_RIVALS if each not in networks]
    return [each for text in texts for each in (default if text == DEFAULT else [named[text]])]


def _is_path(text: str) -> bool:
    """Whether a text is an existing file or folder; a name of a network is never a path."""
    is_name = text in zoo or text in published_networks
    return not is_name and os.path.exists(os.path.expanduser(text))

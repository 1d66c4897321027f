"""Registers the zoo with timm: `timm.create_model("genet_large")` works after this import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.byobnet import ByobNet

from genets.networks.build import HUB_TAG, TIMM_NAMES, create, timm_config
from genets.structure import zoo

__all__: list[str] = []  # timm adds the names that it registers


def _tagged(name: str) -> str:
    return f"{name}.{HUB_TAG}" if name in TIMM_NAMES else name


# timm looks for the configuration of a registered network under this name in this module.
default_cfgs = generate_default_cfgs(
    {_tagged(name): timm_config(structure, name) for name, structure in zoo.items()}
)


def _entry_point(name: str) -> Callable[..., ByobNet]:
    def network(pretrained: bool = False, pretrained_cfg: Any = None, **options: Any) -> ByobNet:
        return create(name, zoo[name], pretrained_cfg, pretrained=pretrained, **options)

    network.__name__ = network.__qualname__ = name
    network.__doc__ = f"`{name}` of the zoo: {zoo[name]}"
    return network


for _name in zoo:
    register_model(_entry_point(_name))

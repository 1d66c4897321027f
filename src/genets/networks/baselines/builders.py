"""Where a baseline's network comes from, by the first word of its `network`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import timm
from torch import nn

from genets.core.errors import GenetsError
from genets.networks.baselines.df import build_df
from genets.networks.baselines.dna import build_dna
from genets.networks.baselines.ofa import build_ofa
from genets.networks.build import HUB_FILE, build, reach_hub
from genets.structure import zoo
from genets.structure.block import check_integer

FROM_FACTS: Mapping[str, Callable[[str, int], nn.Module]] = {
    "dna": build_dna,
    "df": build_df,
    "ofa": build_ofa,
}


def build_network(
    name: str, network: str, options: Mapping[str, Any], num_classes: int, pretrained: bool
) -> nn.Module:
    """The network of the baseline `name`; `network` and `options` as in `baselines.toml`.

    Raises GenetsError: `num_classes` out of range, or no pretrained weights.
    """
    check_integer("num_classes", num_classes, 1, 10**7)
    library, _, own_name = network.partition(":")
    if library == "zoo":
        return build(zoo[own_name], num_classes, pretrained=pretrained)
    if library == "timm":
        return _from_timm(name, own_name, num_classes, pretrained)
    if pretrained:
        raise _no_weights(name)
    if library == "torchvision":
        import torchvision

        net: nn.Module = torchvision.models.get_model(own_name, num_classes=num_classes, **options)
        return net
    return FROM_FACTS[library](name, num_classes)


def _from_timm(name: str, own_name: str, num_classes: int, pretrained: bool) -> nn.Module:
    if not pretrained:
        return timm.create_model(own_name, num_classes=num_classes)
    config = timm.get_pretrained_cfg(own_name)
    if config is None or not config.hf_hub_id:
        raise _no_weights(name)
    try:
        reach_hub(config)
        return timm.create_model(
            own_name,
            pretrained=True,
            num_classes=num_classes,
            pretrained_cfg_overlay={"hf_hub_filename": HUB_FILE},
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise GenetsError(
            f"cannot load the pretrained weights of {name} from {config.hf_hub_id} on the "
            f"Hugging Face hub ({reason})"
        ) from error


def _no_weights(name: str) -> GenetsError:
    return GenetsError(f"no pretrained weights of {name} are known; leave pretrained out")

"""A structure becomes a timm ByobNet (paper, section 3.1 and Figure 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from timm.models import build_model_with_cfg, get_pretrained_cfg
from timm.models._pretrained import PretrainedCfg
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

from genets.core.errors import GenetsError, check_type, first_line, shown
from genets.core.host import available_bytes
from genets.structure import BLOCK_TYPES, Structure, SuperBlock, zoo
from genets.structure.block import check_integer
from genets.structure.cost import kernel_weights

# timm's names of the GENets of Table 2, which are the only structures with published weights.
TIMM_NAMES = {"genet_light": "gernet_s", "genet_normal": "gernet_m", "genet_large": "gernet_l"}
HUB_TAG = "idstcv_in1k"
HUB_FILE = "model.safetensors"  # given by name, so that timm never falls back to a pickle


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator, which draws fresh weights, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def build(
    structure: Structure,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    pretrained: bool = False,
) -> ByobNet:
    """Build the network of a structure.

    Fresh weights are drawn from torch's global generator as timm does it: He initialisation, and
    zero for the last norm of each residual branch. The inner width of a block (width times ratio)
    is rounded to a multiple of 8, as timm rounds it.

    Args:
        structure: The structure.
        num_classes: The number of logits.
        in_channels: The number of channels of the images.
        pretrained: Load the published ImageNet weights. Only structures with the stages of
            genet_light, genet_normal or genet_large have published weights. timm adapts the first
            convolution to `in_channels`, and leaves the classifier fresh where `num_classes` is
            not 1000.

    Returns:
        The network. It maps float images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        GenetsError: `structure` is no Structure, it has no published weights, they cannot be
            fetched, or the network does not fit into the memory.
        StructureError: A number is out of range.
    """
    check_type("structure", structure, Structure, "a Structure, such as genets.zoo['genet_light']")
    check_integer("num_classes", num_classes, 0, 10**7)
    check_integer("in_channels", in_channels, 1, 65536)
    if torch.get_default_device().type != "meta":
        check_memory(structure, num_classes)
    name = genet_name(structure)
    if pretrained and name is None:
        raise GenetsError(
            f"no pretrained weights exist for this structure; those with weights are "
            f"{', '.join(TIMM_NAMES)}"
        )
    variant = name or "genets"
    config = timm_config(structure, name)
    if not pretrained:
        return create(variant, structure, config, num_classes=num_classes, in_chans=in_channels)
    cure = (
        f"; a file can be used instead: --weights, or timm.create_model({name!r}, "
        f"pretrained=True, pretrained_cfg_overlay={{'file': PATH}})"
    )
    with from_hub(variant, config, cure):
        return create(
            variant, structure, config,
            pretrained=True, num_classes=num_classes, in_chans=in_channels,
        )  # fmt: skip


def check_memory(structure: Structure, num_classes: int) -> None:
    """Raise GenetsError where the weights do not fit into the memory; the system would kill us."""
    needed = 4 * (kernel_weights(structure) + structure.head.width * num_classes)
    free = available_bytes()
    if free is not None and needed > free:
        raise GenetsError(
            f"the weights of {shown(str(structure))} with {num_classes} classes need "
            f"{needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free"
        )


def create(
    variant: str,
    structure: Structure,
    pretrained_cfg: Any,
    *,
    pretrained: bool = False,
    **options: Any,
) -> ByobNet:
    """Create a network through timm; `options` are those of ByobNet and of timm."""
    # With its default of 32, ByobNet would turn further strides into dilation.
    options.setdefault("output_stride", structure.reduction)
    levels = structure.reduction.bit_length() - 1
    return build_model_with_cfg(
        ByobNet,
        variant,
        pretrained,
        pretrained_cfg=pretrained_cfg,
        model_cfg=model_config(structure),
        feature_cfg={"flatten_sequential": True, "out_indices": tuple(range(levels))},
        **options,
    )


def genet_name(structure: Structure) -> str | None:
    """The name of the GENet with the stages of this structure, at any resolution, or None."""
    return next((name for name in TIMM_NAMES if zoo[name].stages == structure.stages), None)


def timm_config(structure: Structure, name: str | None) -> PretrainedCfg:
    """timm's description of the network: its input, its preprocessing, the place of its weights."""
    side = -(-structure.resolution // structure.reduction)
    genet = get_pretrained_cfg("gernet_l")
    assert genet is not None
    hub_id = f"timm/{TIMM_NAMES[name]}.{HUB_TAG}" if name in TIMM_NAMES else None
    return replace(
        genet,
        architecture=None,
        tag=None,
        url=None,
        hf_hub_id=hub_id,
        hf_hub_filename=HUB_FILE if hub_id else None,
        input_size=(3, structure.resolution, structure.resolution),
        pool_size=(side, side),
    )


@contextmanager
def from_hub(name: str, config: PretrainedCfg, cure: str = "") -> Iterator[None]:
    """Turn a failed download of the weights of `name` into a GenetsError; `cure` ends it."""
    try:
        reach_hub(config)
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise GenetsError(
            f"cannot load the pretrained weights of {name} from {config.hf_hub_id} on the Hugging "
            f"Face hub ({first_line(error)}){cure}"
        ) from error


def reach_hub(config: PretrainedCfg) -> None:
    """Raise OSError at once where the weights are neither cached nor reachable.

    The hub's own download would try again for half a minute, with a message each time.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    assert config.hf_hub_id is not None
    if _is_cached(config.hf_hub_id):
        return
    try:
        get_hf_file_metadata(hf_hub_url(config.hf_hub_id, HUB_FILE))
    except Exception as error:  # the type depends on the hub's version and its HTTP client
        raise OSError(str(error)) from error


def has_cached_weights(structure: Structure) -> bool:
    """Whether the published weights of a GENet of this structure are on this machine."""
    hub_id = timm_config(structure, genet_name(structure)).hf_hub_id
    return hub_id is not None and _is_cached(hub_id)


def _is_cached(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, HUB_FILE), str)


# timm's name of each block type. `register_block` adds the block types of users.
BLOCKS: dict[str, Callable[..., ByoBlockCfg]] = {
    "XX": partial(ByoBlockCfg, "basic", gs=0),
    "BL": partial(ByoBlockCfg, "bottle", gs=0),
    "DW": partial(ByoBlockCfg, "bottle", gs=1),
}


def block_config(stage: SuperBlock) -> ByoBlockCfg:
    """The timm configuration of a super-block."""
    # timm's default kernel size is not stated, so the GENets' configurations equal timm's own.
    default = stage.kernel == 3 and BLOCK_TYPES[stage.type].layers_at is None
    kernel = None if default else {"kernel_size": stage.kernel}
    return BLOCKS[stage.type](
        d=stage.depth, c=stage.width, s=stage.stride, br=stage.ratio, block_kwargs=kernel
    )


def model_config(structure: Structure) -> ByoModelCfg:
    """The timm configuration of a structure."""
    return ByoModelCfg(
        blocks=tuple(block_config(stage) for stage in structure.super_blocks),
        stem_type="3x3",
        stem_pool=None,
        stem_chs=structure.stem.width,
        num_features=structure.head.width,
    )

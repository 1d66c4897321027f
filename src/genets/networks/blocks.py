"""Block types as timm's ByobNet has them (paper, section 3.1 and Figure 1)."""

from collections.abc import Callable
from functools import partial

from timm.models.byobnet import ByoBlockCfg, ByoModelCfg

from genets.structure import BLOCK_TYPES, Structure, SuperBlock

# What timm calls the blocks. It rounds the inner width (width times ratio) to a multiple of 8.
# `register_block` adds those of the user's own.
BLOCKS: dict[str, Callable[..., ByoBlockCfg]] = {
    "XX": partial(ByoBlockCfg, "basic", gs=0),
    "BL": partial(ByoBlockCfg, "bottle", gs=0),
    "DW": partial(ByoBlockCfg, "bottle", gs=1),
}


def block_config(stage: SuperBlock) -> ByoBlockCfg:
    """A super-block in timm's terms."""
    # No kernel size where timm's default is meant: the GENets' settings equal timm's own.
    default = stage.kernel == 3 and BLOCK_TYPES[stage.type].layers_at is None
    kernel = None if default else {"kernel_size": stage.kernel}
    return BLOCKS[stage.type](
        d=stage.depth, c=stage.width, s=stage.stride, br=stage.ratio, block_kwargs=kernel
    )


def model_config(structure: Structure) -> ByoModelCfg:
    """The structure in timm's terms."""
    return ByoModelCfg(
        blocks=tuple(block_config(stage) for stage in structure.super_blocks),
        stem_type="3x3",
        stem_pool=None,
        stem_chs=structure.stem.width,
        num_features=structure.head.width,
    )

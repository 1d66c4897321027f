"""1x1 convolutions with a stride, which oneDNN may train wrongly.

The backward pass of oneDNN 3.13 (PyTorch 2.15) writes past the end of its memory on a CPU with
AVX-512, where the channels are last, few and no multiple of 8, and the maps are large, as behind
the stem of `genet_light` (oneDNN issue 6035). Without a stride, on every second row and column of
the maps, such a convolution gives the same outputs, and is at least as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Subsampling(torch.autograd.Function):
    """Leaves rows and columns out. The gradient keeps the memory layout; that of a slice does not.

    Takes maps (N, C, H, W) and the stride of rows and columns, and gives
    (N, C, ceil(H / stride), ceil(W / stride)).
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, stride: tuple[int, int]) -> Tensor:
        is_last = maps.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if is_last else torch.contiguous_format
        ctx.shape, ctx.stride = maps.shape, stride
        return maps[..., :: stride[0], :: stride[1]].contiguous(memory_format=ctx.layout)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.layout
        ).zero_()
        whole[..., :: ctx.stride[0], :: ctx.stride[1]] = gradient
        return whole, None


class SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution that takes its stride before it is computed."""

    def forward(self, input: Tensor) -> Tensor:
        maps = Subsampling.apply(input, self.stride)
        return F.conv2d(maps, self.weight, self.bias)


def find_strided_pointwise(net: nn.Module) -> list[nn.Conv2d]:
    """Find the 1x1 convolutions of a network that have a stride; on a GPU, none counts."""
    return [
        module
        for module in net.modules()
        if type(module) is nn.Conv2d
        and module.weight.is_cpu
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.padding == (0, 0)
        and module.groups == 1
    ]


@contextmanager
def subsampling_before(convolutions: Sequence[nn.Conv2d]) -> Iterator[None]:
    """Let 1x1 convolutions take their strides before they are computed, within a block.

    After it they are plain convolutions again, which can be folded, exported and timed.
    """
    for convolution in convolutions:
        convolution.__class__ = SubsampledConv2d
    try:
        yield
    finally:
        for convolution in convolutions:
            convolution.__class__ = nn.Conv2d

"""1x1 convolutions with a stride are trained without it, with the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from genets.networks import build
from genets.structure import zoo
from genets.training import make_recipe
from genets.training.strided_pointwise import find_strided_pointwise, subsampling_before
from genets.training.student import Student


class StridedBackward(TorchDispatchMode):
    """Counts the backward passes of 1x1 convolutions, and of those with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.pointwise = self.strided = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.convolution_backward.default:
            weight, stride = args[2], args[4]
            if tuple(weight.shape[2:]) == (1, 1):
                self.pointwise += 1
                self.strided += stride != [1, 1]
        return func(*args, **(kwargs or {}))


def gradients(conv: nn.Module, images: Tensor) -> list[Tensor]:
    inputs = images.clone(memory_format=torch.preserve_format).requires_grad_()
    output = conv(inputs)
    (output * torch.linspace(-1, 1, output.numel()).double().view(output.shape)).sum().backward()
    assert inputs.grad is not None
    return [output, inputs.grad, *(p.grad for p in conv.parameters() if p.grad is not None)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("stride", "size"), [((2, 2), (6, 6)), ((2, 3), (7, 5)), ((3, 1), (1, 4))])
def test_outputs_and_gradients_are_those_of_the_strided_convolution(
    layout: torch.memory_format, stride: tuple[int, int], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 5, *size, generator=generator).double()
    images = images.contiguous(memory_format=layout)
    own = nn.Conv2d(5, 3, 1, stride).double()
    wanted = gradients(own, images)
    other = copy.deepcopy(own)
    other.zero_grad()
    with subsampling_before(find_strided_pointwise(other)), StridedBackward() as seen:
        found = gradients(other, images)
    assert (seen.pointwise, seen.strided) == (1, 0)
    assert type(other) is nn.Conv2d
    for one, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, expected)
    if layout is torch.channels_last:
        assert found[1].is_contiguous(memory_format=layout), "the gradient keeps the layout"


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, 2),
        nn.Conv2d(4, 4, 1, 2, padding=1),
        nn.Conv2d(4, 4, 1, 2, groups=2),
    ],
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    assert find_strided_pointwise(conv) == []


def test_a_training_step_has_no_strided_pointwise_convolution() -> None:
    net = build(zoo["genet_light"], 2)
    student = Student(net, make_recipe({"epochs": 1}), "cpu")
    student.begin_epoch()
    with StridedBackward() as seen:
        student.step(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), None, 0.1, 1)
    assert seen.pointwise > 0
    assert seen.strided == 0

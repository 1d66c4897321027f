"""Inherited weights: wider and deeper networks compute the same function; others keep what counts.

The oracle is the MasterNet's own output, or a forward pass in which channels or blocks are cut by
hand.
"""

import pytest
import torch
from timm.models.byobnet import ByobNet
from torch import nn

from genets.networks import build
from genets.networks.channels import MasterChannels, TrainedSuperBlock
from genets.networks.inheritance import inherit
from genets.structure import Structure

MASTER = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*3 DW3x64r3*2 Conv1x48 @16")


def set_random(net: nn.Module, seed: int = 0) -> None:
    """Random weights and statistics, also where timm starts with zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.3, generator=generator)


@pytest.fixture(scope="module")
def master_net() -> ByobNet:
    net = build(MASTER, 5).eval()
    set_random(net)
    return net


@pytest.fixture(scope="module")
def channels(master_net: ByobNet) -> MasterChannels:
    return MasterChannels(master_net, MASTER)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def inherited(text: str, channels: MasterChannels, **more: TrainedSuperBlock) -> ByobNet:
    structure = Structure.parse(text)
    net = build(structure, 5).eval()
    inherit(net, structure, channels, {int(key[1:]): value for key, value in more.items()})
    return net


def test_an_unchanged_structure_inherits_every_tensor(
    master_net: ByobNet, channels: MasterChannels
) -> None:
    own = master_net.state_dict()
    for name, tensor in inherited(str(MASTER), channels).state_dict().items():
        assert torch.equal(tensor, own[name]), name


@pytest.mark.parametrize(
    "text",
    [
        "Conv3x16s2 XX3x24*2 XX3x32s2*4 BL3x96s2r0.25*5 DW3x64r3*4 Conv1x48 @16",
        "Conv3x20s2 XX3x32 XX3x48s2*2 BL3x136s2r0.25*3 DW3x80r3*2 Conv1x60 @16",
        "Conv3x16s2 XX5x24 XX5x32s2*2 BL5x96s2r0.25*3 DW5x64r3*2 Conv1x48 @16",
        "Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.5*3 DW3x64r6*2 Conv1x48 @16",
        "Conv3x24s2 XX5x40*2 XX3x32s2*3 BL5x104s2r0.5*4 DW5x72r6*3 Conv1x64 @16",
    ],
    ids=["deeper", "wider", "larger kernels", "larger ratios", "all"],
)
def test_a_larger_network_computes_the_same_function(
    text: str, master_net: ByobNet, channels: MasterChannels, images: torch.Tensor
) -> None:
    net = inherited(text, channels)
    with torch.inference_mode():
        torch.testing.assert_close(net(images), master_net(images), rtol=1e-5, atol=1e-5)


def test_added_channels_and_blocks_can_learn(channels: MasterChannels) -> None:
    net = inherited("Conv3x16s2 XX3x40*2 XX3x32s2*2 BL3x96s2r0.25*3 DW3x64r3*2 Conv1x48 @16",
                    channels)  # fmt: skip
    net(torch.randn(4, 3, 16, 16)).square().sum().backward()
    reads_added = net.stages[1][0].conv1_kxk.conv.weight.grad[:, 24:]
    added_block = net.stages[0][1].conv2_kxk.bn.weight.grad
    assert reads_added.abs().max() > 0
    assert added_block is not None
    assert added_block.abs().max() > 0


def test_unused_channels_are_cut_without_a_trace(images: torch.Tensor) -> None:
    """Output channels and inner channels that nothing reads are the first that are cut."""
    net = build(MASTER, 5).eval()
    set_random(net)
    with torch.no_grad():
        readers = [block.conv1_1x1 for block in net.stages[2][1:]]
        readers += [net.stages[3][0].conv1_1x1, net.stages[3][0].shortcut]
        for reader in readers:
            reader.conv.weight[:, 3::4] = 0
        for block in net.stages[3]:
            block.conv3_1x1.conv.weight[:, ::3] = 0
        # The inner width of BL3x72 is rounded to 24, that of BL3x96.
        narrow = inherited(
            "Conv3x16s2 XX3x24 XX3x32s2*2 BL3x72s2r0.25*3 DW3x64r2*2 Conv1x48 @16",
            MasterChannels(net, MASTER),
        )
        torch.testing.assert_close(narrow(images), net(images), rtol=1e-5, atol=1e-5)


def test_a_narrower_stage_keeps_the_channels_with_the_most_influence() -> None:
    """The influence grows with the weights that read a channel and with its own values."""
    net = build(MASTER, 5).eval()
    set_random(net)
    read, bright = torch.arange(0, 16, 2), torch.arange(1, 16, 2)
    with torch.no_grad():
        for layer in net.stages[1].modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.fill_(1)
                layer.bias.zero_()
        for reader in (net.stages[2][0].conv1_1x1, net.stages[2][0].shortcut):
            reader.conv.weight[:, read] *= 10
        net.stages[1][1].conv2_kxk.bn.bias[bright] = 30
    assert MasterChannels(net, MASTER).of_stage(1, 16).tolist() == [*range(16)]


def test_blocks_with_the_least_effect_are_left_out(images: torch.Tensor) -> None:
    net = build(MASTER, 5).eval()
    set_random(net)
    with torch.no_grad():
        norm = net.stages[2][1].conv3_1x1.bn
        norm.weight.zero_()
        norm.bias.zero_()
    shallow = inherited(
        "Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*2 DW3x64r3*2 Conv1x48 @16",
        MasterChannels(net, MASTER),
    )
    with torch.inference_mode():
        torch.testing.assert_close(shallow(images), net(images), rtol=1e-5, atol=1e-5)


def test_a_smaller_kernel_is_the_centre_of_the_larger_one() -> None:
    large = Structure.parse(str(MASTER).replace("XX3x24", "XX5x24"))
    net = build(large, 5)
    set_random(net)
    small = inherited(str(MASTER), MasterChannels(net, large))
    kernel = net.stages[0][0].conv1_kxk.conv.weight
    assert torch.equal(small.stages[0][0].conv1_kxk.conv.weight, kernel[:, :, 1:-1, 1:-1])


def test_another_type_inherits_the_shortcut_and_adds_zero(
    master_net: ByobNet, channels: MasterChannels, images: torch.Tensor
) -> None:
    net = inherited("Conv3x16s2 XX3x24 BL3x32s2r0.5*2 BL3x96s2r0.25*3 DW3x64r3*2 Conv1x48 @16",
                    channels)  # fmt: skip
    with torch.inference_mode():
        before = master_net.stages[0](master_net.stem(images))
        expected = master_net.stages[1][0].shortcut(before).relu()
        torch.testing.assert_close(net.stages[1](net.stages[0](net.stem(images))), expected)


def test_an_identity_shortcut_becomes_a_projection_of_the_same_function(
    images: torch.Tensor,
) -> None:
    """The first block of a stage has an identity shortcut only if it keeps the width."""
    master = Structure.parse("Conv3x16s2 XX3x16 XX3x32s2 Conv1x48 @16")
    net = build(master, 5).eval()
    set_random(net)
    wider = inherited("Conv3x16s2 XX3x24 XX3x32s2 Conv1x48 @16", MasterChannels(net, master))
    with torch.inference_mode():
        torch.testing.assert_close(wider(images), net(images), rtol=1e-4, atol=1e-5)


def test_stages_that_an_identity_shortcut_links_keep_the_same_channels(
    images: torch.Tensor,
) -> None:
    """The last super-block begins with an identity shortcut, as that of genet_normal does."""
    master = Structure.parse("Conv3x16s2 XX3x24 DW3x32s2r3*2 DW3x32r3*2 Conv1x48 @16")
    net = build(master, 5).eval()
    set_random(net)
    unread = torch.arange(1, 32, 2)
    with torch.no_grad():
        for block in (net.stages[1][1], *net.stages[2]):  # only the head reads the channels
            block.conv1_1x1.conv.weight.zero_()
        net.final_conv.conv.weight[:, unread] = 0
        narrower = inherited("Conv3x16s2 XX3x24 DW3x16s2r6*2 DW3x16r6*2 Conv1x48 @16",
                             MasterChannels(net, master))  # fmt: skip
        torch.testing.assert_close(narrower(images), net(images), rtol=1e-4, atol=1e-5)


def test_an_identity_shortcut_of_a_trained_super_block_becomes_a_projection(
    master_net: ByobNet, channels: MasterChannels, images: torch.Tensor
) -> None:
    """The trained super-block is as wide as its input, and adds its inputs to other channels."""
    text = "Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*3 DW3x64r3*2 Conv1x48 @16"
    trial = text.replace("XX3x24", "XX3x16")
    in_trial = inherited(trial, channels)
    assert in_trial.stages[0][0].shortcut is not None
    assert channels.of_stage(0, 16).tolist() != [*range(16)]
    kept = TrainedSuperBlock(Structure.parse(trial).stage(0), in_trial.stages[0].state_dict())
    net = inherited(trial.replace("Conv3x16s2", "Conv3x24s2"), channels, s0=kept)
    with torch.inference_mode():
        torch.testing.assert_close(net(images), in_trial(images), rtol=1e-4, atol=1e-5)


def test_a_trained_super_block_replaces_the_own_one(
    master_net: ByobNet, channels: MasterChannels, images: torch.Tensor
) -> None:
    """A super-block of other widths fits, because channels have the same numbers everywhere."""
    trial = MASTER.with_stage(2, Structure.parse(
        "Conv3x16s2 XX3x24 XX3x32s2*2 DW3x48s2r3*2 DW3x64r3*2 Conv1x48 @16").stage(2))  # fmt: skip
    in_trial = build(trial, 5).eval()
    set_random(in_trial, seed=2)
    inherit(in_trial, trial, channels)
    set_random(in_trial.stages[2], seed=3)
    kept = TrainedSuperBlock(trial.stage(2), in_trial.stages[2].state_dict())
    net = inherited(str(trial), channels, s2=kept)
    with torch.inference_mode():
        torch.testing.assert_close(net(images), in_trial(images))
    narrower = inherited(str(trial).replace("DW3x48", "DW3x40"), channels, s2=kept)
    places = [channels.of_stage(2, 48).tolist().index(number)
              for number in channels.of_stage(2, 40).tolist()]  # fmt: skip
    assert torch.equal(narrower.stages[2][0].conv3_1x1.bn.bias,
                       in_trial.stages[2][0].conv3_1x1.bn.bias[places])  # fmt: skip


def test_neighbours_of_a_narrower_stage_read_its_channels(
    master_net: ByobNet, channels: MasterChannels
) -> None:
    net = inherited(str(MASTER).replace("XX3x32", "XX3x16"), channels)
    kept = channels.of_stage(1, 16)
    assert len(kept) == 16
    assert torch.equal(net.stages[2][0].conv1_1x1.conv.weight,
                       master_net.stages[2][0].conv1_1x1.conv.weight[:, kept])  # fmt: skip

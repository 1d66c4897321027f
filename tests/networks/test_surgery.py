import pytest
import torch

from genets.networks import build
from genets.networks.surgery import inherit_weights, split_at
from genets.structure import Structure, SuperBlock

MASTER = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*2 DW3x64r3 Conv1x48 @16")


@pytest.fixture(scope="module")
def master_net() -> torch.nn.Module:
    net = build(MASTER, 5).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return net


@pytest.mark.parametrize("index", MASTER.indices)
def test_both_parts_together_give_the_logits(index: int) -> None:
    net = build(MASTER, 5).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    before, after = split_at(net, index)
    with torch.inference_mode():
        assert torch.equal(after(before(images)), net(images))


def test_a_network_of_the_same_structure_inherits_everything(master_net: torch.nn.Module) -> None:
    net = build(MASTER, 5)
    inherit_weights(net, master_net)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, master_net.state_dict()[name]), name


@pytest.mark.parametrize(("index", "name_of_it"), [(-1, "stem."), (1, "stages.1."),
                                                   (4, "final_conv.")])  # fmt: skip
def test_fresh_stages_keep_their_own_weights(
    master_net: torch.nn.Module, index: int, name_of_it: str
) -> None:
    net = build(MASTER, 5)
    own = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    inherit_weights(net, master_net, fresh_stages={index})
    assert any(name.startswith(name_of_it) for name in own)
    for name, tensor in net.state_dict().items():
        source = own if name.startswith(name_of_it) else master_net.state_dict()
        assert torch.equal(tensor, source[name]), name


@pytest.mark.parametrize("width", [48, 160])
def test_layers_of_another_width_inherit_the_common_channels(
    master_net: torch.nn.Module, width: int
) -> None:
    wider = MASTER.with_stage(2, SuperBlock("BL", 2, width, 2, 3, 0.25))
    net = build(wider, 5)
    before = net.stages[3][0].conv1_1x1.conv.weight.clone()
    inherit_weights(net, master_net, fresh_stages={2})
    read = net.stages[3][0].conv1_1x1.conv.weight
    source = master_net.state_dict()["stages.3.0.conv1_1x1.conv.weight"]
    both = min(width, 96)
    assert torch.equal(read[:, :both], source[:, :both])
    assert torch.equal(read[:, both:], before[:, both:])


def test_another_kernel_size_is_not_inherited(master_net: torch.nn.Module) -> None:
    other = build(MASTER.with_stage(0, SuperBlock("XX", 1, 24, 1, 5)), 5)
    before = other.stages[0][0].conv1_kxk.conv.weight.clone()
    inherit_weights(other, master_net)
    assert torch.equal(other.stages[0][0].conv1_kxk.conv.weight, before)

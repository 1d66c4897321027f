"""Weights for timing: every layer's output has a size that fp16 holds."""

import pytest
import torch
from torch import nn

from genets.latency.predictor.probes import (
    BlockProbe,
    OverheadProbe,
    StemOrHeadProbe,
    build_for_timing,
)
from genets.networks.baselines import baselines
from genets.networks.fuse import fold_batchnorm
from genets.networks.random_weights import fill_weights, is_fillable, materialise
from genets.structure import Block, Structure, zoo

LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
STRUCTURES = [
    *("genet_light", "master_small"),
    "Conv3x8s2 XX3x8s2 XX3x8 Conv1x8 @16",
    "Conv3x32s2 XX3x32s2*20 XX5x48s2*20 Conv1x64 @16",
    "Conv3x32s2 BL3x64s2r0.25*20 BL5x48s2r0.5*20 Conv1x64 @16",
    "Conv3x32s2 DW3x32s2r6*20 DW5x48s2r3*20 Conv1x64 @16",
    "Conv3x16s2 XX3x16 BL3x32s2r0.5*6 DW3x32s2r3*5 XX3x128s2*2 DW7x64r3*4 Conv1x256 @32",
]


def layer_outputs(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    outputs: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, LAYERS):
            module.register_forward_hook(lambda *words: outputs.append(words[-1]))
    with torch.no_grad():
        network.eval()(images)
    return outputs


def images_for(network: nn.Module, side: int) -> torch.Tensor:
    channels = next(m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("text", STRUCTURES)
@pytest.mark.parametrize("folded", [False, True])
def test_every_layer_keeps_the_size_of_the_values(text: str, folded: bool) -> None:
    structure = zoo[text] if text in zoo else Structure.parse(text)
    network: nn.Module = build_for_timing(structure, 10)
    if folded:
        network = fold_batchnorm(network)
    outputs = layer_outputs(network, images_for(network, min(structure.resolution, 64)))
    assert len(outputs) > 4
    for values in outputs:
        assert 1e-3 < values.std().item() < 1e3
        assert values.abs().max().item() < 3e4, "fp16 holds values up to 65504"


@pytest.mark.parametrize(
    "probe",
    [
        BlockProbe(0, Block("XX"), 24, 40, 2, 16, 3),
        BlockProbe(0, Block("BL", 5, 0.25), 64, 32, 1, 8, 1),
        BlockProbe(0, Block("DW", 3, 6), 16, 16, 1, 8, 10),
        OverheadProbe(16, 8, 3),
        StemOrHeadProbe("stem", 3, 16, 16),
        StemOrHeadProbe("head", 32, 64, 4),
    ],
    ids=str,
)
def test_the_values_of_probes(probe: BlockProbe | OverheadProbe | StemOrHeadProbe) -> None:
    network = probe.network(10) if isinstance(probe, StemOrHeadProbe) else probe.network()
    for values in layer_outputs(network, images_for(network, probe.resolution)):
        assert 1e-3 < values.std().item() < 1e3


def test_no_parameter_is_zero_and_the_seed_decides() -> None:
    first, second = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3)
    fill_weights(first, 3)
    fill_weights(second, 3)
    assert torch.equal(first.weight, second.weight)
    fill_weights(second, 4)
    assert not torch.equal(first.weight, second.weight)
    for parameter in build_for_timing(zoo["master_small"], 10).parameters():
        assert bool((parameter != 0).any())


def test_torchs_own_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_for_timing(zoo["master_small"], 10)
    assert torch.equal(torch.rand(3), expected)


class Table(nn.Module):
    """It has values that only its constructor knows."""

    def __init__(self, *, registered: bool) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        if registered:
            self.register_buffer("places", torch.arange(3))
        else:
            self.places = torch.arange(3)


@pytest.mark.parametrize("registered", [True, False])
def test_a_network_with_values_of_its_constructor_is_not_fillable(registered: bool) -> None:
    with torch.device("meta"):
        assert not is_fillable(Table(registered=registered))
        assert is_fillable(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    assert not is_fillable(nn.Conv2d(3, 3, 1)), "it is on the CPU"


@pytest.mark.parametrize("name", ["MobileNetV2-0.25", "ResNet-18"])
def test_a_network_of_timm_from_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        network = baselines[name].network()
    assert is_fillable(network)
    materialise(network, "cpu", 0)
    outputs = layer_outputs(network, images_for(network, 64))
    assert all(torch.isfinite(values).all() and values.std() > 1e-3 for values in outputs)

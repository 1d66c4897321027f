"""The number format of trainings, and steps without waiting for the device."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from genets.data import load_data
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.training import TrialSettings
from genets.networks import build
from genets.structure import Structure
from genets.training import FeatureSplit, Recipe, RunRecipe, RunSettings, train, train_together
from genets.training import features as features_module
from genets.training.resources import KEPT_SHARE, max_kept_bytes, usual_precision
from genets.training.run.folder import load_settings
from genets.training.step import repeatable
from genets.training.train_network import train_network

TINY = Structure.parse("Conv3x8s2 XX3x8 DW3x8r2 Conv1x16 @8")
BF16_RECIPE = Recipe(epochs=1, batch_size=64, learning_rate=0.4, precision="bf16")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Puts GPUs into this machine, each with or without bf16."""

    def put(*has_bf16: bool) -> None:
        current = [0]

        class Device(nullcontext):
            def __init__(self, device: str) -> None:
                super().__init__()
                current[0] = torch.device(device).index

        monkeypatch.setattr("genets.latency.target._may_have_gpu", lambda: bool(has_bf16))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(has_bf16))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(has_bf16))
        monkeypatch.setattr(torch.cuda, "device", Device)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: has_bf16[current[0]])

    return put


@pytest.mark.parametrize(
    ("has_bf16", "device", "precision"),
    [
        ((), "auto", "fp32"),
        ((True,), "cpu", "fp32"),
        ((True,), "auto", "bf16"),
        ((False,), "cuda", "fp32"),
        ((True, False), "cuda", "fp32"),  # trials run on both
        ((True, False), "cuda:0", "bf16"),
        ((True, False), "cuda:1", "fp32"),
        ((True,), "cuda:5", "fp32"),  # refused later
    ],
)
def test_bf16_is_chosen_where_every_gpu_has_it(gpus, has_bf16, device, precision) -> None:
    gpus(*has_bf16)
    assert usual_precision(device) == precision
    cpu = {"device": "cpu"}
    settings = SearchSettings(data="digits", budget="1x", target=cpu, training_device=device)
    trainings = settings.master_training, settings.trial_training, settings.final_training
    assert {training.precision for training in trainings} == {precision}
    assert {training.recipe().precision for training in trainings} == {precision}


def test_a_study_records_its_precision_and_keeps_it_on_another_machine(gpus) -> None:
    gpus(True)
    cpu = {"device": "cpu"}
    given = {"trial_training": {"precision": "fp32"}}
    settings = SearchSettings(data="digits", budget="1x", target=cpu, **given)
    gpus()
    again = SearchSettings.from_toml(settings.to_toml())
    assert again.trial_training.precision == "fp32"
    assert again.final_training.precision == "bf16"


def test_a_study_that_records_no_precision_was_trained_in_fp32(gpus) -> None:
    gpus()
    text = SearchSettings(data="digits", budget="1x").to_toml()
    older = "\n".join(line for line in text.splitlines() if line != 'precision = "fp32"')
    older += '\nprecision = "fp32"'  # of the target, which is the last table
    gpus(True)
    settings = SearchSettings.from_toml(older)
    assert settings.trial_training.precision == settings.master_training.precision == "fp32"


def test_outside_a_search_the_default_is_fp32() -> None:
    assert TrialSettings().recipe().precision == "fp32"


def test_a_run_records_its_precision(tmp_path) -> None:
    settings = RunSettings(
        network=str(TINY), data="digits", recipe=RunRecipe(epochs=1, batch_size=512)
    )
    assert settings.recipe.precision == "auto"
    train_network(settings, tmp_path / "run", device="cpu")
    assert load_settings(tmp_path / "run").recipe.precision == "fp32"


def test_a_run_keeps_its_precision_on_another_device(tmp_path) -> None:
    def settings(**fields) -> RunSettings:
        recipe = RunRecipe(epochs=1, batch_size=512, **fields)
        return RunSettings(network=str(TINY), data="digits", recipe=recipe)

    first = train_network(settings(precision="bf16"), tmp_path / "run", device="cpu")
    again = train_network(settings(), tmp_path / "run", device="cpu")
    assert again.test == first.test
    assert load_settings(tmp_path / "run").recipe.precision == "bf16"


def test_a_run_that_records_no_precision_was_trained_in_fp32() -> None:
    recipe = RunRecipe(epochs=1, precision="bf16")
    record = RunSettings(network=str(TINY), data="digits", recipe=recipe).to_json()
    assert RunSettings.from_json(record).recipe.precision == "bf16"
    del record["recipe"]["precision"]
    assert RunSettings.from_json(record).recipe.precision == "fp32"


def make_net(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(TINY, 10)


def test_in_bf16_each_network_learns_as_it_would_alone() -> None:
    """The same code as on a GPU; a trial gives the same number alone or in a group."""
    data = load_data("digits", 8)
    together = [make_net(seed) for seed in range(3)]
    front = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()).requires_grad_(False)
    split = FeatureSplit(data.train, front, "cpu", "bf16")
    assert train_together(together, split, BF16_RECIPE, seed=4) == [None] * 3
    alone = make_net(1)
    train(alone, FeatureSplit(data.train, front, "cpu", "bf16"), BF16_RECIPE, seed=4)
    other = make_net(1)
    train(other, FeatureSplit(data.train, front), replace(BF16_RECIPE, precision="fp32"), seed=4)
    name = "stages.0.0.conv1_kxk.conv.weight"
    assert torch.equal(alone.state_dict()[name], together[1].state_dict()[name])
    assert not torch.equal(alone.state_dict()[name], other.state_dict()[name])


def test_features_of_training_have_the_precision_and_those_of_scores_are_fp32() -> None:
    data = load_data("digits", 8)
    split = FeatureSplit(data.train, nn.Conv2d(3, 3, 1), "cpu", "bf16")
    assert next(split.batches(16, epoch=0))[0].dtype == torch.bfloat16
    assert next(split.batches(16))[0].dtype == torch.float32


@pytest.mark.parametrize(("room", "passes"), [(10**9, 1), (10**4, 3)])
def test_features_are_kept_only_where_they_fit(monkeypatch, room, passes) -> None:
    monkeypatch.setattr(features_module, "max_kept_bytes", lambda device: room)
    data = load_data("digits", 8)
    batches = len(list(data.validation.batches(256)))
    calls: list[int] = []

    class Front(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return images

    split = FeatureSplit(data.validation, Front())
    seen = [[batch[0] for batch in split.batches(256)] for _ in range(3)]
    assert len(calls) == passes * batches
    for first, *others in zip(*seen, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_the_cache_of_pytorch_has_room_for_kept_features(monkeypatch) -> None:
    figures = {"mem_get_info": (8, 80), "memory_reserved": 60, "memory_allocated": 28}
    for name, value in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    for device in ("cuda:1", torch.device("cuda")):
        assert max_kept_bytes(device) == KEPT_SHARE * (8 + 60 - 28)
    monkeypatch.setattr("genets.core.gpu.available_bytes", lambda: None)
    assert max_kept_bytes("cpu") == float("inf")


def test_repeatable_algorithms_are_for_the_block_alone() -> None:
    assert not torch.backends.cudnn.deterministic
    with repeatable():
        assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.deterministic


class ResidentSplit:
    """Batches on the GPU that were made before; a pass reads nothing."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(4, 32, 3, 8, 8, generator=generator).cuda()
        labels = torch.randint(10, (4, 32), generator=generator).cuda()
        self.kept = list(zip(images, labels, strict=True))

    def __len__(self) -> int:
        return 128

    def batches(self, batch_size: int, *, epoch: int | None = None, seed: int = 0):
        for number, batch in enumerate(self.kept):
            # The first epoch may initialise libraries. Between two steps, waiting is an error.
            torch.cuda.set_sync_debug_mode("error" if epoch and number else "default")
            yield batch
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_no_step_waits_for_the_gpu() -> None:
    split, nets = ResidentSplit(), [make_net(seed).cuda() for seed in range(2)]
    teacher = make_net(9).cuda().eval().requires_grad_(False)
    recipe = replace(BF16_RECIPE, epochs=2, batch_size=32)
    try:
        faults = train_together(nets, split, recipe, seed=0, teacher=teacher, device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert faults == [None, None]


@pytest.mark.gpu
def test_on_a_gpu_a_network_learns_the_same_alone_or_in_a_group() -> None:
    data = load_data("digits", 8, device="cuda")
    together = [make_net(seed) for seed in range(3)]
    train_together(together, data.train, BF16_RECIPE, seed=4, device="cuda")
    alone = make_net(1)
    train(alone, data.train, BF16_RECIPE, seed=4, device="cuda")
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, together[1].state_dict()[name]), name

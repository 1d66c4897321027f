import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from genets.core.errors import TrainingError
from genets.data import Batch
from genets.training import FeatureSplit, Recipe, RunRecipe, evaluate, train, train_together
from genets.training.floor import Judge
from genets.training.mixing import MixedSplit


class Blobs:
    """Two classes of 4-pixel images that differ in their mean."""

    reads = 0

    def __len__(self) -> int:
        return 64

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + (epoch or 0))
        labels = torch.arange(64) % 2
        images = torch.randn(64, 3, 2, 2, generator=generator) + labels.view(-1, 1, 1, 1)
        for start in range(0, 64, batch_size):
            self.reads += 1
            yield images[start : start + batch_size], labels[start : start + batch_size]


RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.5, label_smoothing=0.0)
# Every field that draws random numbers or keeps state.
FULL = RunRecipe(
    epochs=3, batch_size=16, learning_rate=0.05, optimizer="adamw", mixup=0.4, cutmix=1.0,
    ema_decay=0.8, linear_start=True,
)  # fmt: skip
OF_IMAGES = {"num_classes": 2, "judge": Judge(Blobs())}


def small_net(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def teacher(images: torch.Tensor) -> torch.Tensor:
    mean = images.mean(dim=(1, 2, 3))
    return torch.stack([-mean, mean], dim=1)


def test_each_network_learns_as_it_would_alone() -> None:
    together = [small_net(seed) for seed in range(3)]
    faults = train_together(together, Blobs(), RECIPE, seed=4, teacher=teacher)
    assert faults == [None] * 3
    for seed, net in enumerate(together):
        alone = small_net(seed)
        train(alone, Blobs(), RECIPE, seed=4, teacher=teacher)
        for name, tensor in alone.state_dict().items():
            assert torch.equal(tensor, net.state_dict()[name]), name
        assert not net.training


def test_batches_are_read_once_for_all() -> None:
    split = Blobs()
    train_together([small_net(seed) for seed in range(5)], split, RECIPE, seed=0)
    assert split.reads == 3 * 4


def test_a_network_that_fails_does_not_stop_the_others() -> None:
    broken = small_net(0)
    with torch.no_grad():
        broken[1].weight.fill_(math.nan)
    good, alone = small_net(1), small_net(1)
    epoch_losses: list[list[float]] = []
    faults = train_together(
        [broken, good],
        Blobs(),
        RECIPE,
        seed=0,
        on_epoch=lambda e, losses: epoch_losses.append([*losses]),
    )
    assert "the loss became nan in epoch 1, step 1" in str(faults[0])
    assert faults[1] is None
    assert all(math.isnan(first) and math.isfinite(second) for first, second in epoch_losses)
    train(alone, Blobs(), RECIPE, seed=0)
    assert torch.equal(good[1].weight, alone[1].weight)


def test_features_are_what_the_frozen_network_makes() -> None:
    frozen = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    split, features = Blobs(), FeatureSplit(Blobs(), frozen)
    assert len(features) == 64
    pairs = zip(split.batches(16, epoch=2), features.batches(16, epoch=2), strict=True)
    for (images, labels), (made, same) in pairs:
        assert torch.equal(made, frozen(images))
        assert torch.equal(labels, same)
    assert not frozen.training


def test_features_of_evaluation_are_made_once() -> None:
    inner = Blobs()
    features = FeatureSplit(inner, nn.Identity())
    scores = [evaluate(small_net(0), features, batch_size=32) for _ in range(3)]
    assert inner.reads == 2
    assert scores[0] == scores[1] == evaluate(small_net(0), Blobs(), batch_size=32)


def test_training_on_features_equals_training_with_a_frozen_front() -> None:
    front = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()).eval()
    back, whole = small_net(0), nn.Sequential(front, small_net(0))
    for parameter in front.parameters():
        parameter.requires_grad_(False)
    train(back, FeatureSplit(Blobs(), front), RECIPE, seed=1)
    train(whole, Blobs(), RECIPE, seed=1)
    torch.testing.assert_close(back[3].weight, whole[1][3].weight)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_teacher_is_called_once_for_a_batch(weight: float) -> None:
    asked: list[int] = []

    def counting(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return teacher(images)

    recipe = Recipe(epochs=1, batch_size=16, soft_label_weight=weight)
    train_together([small_net(0), small_net(1)], Blobs(), recipe, seed=0, teacher=counting)
    assert asked == ([] if weight == 0 else [16] * 4)


def test_with_every_field_each_network_learns_as_it_would_alone() -> None:
    together = [small_net(seed) for seed in range(3)]
    faults = train_together(together, Blobs(), FULL, seed=4, teacher=teacher, **OF_IMAGES)
    assert faults == [None] * 3
    for seed, net in enumerate(together):
        alone = small_net(seed)
        train(alone, Blobs(), FULL, seed=4, teacher=teacher, **OF_IMAGES)
        for name, tensor in alone.state_dict().items():
            assert torch.equal(tensor, net.state_dict()[name]), name
        assert not net.training


@pytest.mark.parametrize(
    "change",
    [
        {"mixup": 0.4},
        {"cutmix": 1.0},
        {"ema_decay": 0.8},
        {"optimizer": "adamw"},
        {"norm_statistics": "frozen"},
        {"linear_start": True},
    ],
)
def test_each_field_changes_the_training(change: dict[str, Any]) -> None:
    plain, changed = small_net(0), small_net(0)
    recipe = RunRecipe(epochs=2, batch_size=16, learning_rate=0.05)
    train(plain, Blobs(), recipe, seed=0)
    train(changed, Blobs(), replace(recipe, **change), seed=0, **OF_IMAGES)
    assert not torch.equal(plain[1].weight, changed[1].weight)
    statistics = changed[2].running_mean
    assert torch.equal(statistics, torch.zeros(8)) == (change == {"norm_statistics": "frozen"})


def test_the_average_of_the_weights_is_the_result() -> None:
    seen: list[torch.Tensor] = []
    net = small_net(0)
    recipe = RunRecipe(epochs=5, batch_size=64, learning_rate=0.5, ema_decay=0.6)
    train(net, Blobs(), recipe, seed=0, on_epoch=lambda *_: seen.append(net[3].bias.clone()))
    average = seen[0]  # timm warms the decay up: the first step is copied
    for step, bias in enumerate(seen[1:], 2):
        decay = min(0.6, 1 - step ** (-2 / 3))
        average = decay * average + (1 - decay) * bias
    torch.testing.assert_close(net[3].bias, average)


def test_the_frozen_part_sees_mixed_images() -> None:
    """A training on features of mixed images equals one with a frozen front."""
    front = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()).eval().requires_grad_(False)
    back, whole = small_net(0), nn.Sequential(front, small_net(0))
    recipe = RunRecipe(epochs=2, batch_size=16, learning_rate=0.5, mixup=0.4)
    train(back, FeatureSplit(Blobs(), front), recipe, seed=1, num_classes=2)
    train(whole, Blobs(), recipe, seed=1, num_classes=2)
    torch.testing.assert_close(back[3].weight, whole[1][3].weight)


def test_a_mixed_split_mixes_training_batches_alone() -> None:
    split = MixedSplit(Blobs(), FULL, 2, "cpu")
    (images, labels), *_ = split.batches(64, epoch=0, seed=3)
    (again, _), *_ = split.batches(64, epoch=0, seed=3)
    (plain, _), *_ = Blobs().batches(64, epoch=0, seed=3)
    assert torch.equal(images, again)
    assert not torch.equal(images, plain)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(64))
    assert labels.shape == (64, 2)
    for batch, same in zip(split.batches(16), Blobs().batches(16), strict=True):
        assert torch.equal(batch[0], same[0])
        assert torch.equal(batch[1], same[1])


def test_of_an_odd_batch_one_image_is_left_out() -> None:
    class Odd(Blobs):
        def batches(self, *words: Any, **options: Any) -> Iterator[Batch]:
            for images, labels in super().batches(*words, **options):
                yield images[:-1], labels[:-1]

    (images, labels), *_ = MixedSplit(Odd(), FULL, 2, "cpu").batches(64, epoch=0)
    assert len(images) == len(labels) == 62


def test_no_training_ends_below_its_linear_start() -> None:
    """A teacher that is always wrong leaves the linear model as the result."""

    def wrong(images: torch.Tensor) -> torch.Tensor:
        return -100 * teacher(images)

    recipe = replace(FULL, epochs=6, soft_label_weight=1.0)
    net, without = small_net(0), small_net(0)
    train(net, Blobs(), recipe, seed=0, teacher=wrong, **OF_IMAGES)
    train(without, Blobs(), replace(recipe, linear_start=False), seed=0, teacher=wrong, **OF_IMAGES)
    assert evaluate(without, Blobs()).top1 < 0.4 < 0.7 < evaluate(net, Blobs()).top1
    assert torch.equal(net[1].weight, small_net(0)[1].weight)


@pytest.mark.parametrize("change", [{"mixup": 0.4}, {"linear_start": True}])
def test_a_field_that_needs_the_classes_says_so(change: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=r"num_classes .*must be given for a recipe with"):
        train(small_net(0), Blobs(), RunRecipe(epochs=1, **change), seed=0)

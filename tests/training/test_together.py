import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from genets.data import Batch
from genets.training import FeatureSplit, Recipe, evaluate, train, train_together


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

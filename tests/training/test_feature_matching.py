"""Parts of a network that learn feature maps: a target that can be learned is found."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from genets.training.feature_matching import Learner, match_features


class Maps:
    """Sixty-four random maps (4, 5, 5), in a new order in each epoch."""

    def __init__(self) -> None:
        self.maps = torch.randn(64, 4, 5, 5, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.maps)

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(64, generator=torch.Generator().manual_seed(seed + (epoch or 0)))
        for start in range(0, 64, batch_size):
            chosen = order[start : start + batch_size]
            yield self.maps[chosen], chosen


def conv(outputs: int, seed: int) -> nn.Conv2d:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Conv2d(4, outputs, 1)


def everything(part: nn.Module, width: int) -> Learner:
    return Learner(part, torch.arange(width), torch.arange(width))


def learn(*learners: Learner, target: nn.Module, epochs: int = 60) -> list[Exception | None]:
    return [*match_features(learners, target, Maps(), epochs=epochs, batch_size=16, seed=3)]


def test_a_part_of_the_same_kind_finds_the_target() -> None:
    target, part = conv(3, seed=0), conv(3, seed=1)
    assert learn(everything(part, 3), target=target) == [None]
    torch.testing.assert_close(part.weight, target.weight, atol=0.02, rtol=0)
    torch.testing.assert_close(part.bias, target.bias, atol=0.02, rtol=0)


def test_channels_are_learned_at_their_places() -> None:
    """The part has one channel more than it learns, and learns two of three."""
    target, part = conv(3, seed=0), conv(3, seed=1)
    learner = Learner(part, torch.tensor([2, 0]), torch.tensor([0, 2]))
    learn(learner, target=target)
    torch.testing.assert_close(part.weight[[0, 2]], target.weight[[2, 0]], atol=0.02, rtol=0)
    assert (part.weight[1] - target.weight[1]).abs().max() > 0.1


def test_parts_learn_alone_and_together_alike() -> None:
    target, alone, together = conv(3, seed=0), conv(3, seed=1), conv(3, seed=1)
    learn(everything(alone, 3), target=target, epochs=2)
    learn(everything(conv(3, seed=2), 3), everything(together, 3), target=target, epochs=2)
    assert torch.equal(alone.weight, together.weight)


def test_no_epoch_changes_nothing() -> None:
    target, part = conv(3, seed=0), conv(3, seed=1)
    assert learn(everything(part, 3), target=target, epochs=0) == [None]
    assert torch.equal(part.weight, conv(3, seed=1).weight)


def test_the_target_does_not_change() -> None:
    target = conv(3, seed=0)
    learn(everything(conv(3, seed=1), 3), target=target, epochs=1)
    assert torch.equal(target.weight, conv(3, seed=0).weight)
    assert target.weight.grad is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_of_that_part_alone(value: float) -> None:
    target, broken, sound = conv(3, seed=0), conv(3, seed=1), conv(3, seed=2)
    with torch.no_grad():
        broken.weight[0] = value
    faults = learn(everything(broken, 3), everything(sound, 3), target=target, epochs=1)
    assert "feature maps" in str(faults[0])
    assert faults[1] is None

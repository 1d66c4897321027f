"""The floor of a training: its start, which is restored where its end is worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from genets.data import Split
from genets.training.score import Metric, Score, is_worse


@dataclass(frozen=True, slots=True)
class Judge:
    """The images and the metric that decide which of two states of a network is better.

    Attributes:
        images: The validation images.
        metric: The score on these images; see `is_worse`.
    """

    images: Split
    metric: Metric = Metric.TOP1


@dataclass(frozen=True, slots=True)
class Floor:
    """A network at the start of a training.

    Attributes:
        net: The network.
        weights: A copy of its weights at the start.
        score: Its score at the start.
        metric: See `Judge`.
    """

    net: nn.Module
    weights: dict[str, Tensor]
    score: Score
    metric: Metric

    @classmethod
    def take(cls, net: nn.Module, score: Score, metric: Metric) -> Self:
        """Keep the weights of a network and their score."""
        weights = {name: value.clone() for name, value in net.state_dict().items()}
        return cls(net, weights, score, metric)

    def restore_if_worse(self, end: Score | None) -> bool:
        """Restore the weights where the network is now worse.

        Args:
            end: The score of the network on the same images; None where it has no score, which is
                worse than any score.

        Returns:
            Whether the weights were restored.
        """
        if end is not None and not is_worse(end, self.score, self.metric):
            return False
        self.net.load_state_dict(self.weights)
        return True

"""The baselines by name: the networks with published figures, which can be built here."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from genets.networks.baselines.builders import build_network
from genets.structure.published import PublishedNetwork, PublishedNetworks


@dataclass(frozen=True, kw_only=True)
class Baseline(PublishedNetwork):
    """A network to compare with, and its published facts."""

    def network(self, num_classes: int = 1000, pretrained: bool = False) -> nn.Module:
        """Build the network.

        Blocks with several branches (RepViT, FastViT) have the form that is trained.
        `fold_batchnorm` makes the form that is deployed; measuring calls it.

        Args:
            num_classes: The number of logits.
            pretrained: Whether to load published weights.

        Returns:
            The network in eval mode; it maps float images (N, 3, H, W) to (N, num_classes).

        Raises:
            GenetsError: `num_classes` is out of range, the network has no published weights, or
                they cannot be fetched.
        """
        return build_network(
            self.name, self.network_from, self.options, num_classes, pretrained
        ).eval()


baselines = PublishedNetworks(Baseline)

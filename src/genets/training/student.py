"""A network in training: its optimizer, the average of its weights, and its linear start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from genets.core.errors import TrainingError
from genets.data import Split
from genets.training.linear_start import (
    classifier_weights,
    features_of,
    fit_linear,
    linear_classifier,
    set_classifier,
)
from genets.training.recipe import RunRecipe
from genets.training.score import Metric, Score, rank
from genets.training.step import make_optimizer, move, train_mode, train_step
from genets.training.strided_pointwise import find_strided_pointwise, subsampling_before
from genets.training.team import ALONE, Team

# The names of the tensors of a checkpoint begin with these.
NETWORK, AVERAGE, OPTIMIZER = "network.", "average.", "optimizer."


@dataclass(frozen=True, slots=True)
class LinearStart:
    """The result of a linear start.

    Attributes:
        score: The score of the network with the better classifier, on the validation images.
        loss: The cross-entropy of the training images without augmentation.
        images: The number of these images.
    """

    score: Score
    loss: float
    images: int


class Student:
    """A network in training.

    Args:
        net: The network. It is moved to `device`, and trained in place.
        recipe: The recipe.
        device: The device to train on.
        class_weights: See `class_weights_of`; of the whole training split.
        team: The processes that train the network together.

    Raises:
        GenetsError: All parameters of the network are frozen.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: RunRecipe,
        device: str | torch.device,
        class_weights: Tensor | None = None,
        team: Team = ALONE,
    ) -> None:
        move(net, device, channels_last=recipe.channels_last)
        self.net = net
        self._pointwise = find_strided_pointwise(net)
        self.recipe = recipe
        self.device = torch.device(device)
        self.optimizer = make_optimizer(net, recipe)
        self.team = team
        self._forward = team.wrap(net)
        self._class_weights = None if class_weights is None else class_weights.to(self.device)
        self.average = (
            ModelEmaV3(net, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        )

    @property
    def scored(self) -> nn.Module:
        """The network that is scored and saved: the moving average, where there is one."""
        return self.net if self.average is None else self.average.module

    def begin_epoch(self) -> None:
        train_mode(self.net, self.recipe.norm_statistics)

    def step(
        self, images: Tensor, labels: Tensor, soft_labels: Tensor | None, rate: float, number: int
    ) -> Tensor:
        """Do one step.

        Args:
            images: (N, 3, H, W), or the features of images.
            labels: Classes (N,), or probabilities (N, classes).
            soft_labels: The teacher's logits (N, classes), or None.
            rate: The learning rate.
            number: The number of this step since the training began, from 1.

        Returns:
            The loss, a scalar on the device.
        """
        with subsampling_before(self._pointwise):
            loss = train_step(
                self._forward,
                self.optimizer,
                images,
                labels,
                soft_labels,
                self.recipe,
                rate,
                class_weights=self._class_weights,
                backward=self.team.backward,
            )
        if self.average is not None:
            self.average.update(self.net, step=number)
        return loss

    def start_classifier(self, weight: Tensor, bias: Tensor) -> None:
        """Begin with this classifier; the average of the weights begins anew.

        Args:
            weight: (classes, features).
            bias: (classes,).
        """
        set_classifier(self.net, weight, bias)
        if self.average is not None:
            self.average.set(self.net)

    def start_linear(
        self, images: Split, num_classes: int, score: Callable[[], Score], *, metric: Metric
    ) -> LinearStart | None:
        """Begin with a linear model as classifier, unless the network's own is better.

        Its own is better where the weights were trained for the same classes.

        Args:
            images: The training images.
            num_classes: The number of classes.
            score: Scores the network on the validation images.
            metric: The score that decides which classifier is better.

        Returns:
            The start; None where the classifier is not one linear layer that reads one vector
            for an image. The network then starts as it is.

        Raises:
            TrainingError: A feature or a score is not finite.
        """
        classifier, recipe = linear_classifier(self.net), self.recipe
        if classifier is None:
            return None
        found = features_of(
            self.net,
            images,
            recipe.batch_size,
            self.device,
            channels_last=recipe.channels_last,
        )
        if found is None:
            return None
        features, labels = (torch.cat(each) for each in zip(*self.team.gather(found), strict=True))
        if not features.isfinite().all():  # of all processes, so that all end here
            raise TrainingError("the starting weights give features that are not finite")
        own, own_score = classifier_weights(classifier), score()
        fitted = None
        if self.team.is_first:
            balanced = recipe.class_weights == "balanced"
            fitted = fit_linear(features, labels, num_classes, balanced=balanced)
        fitted = self.team.gather(fitted)[0]
        assert fitted is not None
        self.start_classifier(*fitted)
        best = score()
        if rank(own_score, metric) > rank(best, metric):
            self.start_classifier(*own)
            fitted, best = own, own_score
        loss = float(F.cross_entropy(F.linear(features, *fitted), labels))
        return LinearStart(best, loss, len(labels))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, by the names that `load` reads."""
        tensors = {NETWORK + name: value for name, value in self.net.state_dict().items()}
        if self.average is not None:
            average = self.average.module.state_dict()
            tensors |= {AVERAGE + name: value for name, value in average.items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{OPTIMIZER}{index}.{name}": value for name, value in entries.items()
                        if isinstance(value, Tensor)}  # fmt: skip
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from the output of `tensors`."""
        self.net.load_state_dict(strip_prefix(NETWORK, tensors))
        if self.average is not None:
            self.average.module.load_state_dict(strip_prefix(AVERAGE, tensors))
        packed = self.optimizer.state_dict()
        packed["state"] = {}
        for key, value in strip_prefix(OPTIMIZER, tensors).items():
            index, _, name = key.partition(".")
            packed["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(packed)
        self._restore_layout()

    def _restore_layout(self) -> None:
        """Fused SGD needs the momentum in the same memory layout as the weights."""
        for parameter, entries in self.optimizer.state.items():
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    entries[name] = torch.empty_like(parameter).copy_(value)


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors whose names have a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }

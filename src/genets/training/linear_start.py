"""A classifier that starts as a linear model of the features of trained weights.

With few images, a fresh classifier spends the first steps of a training on random gradients, which
damage the trained weights behind it. A linear model on the features of the frozen network is
fitted in seconds, and fine-tuning then starts from its accuracy (linear probing, then fine-tuning:
Kumar et al. 2022).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from genets.data import Split
from genets.networks.source import classifier_names
from genets.training.step import move

# The C of scikit-learn, the inverse of the penalty, for features of unit deviation. In a trial with
# EfficientNet-Lite0 and 5, 20 and 200 photographs per class, it was within 1.5 points of the best
# of five values.
INVERSE_PENALTY = 0.01
MAX_ITERATIONS = 300
MAX_IMAGES = 50_000  # more images hardly change a linear model
LEAST_DEVIATION = 1e-3  # of a feature, so that a constant one is not divided by zero


def linear_classifier(net: nn.Module) -> nn.Linear | None:
    """The layer that gives the logits, if it is linear and the only one."""
    names = classifier_names(net)
    layer = net.get_submodule(names[0]) if len(names) == 1 else None
    return layer if isinstance(layer, nn.Linear) else None


def classifier_weights(classifier: nn.Linear) -> tuple[Tensor, Tensor]:
    """A copy of the weight (classes, F) and the bias (classes,) on the CPU."""
    weight = classifier.weight
    bias = weight.new_zeros(len(weight)) if classifier.bias is None else classifier.bias
    return weight.detach().cpu().clone(), bias.detach().cpu().clone()


def features_of(
    net: nn.Module,
    split: Split,
    batch_size: int,
    device: str | torch.device,
    *,
    channels_last: bool = True,
) -> tuple[Tensor, Tensor] | None:
    """The inputs of the linear classifier for the images of a split, without augmentation.

    At most about `MAX_IMAGES` images are taken, in batches that are spread evenly over the split.

    Args:
        net: The network, which is moved to `device` and put into eval mode.
        split: The images.
        batch_size: The images of a batch.
        device: The device to compute on.
        channels_last: See `RunRecipe`.

    Returns:
        Features (N, F), float32, and labels (N,), both on the CPU. None where the classifier reads
        something else than one vector for each image.
    """
    classifier = linear_classifier(net)
    assert classifier is not None
    move(net, device, channels_last=channels_last)
    net.eval()
    every = max(1, -(-len(split) // MAX_IMAGES))
    parts, all_labels = [], []
    with torch.no_grad(), _inputs_of(classifier) as inputs:
        for number, (images, labels) in enumerate(split.batches(batch_size)):
            if number % every:
                continue
            net(images.to(device, non_blocking=True))
            if [each.ndim for each in inputs] != [2]:
                return None
            parts.append(inputs.pop().float().cpu())
            all_labels.append(labels.cpu())
    return torch.cat(parts), torch.cat(all_labels)


@contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """The inputs of a layer, in the order of its calls."""
    inputs: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        yield inputs
    finally:
        hook.remove()


def fit_linear(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    inverse_penalty: float = INVERSE_PENALTY,
    balanced: bool = False,
) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression to features of unit deviation.

    Args:
        features: (N, F).
        labels: (N,), the classes.
        num_classes: The number of classes; those without an image get no weight.
        inverse_penalty: The C of scikit-learn.
        balanced: Whether all classes count the same, whatever their numbers of images.

    Returns:
        The weight (classes, F) and the bias (classes,) for the features as they are. Images of a
        single class give a model that always answers with this class.
    """
    from sklearn.exceptions import ConvergenceWarning  # a second, which few trainings need
    from sklearn.linear_model import LogisticRegression

    if labels.eq(labels[0]).all():  # scikit-learn refuses a single class
        constant = torch.full((num_classes,), -1.0)
        constant[labels[0]] = 0.0
        return torch.zeros(num_classes, features.shape[1]), constant
    x = features.double().numpy()
    mean, std = x.mean(axis=0), np.maximum(x.std(axis=0), LEAST_DEVIATION)
    model = LogisticRegression(
        C=inverse_penalty,
        max_iter=MAX_ITERATIONS,
        class_weight="balanced" if balanced else None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is a start
        model.fit((x - mean) / std, labels.numpy())
    scaled, offset = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives the log of the odds of the second class
        scaled, offset = (np.concatenate([-each, each]) / 2 for each in (scaled, offset))
    weight = np.zeros((num_classes, x.shape[1]))
    bias = np.full(num_classes, offset.min() - 1)
    weight[model.classes_] = scaled / std
    bias[model.classes_] = offset - (scaled / std) @ mean
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def set_classifier(net: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Give the linear classifier of a network these weights, in place."""
    classifier = linear_classifier(net)
    assert classifier is not None
    with torch.no_grad():
        classifier.weight.copy_(weight)
        if classifier.bias is not None:
            classifier.bias.copy_(bias)

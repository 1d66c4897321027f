"""Balanced class weights: each class counts the same, as if its images were repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genets.core.class_balance import balanced_weights
from genets.data import Batch, ImageData, Share, load_digits
from genets.data.split import JoinedSplit, normalised_as
from genets.training import FeatureSplit, Recipe, make_loss, train
from genets.training.recipe import make_recipe, named_recipe, recipes
from genets.training.step import class_weights_of

COUNTS = [4, 0, 2, 1]  # class 4 has no image either
LABELS = torch.tensor([0, 2, 0, 3, 0, 2, 0])
REPEATED = torch.tensor([0, 2, 4, 6, 1, 1, 5, 5, 3, 3, 3, 3])  # each class then has 4 images
BALANCED = Recipe(epochs=1, batch_size=len(LABELS), momentum=0.0, class_weights="balanced")


class Listed:
    """A split of given images and labels, in order."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self) -> Counter[int]:
        return Counter(self.labels.tolist())

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        yield from zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(len(LABELS), 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights() -> Tensor:
    return torch.tensor(balanced_weights(COUNTS))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_repeated_images(
    logits: Tensor, weights: Tensor, smoothing: float
) -> None:
    recipe = replace(BALANCED, label_smoothing=smoothing)
    found = make_loss(logits, LABELS, recipe, class_weights=weights)
    expected = F.cross_entropy(logits[REPEATED], LABELS[REPEATED], label_smoothing=smoothing)
    assert torch.allclose(found, expected)


def test_a_mixed_image_counts_as_its_parts_do(logits: Tensor, weights: Tensor) -> None:
    """With smoothing, too: the loss of a mixture is the mixture of the losses of its parts."""
    other, share = LABELS.flip(0), 0.3
    recipe = replace(BALANCED, label_smoothing=0.1)
    mixed = share * F.one_hot(LABELS, 5) + (1 - share) * F.one_hot(other, 5)
    parts = [make_loss(logits, labels, recipe, None, weights) for labels in (LABELS, other)]
    found = make_loss(logits, mixed, recipe, None, weights)
    assert torch.allclose(found, share * parts[0] + (1 - share) * parts[1])


def test_the_part_of_the_teacher_has_no_weights(logits: Tensor, weights: Tensor) -> None:
    teacher = logits.flip(0)
    recipe = replace(BALANCED, soft_label_weight=0.25)
    true = make_loss(logits, LABELS, recipe, None, weights)
    soft = F.cross_entropy(logits, teacher.softmax(1))
    found = make_loss(logits, LABELS, recipe, teacher, weights)
    assert torch.allclose(found, 0.75 * true + 0.25 * soft)


def test_an_image_counts_the_same_in_every_batch(logits: Tensor, weights: Tensor) -> None:
    """The mean over the shares of two processes is the loss of the whole batch."""
    parts = [
        make_loss(logits[part], LABELS[part], BALANCED, None, weights)
        for part in (slice(0, 1), slice(1, 2))
    ]
    whole = make_loss(logits[:2], LABELS[:2], BALANCED, None, weights)
    assert torch.allclose(sum(parts) / 2, whole)


def test_equal_classes_change_nothing(logits: Tensor) -> None:
    equal = torch.tensor(balanced_weights([3, 3, 3, 3, 3]))
    found = make_loss(logits, LABELS, BALANCED, None, equal)
    assert torch.allclose(found, make_loss(logits, LABELS, BALANCED))


def test_a_training_is_that_of_repeated_images() -> None:
    images = torch.randn(len(LABELS), 3, 2, 2, generator=torch.Generator().manual_seed(1))
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(12, 5)) for _ in range(3)]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    train(nets[0], Listed(images, LABELS), BALANCED, seed=0)
    scale = BALANCED.batch_size / len(REPEATED)  # the peak rate grows with the batch size
    repeated = replace(
        BALANCED,
        batch_size=len(REPEATED),
        learning_rate=scale * BALANCED.learning_rate,
        class_weights="none",
    )
    train(nets[1], Listed(images[REPEATED], LABELS[REPEATED]), repeated, seed=0)
    train(nets[2], Listed(images, LABELS), replace(BALANCED, class_weights="none"), seed=0)
    balanced, same, plain = (net[1].weight for net in nets)
    assert torch.allclose(balanced, same, atol=1e-6)
    assert not torch.allclose(balanced, plain, atol=1e-4)


@pytest.mark.parametrize("name", recipes())
def test_no_named_recipe_has_weights(name: str) -> None:
    assert make_recipe({"epochs": 9, **named_recipe(name)}).class_weights == "none"


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_digits(8, views=2)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_class_counts_are_those_of_a_pass(digits: ImageData, name: str) -> None:
    split = getattr(digits, name)
    counted = Counter(torch.cat([labels for _, labels in split.batches(500)]).tolist())
    assert split.class_counts() == counted
    halves = [load_digits(8, views=2, share=Share(number, 2)) for number in range(2)]
    assert [getattr(half, name).class_counts() for half in halves] == [counted, counted]
    joined = JoinedSplit((split, normalised_as(split, digits, (0.5,) * 3, (0.2,) * 3)))
    assert joined.class_counts() == counted + counted
    assert FeatureSplit(split, nn.Identity()).class_counts() == counted


def test_the_weights_of_a_split_are_those_of_its_images() -> None:
    split = Listed(torch.zeros(len(LABELS), 3, 2, 2), LABELS)
    found = class_weights_of(split, BALANCED)
    assert found is not None
    assert found.tolist() == pytest.approx(balanced_weights(COUNTS))
    assert class_weights_of(split, Recipe(epochs=1)) is None

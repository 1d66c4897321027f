"""Accuracy from logits, compared with counts by hand."""

import math
import re
from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)
from torch import nn

from genets.core.errors import TargetError
from genets.data import load_digits
from genets.latency import Target
from genets.latency.evaluation import Accuracy, calibration_images, measure_accuracy, score
from genets.networks import build
from genets.structure import Structure
from genets.training import evaluate

SMALL = Structure.parse("Conv3x8s2 XX3x8 DW3x8r2 Conv1x16 @8")
TARGET = Target(batch_size=64, threads=1)


class Listed:
    """Images (N, 3, 1, 1) of value 0, 1, 2, ... and their classes."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size, *, epoch=None, seed=0):
        order = torch.arange(len(self)) if epoch is None else torch.arange(len(self)).flip(0)
        for part in order.split(batch_size):
            yield part.float().reshape(-1, 1, 1, 1).expand(-1, 3, 1, 1), self.labels[part]


def test_shares_and_cross_entropy_by_hand() -> None:
    table = torch.eye(7)[:, [0]].T.repeat(4, 1) * 2.0  # class 0 best, then 1, 2, ... by position
    table = table - torch.arange(7) * 0.1
    result = score(lambda x: table[x[:, 0, 0, 0].long()], Listed([0, 4, 5, 6]), 3)
    assert (result.top1, result.top5, result.images) == (0.25, 0.5, 4)
    weights = [math.exp(2.0 * (i == 0) - 0.1 * i) for i in range(7)]
    chosen = [weights[label] / sum(weights) for label in (0, 4, 5, 6)]
    assert result.cross_entropy == pytest.approx(-sum(map(math.log, chosen)) / 4, rel=1e-6)


def test_fewer_than_five_classes() -> None:
    result = score(lambda x: torch.tensor([[1.0, 2.0]] * len(x)), Listed([1, 0, 0]), 2)
    assert (result.top1, result.top5) == (pytest.approx(1 / 3), 1.0)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_classes_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 6, (50,), generator=generator)  # of 7: one has no images
    logits = torch.randn(50, 7, generator=generator) + 1.5 * torch.eye(7)[labels]
    logits[:, 3] = -9.0  # and one is never chosen
    result = score(lambda x: logits[x[:, 0, 0, 0].long()], Listed(labels.tolist()), 8)
    taken = logits.argmax(1)
    assert (result.confusion == confusion_matrix(labels, taken, labels=range(7))).all()
    assert result.top1 == pytest.approx(accuracy_score(labels, taken))
    assert result.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, taken))
    assert result.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=range(7)))
    recall, precision = (
        of(labels, taken, labels=range(7), average=None, zero_division=math.nan)
        for of in (recall_score, precision_score)
    )
    for number, one in enumerate(result.classes):
        assert one.images == (labels == number).sum()
        for share, expected in ((one.top1, recall[number]), (one.precision, precision[number])):
            assert (share is None) == math.isnan(expected)
            assert share is None or share == pytest.approx(expected)
        among = logits.topk(5).indices[labels == number] == number
        assert one.top5_right == among.sum()
    assert (result.classes[6].top1, result.classes[6].top5) == (None, None)
    assert result.classes[3].precision is None


@pytest.mark.parametrize(
    ("logits", "sentence"),
    [
        ([1.0, math.nan], "the network's outputs are not finite"),
        ([1.0, 2.0], "the network has 2 outputs, too few for class 3 of the data"),
    ],
)
def test_outputs_that_give_no_accuracy(logits, sentence) -> None:
    with pytest.raises(TargetError, match=sentence):
        score(lambda x: torch.tensor([logits] * len(x)), Listed([1, 3]), 2)


def test_a_split_without_readable_images_has_no_score() -> None:
    with pytest.raises(TargetError, match="none of the images could be read"):
        score(lambda x: x, SimpleNamespace(batches=lambda size: iter(())), 2)


def test_an_engine_scores_as_the_training_does() -> None:
    torch.manual_seed(0)
    net, data = build(SMALL, 10), load_digits(8, views=1)
    result = measure_accuracy(net, TARGET, 8, data.test)
    expected = evaluate(net, data.test)
    assert isinstance(result, Accuracy)
    assert (result.top1, result.images) == (pytest.approx(expected.top1), expected.images)
    assert result.cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-5)
    assert result.top1 <= result.top5 <= 1
    assert result.to_json()["quantisation"] is None


def test_int8_accuracy_needs_images() -> None:
    target = Target(engine="openvino", precision="int8")
    sentence = "the accuracy of precision int8 needs calibration images"
    with pytest.raises(TargetError, match=re.escape(sentence)):
        measure_accuracy(nn.Identity(), target, 8, Listed([0, 1]))


def test_calibration_images_are_shuffled_and_as_many_as_wanted() -> None:
    images = calibration_images(Listed(list(range(9))), 5)
    assert images[:, 0, 0, 0].tolist() == [8, 7, 6, 5, 4]
    assert len(calibration_images(Listed([0, 1, 2]), 300)) == 3

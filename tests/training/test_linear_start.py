"""The linear start: a fitted classifier, epoch 0 as a floor, and trained weights that stay."""

import json
import math
import sys
from dataclasses import replace

import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from test_train_network import NETWORK, PLAIN, KilledError, assert_equal, run, weights
from test_train_network import kill_at as kill_at
from torch import nn

from genets.core.errors import TrainingError
from genets.data import load_data
from genets.networks import resolve_network, save_weights
from genets.training import Metric, RunRecipe, Score, evaluate, loop, train
from genets.training.floor import Judge
from genets.training.linear_start import (
    classifier_weights,
    features_of,
    fit_linear,
    linear_classifier,
    set_classifier,
)
from genets.training.step import train_mode
from genets.training.student import Student
from genets.training.team import ALONE
from genets.training.train_network import train_network

LINEAR = replace(PLAIN, linear_start=True, norm_statistics="frozen", ema_decay=0.9)


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    shift = torch.randn(3, 8, generator=generator)
    scale = torch.tensor([1.0, 10, 0.1, 1, 1, 1, 1, 0])  # the last feature is constant
    return (shift[labels] + torch.randn(60, 8, generator=generator)) * scale + 5, labels


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_fit_is_scikit_learns(features, classes, balanced):
    used = (features[1] < classes) & ((features[1] != 1) | (torch.arange(60) < 12))  # unbalanced
    inputs, labels = (each[used] for each in features)
    weight, bias = fit_linear(inputs, labels, classes, inverse_penalty=0.1, balanced=balanced)
    x = inputs.double().numpy()
    x = (x - x.mean(0)) / x.std(0).clip(1e-3)
    model = LogisticRegression(C=0.1, max_iter=300, class_weight="balanced" if balanced else None)
    expected = model.fit(x, labels.numpy()).predict_proba(x)
    found = (inputs @ weight.T + bias).softmax(1)
    assert torch.allclose(found, torch.from_numpy(expected).float(), atol=1e-4)


def test_a_class_without_images_is_the_least_likely(features):
    weight, bias = fit_linear(*features, 5)
    probabilities = (features[0].mean(0, keepdim=True) @ weight.T + bias).softmax(1)[0]
    assert probabilities[3:].max() < probabilities[:3].min()


def test_images_of_one_class_give_this_class(features):
    weight, bias = fit_linear(features[0], torch.full((60,), 2), 4)
    assert (features[0] @ weight.T + bias).argmax(1).eq(2).all()


def test_features_are_those_in_front_of_timms_classifier():
    net = timm.create_model("test_resnet", num_classes=4).eval()
    data = load_data("digits", 16)
    features, labels = features_of(net, data.validation, 100, "cpu")
    images, expected = next(iter(data.validation.batches(len(data.validation))))
    with torch.no_grad():
        own = net.forward_head(net.forward_features(images), pre_logits=True)
    assert torch.allclose(features, own, atol=1e-5)
    assert torch.equal(labels, expected)


class Tokens(nn.Module):
    """A network whose linear layer reads several vectors for each image."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 10)

    def forward(self, images):
        return self.layer(images.flatten(2)).mean(1)


@pytest.mark.parametrize("net", [Tokens(), nn.Sequential(nn.Conv2d(3, 10, 16), nn.Flatten())])
def test_a_network_without_a_classifier_on_vectors_is_trained_as_it_is(net, tmp_path, monkeypatch):
    data = load_data("digits", 16)
    if linear_classifier(net) is not None:
        assert features_of(net, data.validation, 100, "cpu") is None
    monkeypatch.setattr(
        sys.modules[train_network.__module__], "make_network", lambda *_: (net, None)
    )
    notes = []
    result = run(tmp_path, replace(LINEAR, epochs=1), notes=notes)
    assert result.epoch == 1
    assert (
        "the classifier is not one linear layer that reads one vector for an image; it starts as "
        "it is" in notes
    )


def test_a_fitted_classifier_scores_as_its_linear_model():
    net = resolve_network(NETWORK, 10, seed=0).network
    data = load_data("digits", 16)
    features, labels = features_of(net, data.train, 256, "cpu")
    weight, bias = fit_linear(features, labels, 10)
    set_classifier(net, weight, bias)
    assert_equal(
        dict(zip("wb", classifier_weights(linear_classifier(net)), strict=True)),
        {"w": weight, "b": bias},
    )
    held_out, truth = features_of(net, data.validation, 256, "cpu")
    expected = ((held_out @ weight.T + bias).argmax(1) == truth).double().mean()
    assert evaluate(net, data.validation).top1 == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("here", [True, False], ids=["here", "elsewhere"])
def test_all_processes_refuse_features_that_are_not_finite(here):
    """A process that ended before the others share their features would let them wait for ever."""
    gathered = []

    def gather(value):
        gathered.append(value)
        features, labels = value
        return [value, (features * (1 if here else math.nan), labels)]

    net = resolve_network(NETWORK, 10, seed=0).network
    if here:
        torch.nn.init.constant_(net.stem.conv.weight, math.inf)
    recipe = RunRecipe(epochs=1, precision="fp32", linear_start=True)
    student = Student(net, recipe, "cpu", team=replace(ALONE, count=2, gather=gather))
    images = load_data("digits", 16).validation
    with pytest.raises(TrainingError, match="starting weights give features that are not finite"):
        student.start_linear(images, 10, lambda: Score(0.1, 2.3), metric=Metric.TOP1)
    assert len(gathered) == 1


def test_no_result_is_worse_than_the_linear_model(tmp_path):
    """A learning rate that destroys the weights leaves epoch 0 as the result."""
    recipe = replace(LINEAR, learning_rate=1.0, momentum=0.0, norm_statistics="batch")
    result = run(tmp_path, recipe, network="timm:test_resnet", resolution=32)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [0, 1, 2]
    assert log[0]["top1"] > max(record["top1"] for record in log[1:])
    assert (result.epoch, result.epochs) == (0, 2)
    assert result.validation.top1 == log[0]["top1"]
    net = resolve_network(str(tmp_path / "results")).network
    assert evaluate(net, load_data("digits", 32).validation).top1 == log[0]["top1"]


@pytest.mark.parametrize(
    ("metric", "images", "end", "is_kept"),
    [
        ("top1", 200, (0.7, 1.5), True),
        ("top1", 200, (0.5, 0.5), False),
        ("cross_entropy", 200, (0.7, 1.5), False),
        ("cross_entropy", 200, (0.5, 0.5), True),
        # On few images, a worse end is worse by both scores.
        ("top1", 199, (0.5, 0.5), True),
        ("cross_entropy", 199, (0.7, 1.5), True),
        ("cross_entropy", 199, (0.5, 1.5), False),
    ],
)
def test_the_metric_decides_whether_start_or_end_is_better(
    metric, images, end, is_kept, monkeypatch
):
    scores = iter([Score(0.1, 2.3), Score(0.6, 1.0, images), Score(*end, images)])
    monkeypatch.setattr(loop, "evaluate", lambda *words, **options: next(scores))
    net = resolve_network(NETWORK, 10, seed=0).network
    data, recipe = load_data("digits", 16), replace(LINEAR, epochs=1, ema_decay=0.0)
    stem = net.stem.conv.weight.clone()
    train(
        net, data.train, recipe,
        seed=0, num_classes=10, judge=Judge(range(images), Metric(metric)),
    )  # fmt: skip
    assert torch.equal(net.stem.conv.weight, stem) is not is_kept


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_killed_linear_start_continues_with_the_same_bits(tmp_path, kill_at, step):
    alone = run(tmp_path / "alone", LINEAR)
    kill_at(step)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", LINEAR, seconds=0.0)
    kill_at(0)
    again = run(tmp_path / "killed", LINEAR)
    assert_equal(weights(tmp_path / "killed"), weights(tmp_path / "alone"))
    assert (again.epoch, again.validation) == (alone.epoch, alone.validation)


def test_a_classifier_that_is_better_than_a_linear_model_stays(tmp_path):
    first = run(tmp_path / "first", replace(PLAIN, epochs=12, learning_rate=0.8))
    second = run(
        tmp_path / "second",
        replace(LINEAR, epochs=1, learning_rate=1e-9),
        network=str(tmp_path / "first" / "results"),
    )
    own, fitted = weights(tmp_path / "first"), weights(tmp_path / "second")
    starts_as_it_is = torch.equal(own["head.fc.weight"], fitted["head.fc.weight"])
    assert second.validation.top1 >= first.validation.top1
    assert starts_as_it_is or second.validation.top1 > first.validation.top1


def test_frozen_statistics_stay_and_the_rest_is_trained(tmp_path):
    recipe = replace(LINEAR, linear_start=False, ema_decay=0.0, epochs=1)
    before = resolve_network("timm:test_resnet", 10, seed=0).network
    save_weights(before, tmp_path / "w.safetensors", {})
    run(
        tmp_path / "run", recipe, network="timm:test_resnet", resolution=32,
        weights=str(tmp_path / "w.safetensors"),
    )  # fmt: skip
    after = weights(tmp_path / "run")
    for name, value in before.state_dict().items():
        assert torch.equal(value, after[name]) == ("running" in name or "num_batches" in name)
    train_mode(before, "frozen")
    assert before.training
    norms = [m for m in before.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)

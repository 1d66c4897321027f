"""Recipes, learning rates, losses and the optimizer."""

import math
from dataclasses import replace

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from genets.core.errors import GenetsError
from genets.training import Recipe, lr_at, make_loss, make_optimizer


def test_rate_closed_form():
    recipe = Recipe(epochs=10, batch_size=128, learning_rate=0.1, warmup_epochs=2)
    rates = [lr_at(step, 100, recipe) for step in range(100)]
    assert recipe.peak_rate == 0.05
    assert rates[0] == pytest.approx(0.05 / 21)
    assert rates[19] == pytest.approx(0.05 * 20 / 21)
    assert rates[20] == 0.05
    assert rates[60] == pytest.approx(0.025)
    assert rates[99] == pytest.approx(0.025 * (1 + math.cos(math.pi * 79 / 80)))


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 40), (1.0, 40), (2.5, 88)])
def test_rate_equals_timms_schedule(warmup, steps):
    recipe = Recipe(epochs=4, warmup_epochs=warmup)
    rise = round(steps * warmup / 4)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.peak_rate)
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=steps - rise,
        warmup_t=rise,
        warmup_lr_init=recipe.peak_rate / (rise + 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    for step in range(steps):
        schedule.step_update(step)
        assert lr_at(step, steps, recipe) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_rate_of_very_short_trainings_is_positive():
    for steps in (1, 2, 3):
        recipe = Recipe(epochs=1, warmup_epochs=0.9)
        assert all(0 < lr_at(step, steps, recipe) <= recipe.peak_rate for step in range(steps))


def test_loss_closed_form():
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
    teacher = torch.tensor([[1.0, 0.0, 0.0], [3.0, -1.0, 0.5]])
    labels = torch.tensor([0, 2])
    recipe = Recipe(epochs=1, label_smoothing=0.3, soft_label_weight=0.25)
    log_p = [[x - math.log(sum(math.exp(y) for y in row)) for x in row] for row in logits.tolist()]
    soft_p = [
        [math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in teacher.tolist()
    ]
    true = -sum(0.7 * log_p[i][y] + 0.1 * sum(log_p[i]) for i, y in enumerate((0, 2))) / 2
    soft = -sum(soft_p[i][j] * log_p[i][j] for i in range(2) for j in range(3)) / 2
    assert make_loss(logits, labels, recipe).item() == pytest.approx(true, rel=1e-6)
    mixed = make_loss(logits, labels, recipe, teacher).item()
    assert mixed == pytest.approx(0.75 * true + 0.25 * soft, rel=1e-6)
    only_true = make_loss(logits, labels, replace(recipe, soft_label_weight=0.0), teacher)
    assert only_true.item() == pytest.approx(true, rel=1e-6)


def test_decay_of_norms_and_biases_is_a_choice():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    recipe = Recipe(epochs=1, weight_decay=0.01)
    assert [g["weight_decay"] for g in make_optimizer(net, recipe).param_groups] == [0.01]
    groups = make_optimizer(net, replace(recipe, decay_norm_and_bias=False)).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 0.01), (4, 0.0)]


def test_nothing_to_train():
    net = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(GenetsError, match="no parameter to train; all are frozen"):
        make_optimizer(net, Recipe(epochs=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be greater than 0, not 0"),
        ({"epochs": 2.5}, "epochs must be a valid integer, not 2.5"),
        ({"batch_size": True}, "batch_size must be a valid integer, not True"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number, not nan"),
        ({"batch_size": 10**400}, "batch_size must be less than or equal to 1000000000, not 1000"),
        ({"decay_norm_and_bias": 1}, "decay_norm_and_bias must be a valid boolean, not 1"),
        ({"learning_rate": 0}, "learning_rate must be greater than 0, not 0"),
        ({"learning_rate": "0.1"}, "learning_rate must be a valid number, not '0.1'"),
        ({"momentum": 1.0}, "momentum must be less than 1, not 1.0"),
        ({"weight_decay": -1e-5}, "weight_decay must be greater than or equal to 0, not -1e-05"),
        ({"weight_decay": math.inf}, "weight_decay must be a finite number, not inf"),
        ({"warmup_epochs": 4}, r"warmup_epochs must be less than epochs \(4\), not 4"),
        ({"label_smoothing": -0.1}, "label_smoothing must be greater than or equal to 0, not -0.1"),
        ({"soft_label_weight": 1.5}, "soft_label_weight must be less than or equal to 1, not 1.5"),
        ({"precision": "fp8"}, "precision must be 'fp32' or 'bf16', not 'fp8'"),
    ],
)
def test_bad_recipes(change, message):
    with pytest.raises(GenetsError, match=message):
        Recipe(**{"epochs": 4, **change})


@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
def test_adamw_is_torchs(decay_norm_and_bias):
    recipe = Recipe(
        epochs=1, batch_size=256, learning_rate=0.01, optimizer="adamw", weight_decay=0.1,
        decay_norm_and_bias=decay_norm_and_bias,
    )  # fmt: skip
    torch.manual_seed(0)
    net, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(net.state_dict())
    optimizer = make_optimizer(net, recipe)
    groups = [
        {"params": [twin.weight]},
        {"params": [twin.bias], "weight_decay": 0.1 if decay_norm_and_bias else 0.0},
    ]
    expected = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999), weight_decay=0.1)
    images = torch.randn(5, 3)
    for one, step in ((net, optimizer), (twin, expected)):
        for _ in range(3):
            one(images).square().sum().backward()
            step.step()
            step.zero_grad()
    assert torch.allclose(net.weight, twin.weight, atol=1e-6)
    assert torch.allclose(net.bias, twin.bias, atol=1e-6)

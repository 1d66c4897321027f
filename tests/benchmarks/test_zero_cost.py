"""Scores without training: AZ-NAS and Zen-score against closed forms, and their file."""

import csv
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import zen_score as module
import zero_cost
from az_nas import AzNasScores, _entropy, _trainability, az_nas, combined
from made_tables import write_macro
from tables import read_macro
from zen_score import STEP, _score

GENERATOR = torch.Generator


def test_the_four_ranks_of_az_nas_are_combined():
    """By hand: ranks 1 to 3 of three networks; equal scores share the mean of their ranks."""
    scores = [
        AzNasScores(expressivity=5.0, progressivity=-1.0, trainability=-math.inf, complexity=10),
        AzNasScores(expressivity=7.0, progressivity=-1.0, trainability=-math.inf, complexity=30),
        AzNasScores(expressivity=6.0, progressivity=-2.0, trainability=-0.5, complexity=20),
    ]
    ranks = [(1, 2.5, 1.5, 1), (3, 2.5, 1.5, 3), (2, 1, 3, 2)]
    expected = [sum(math.log(rank / 3) for rank in row) for row in ranks]
    assert combined(scores) == pytest.approx(expected)


def test_only_ranks_count_in_az_nas():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 4))
    plain = combined([AzNasScores(*row) for row in values])
    assert combined([AzNasScores(*row) for row in np.exp(3 * values)]) == pytest.approx(plain)


def test_the_entropy_is_that_of_the_eigenvalues():
    """Orthogonal channels of variance s^2, then the same channels in other directions."""
    hadamard = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    variances = torch.tensor([4.0, 1.0, 0.25])
    shares = variances / variances.sum()
    expected = -float((shares * shares.log()).sum())
    channels = hadamard * variances.sqrt() + torch.tensor([5.0, -2.0, 0.0])
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR().manual_seed(0)))
    for features in (channels, channels @ rotation):
        images = features.T.reshape(1, 3, 2, 2).double()
        assert _entropy(images) == pytest.approx(expected, abs=1e-5)


def trainability(block: nn.Module, channels: int, pixels: int = 8) -> float:
    generator = GENERATOR().manual_seed(0)
    features = torch.randn(64, channels, pixels, pixels, generator=generator).requires_grad_()
    return _trainability(features, block(features), generator)


def conv(weight: list, stride: int = 1) -> nn.Conv2d:
    values = torch.tensor(weight, dtype=torch.float32)
    out_chs, in_chs, kernel, _ = values.shape
    layer = nn.Conv2d(in_chs, out_chs, kernel, stride, bias=False)
    layer.weight = nn.Parameter(values, requires_grad=False)
    return layer


@pytest.mark.parametrize("scale", [0.5, 1.5, -3.0])
def test_the_trainability_of_a_scaling(scale):
    """The gradient is scaled by the same number, so s is its absolute value."""
    expected = 2 - abs(scale) - 1 / abs(scale)
    assert trainability(conv([[[[scale]]]]), 1) == pytest.approx(expected, rel=1e-5)


def test_the_trainability_of_a_block_that_halves_the_resolution():
    """The four pixels of a position are four channels, so s is the norm of the four weights."""
    weight = [[0.5, 1.0], [-2.0, 0.25]]
    norm = math.sqrt(0.25 + 1 + 4 + 0.0625)
    found = trainability(conv([[weight]], stride=2), 1)
    assert found == pytest.approx(2 - norm - 1 / norm, rel=1e-5)


def test_the_trainability_of_a_matrix_is_that_of_its_largest_singular_value():
    matrix = np.array([[2.0, 0.0, 1.0], [0.0, -1.0, 0.5]])
    largest = np.linalg.norm(matrix, 2)
    found = trainability(conv(matrix[:, :, None, None].tolist()), 3, pixels=32)
    assert found == pytest.approx(2 - largest - 1 / largest, abs=0.05)  # signs are a sample


def test_an_identity_has_no_trainability():
    assert trainability(nn.Identity(), 3) == -math.inf


class LinearStack(nn.Module):
    """1x1 convolutions, each with a batch norm, without an activation."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for before, after in pairwise(widths):
            self.layers += nn.Sequential(nn.Conv2d(before, after, 1, bias=False))
            self.layers += nn.Sequential(nn.BatchNorm2d(after))

    def forward_features(self, images):
        return self.layers(images)


@pytest.mark.parametrize("widths", [(3, 8), (3, 8, 16, 5)])
def test_the_zen_score_of_a_linear_stack(widths):
    """All is normal, so covariances give the score.

    The last batch norm gives each channel a variance of 1, so a step of a moves each value by a
    times a standard normal variable, whose mean size is sqrt(2 / pi). The divisor of each batch
    norm is the standard deviation of its channel.
    """
    pixels, batch = 16, 256
    net = LinearStack(*widths).train()
    with torch.no_grad():
        found = _score(net, pixels, GENERATOR().manual_seed(0), batch)
    covariance, scales = np.eye(3), 0.0
    for layer in net.layers:
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight[:, :, 0, 0].double().detach().numpy()
            covariance = weight @ covariance @ weight.T
            variances = np.diag(covariance)
            scales += 0.5 * math.log(variances.mean())
            covariance = covariance / np.sqrt(np.outer(variances, variances))
    expected = math.log(STEP * widths[-1] * pixels**2 * math.sqrt(2 / math.pi)) + scales
    assert found == pytest.approx(expected, abs=0.02)


def test_the_zen_score_is_the_mean_over_draws(table, monkeypatch):
    structure = table.structures[3]
    one = module.zen_score(structure, repeats=1, batch=4)
    assert one == module.zen_score(structure, repeats=1, batch=4)
    assert one != module.zen_score(structure, seed=1, repeats=1, batch=4)
    scores = iter([1.0, 2.0, 6.0])
    monkeypatch.setattr(module, "_score", lambda *_: next(scores))
    assert module.zen_score(structure, repeats=3) == 3.0


@pytest.fixture
def table(tmp_path):
    write_macro(tmp_path, layers=2)
    return read_macro(tmp_path)


def test_a_network_with_an_identity_has_no_trainability(table):
    with_identity, without = table.structures[3], table.structures[4]
    assert az_nas(with_identity, batch=2).trainability == -math.inf
    with_conv = table.structures[1]  # its first layer changes width and resolution
    assert math.isfinite(az_nas(with_conv, batch=2).trainability)
    scores = az_nas(without, batch=2)
    assert math.isfinite(scores.trainability)
    assert scores.complexity == table.multiply_adds[4]


def test_a_stopped_run_continues_and_gives_the_same_rows(table, tmp_path, monkeypatch):
    """The numbers are made up, so that the test takes no time."""
    scored = []

    def made_up(structure, **_):
        scored.append(structure)
        return SimpleNamespace(expressivity=len(scored), progressivity=0.0, trainability=0.0)

    monkeypatch.setattr(zero_cost, "az_nas", made_up)
    monkeypatch.setattr(zero_cost, "zen_score", lambda structure, **_: 1.0)
    out = tmp_path / "deep" / "scores.csv"
    zero_cost.score_all(table.structures[:2], out)
    assert zero_cost.scored_layers(out) == {"00", "01"}
    zero_cost.score_all(table.structures, out)
    assert scored == [*table.structures]
    with out.open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["layers"] for row in rows] == [f"{a}{b}" for a in range(3) for b in range(3)]
    assert [float(row["expressivity"]) for row in rows] == [*range(1, 10)]


def test_scores_are_read_by_network(table, tmp_path):
    """The rows of the file have another order than the table."""
    names = [f"{a}{b}" for a in range(3) for b in range(3)]
    values = {name: (float(n), 9.0 - n, 2.0 * n, -1.0) for n, name in enumerate(names)}
    path = tmp_path / "scores.csv"

    def write(order):
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(zero_cost.COLUMNS)
            writer.writerows([name, *values[name]] for name in order)

    write(reversed(names))
    scores = zero_cost.read_scores(table, path)
    assert scores is not None
    assert scores["Zen-score"].tolist() == [*range(9)]
    # Trainability and the smallest rank are known: all are equal there, and share rank 5.
    complexity = np.argsort(np.argsort(table.multiply_adds)) + 1
    expected = [
        math.log((9 - n) / 9) + math.log((n + 1) / 9) + math.log(5 / 9) + math.log(rank / 9)
        for n, rank in enumerate(complexity)
    ]
    assert scores["AZ-NAS"] == pytest.approx(expected)
    write(names[1:])
    assert zero_cost.read_scores(table, path) is None
    values["99"] = values["00"]
    write([*names[1:], "99"])  # as many rows, but one network is missing
    assert zero_cost.read_scores(table, path) is None
    assert zero_cost.read_scores(table, tmp_path / "none.csv") is None

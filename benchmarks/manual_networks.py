"""The accuracy model against the paper's 20 hand-designed networks (Table 6).

A super-block of stride 1 that repeats the block and the width before it only adds depth, so the 20
rows of the table are fewer distinct networks. Rows of one network measure the noise of a training.
All networks have a stem, four super-blocks of stride 2 and a head, so they belong to one design
space. The accuracy model is fitted to the published accuracies of some networks and predicts the
others. Rows of one network are fitted or predicted together and count once, with their mean. The
accuracies are published to 0.1 %, and lie between 75.8 and 77.6 %.

Networks that differ in one super-block only are nearly equal. If all networks but one are fitted,
the fit contains such a neighbour of the network that is left out. Each network is therefore also
predicted without its neighbours. Rank correlations of few networks scatter. The share of pairs in
the right order is pooled over all splits, so it can be compared between sizes of splits.

Run from the repository: python benchmarks/manual_networks.py. Writes results/manual_networks.json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from conditions import write_result
from genets.nas.accuracy import gaussian
from genets.nas.accuracy.features import RESET_COST, SCALE_GROUPS, TREND, Column, FeatureMap
from genets.nas.accuracy.gaussian import Floats
from genets.networks import count
from genets.structure import Structure, zoo

NAMES = tuple(f"net{number}" for number in range(1, 21))
MASTER = "net1"  # as in the paper
ERROR = 0.23  # of these networks; it scales the priors
# Mean and std of the gain from e times the multiply-adds, in errors, as in the search.
TREND_PRIOR = (0.15, 0.15)
EFFECT_STD = 0.01  # of every group of effects; the fit scales it
NOISE_STD = 0.002  # of one training; the fit scales it
LEVEL = Column(RESET_COST)  # here it stands for the mean accuracy of all networks
SPLITS, FITTED = 50, (4, 6, 8)


def simplify(structure: Structure) -> Structure:
    """Merge neighbouring super-blocks of equal block and width without a stride between them."""
    stages = [structure.stages[1]]
    for stage in structure.super_blocks[1:]:
        last = stages[-1]
        if (stage.stride, stage.block, stage.width) == (1, last.block, last.width):
            stages[-1] = replace(last, depth=last.depth + stage.depth)
        else:
            stages.append(stage)
    return Structure((structure.stem, *stages, structure.head), structure.resolution)


def fit_effects(features: Floats, values: Floats, feature_map: FeatureMap) -> Floats:
    """(columns,): the effects, with the priors of the search and one level for all networks."""
    mean = np.zeros(features.shape[1])
    variance = feature_map.base_variance * EFFECT_STD**2
    trend = feature_map.columns[TREND]
    level = feature_map.columns[LEVEL]
    mean[trend], variance[trend] = TREND_PRIOR[0] * ERROR, (TREND_PRIOR[1] * ERROR) ** 2
    mean[level], variance[level] = values.mean(), 0.01**2
    noise = np.full(len(values), NOISE_STD**2)
    misfit = np.zeros((len(values), len(values)))
    start = gaussian.LinearModel(features, values, mean, variance, noise, misfit)
    log_std = np.array([1.0] * (len(SCALE_GROUPS) + 1) + [0.25])
    scales = gaussian.fit_scales(start, feature_map.groups, log_std)
    model = gaussian.scale_variances(start, feature_map.groups, scales)
    return gaussian.compute_posterior(model).mean


def rank(first: Sequence[float] | Floats, second: Floats) -> float:
    return float(spearmanr(first, second).statistic)


def in_order(predicted: Floats, truth: Floats) -> list[bool]:
    """For each pair of networks with different accuracies: is the predicted order right?"""
    return [
        bool((predicted[a] - predicted[b]) * (truth[a] - truth[b]) > 0)
        for a, b in combinations(range(len(truth)), 2)
        if truth[a] != truth[b]
    ]


class Table:
    """The rows of Table 6 as rows of a design matrix, with their published accuracies, 0 to 1."""

    def __init__(self) -> None:
        structures = [simplify(zoo[name]) for name in NAMES]
        blocks = {stage.block for structure in structures for stage in structure.super_blocks}
        self.feature_map = FeatureMap(simplify(zoo[MASTER]), blocks)
        self.features = np.array([self.feature_map.structure_row(s) for s in structures])
        self.features[:, self.feature_map.columns[LEVEL]] = 1
        self.accuracy = np.array([zoo.entry(name).top1_percent for name in NAMES]) / 100
        self.distinct = list(dict.fromkeys(structures))
        self.network = np.array([self.distinct.index(structure) for structure in structures])
        self.networks = len(self.distinct)
        self.truth = np.array(
            [self.accuracy[self.network == n].mean() for n in range(self.networks)]
        )

    def predict(self, networks: Sequence[int]) -> Floats:
        """Predict these networks from a fit to all others."""
        rows = ~np.isin(self.network, networks)
        effects = fit_effects(self.features[rows], self.accuracy[rows], self.feature_map)
        first = [int(np.flatnonzero(self.network == n)[0]) for n in networks]
        return self.features[first] @ effects

    def neighbours(self, number: int) -> list[int]:
        """The network itself, then all networks that differ from it in one super-block."""
        own = self.distinct[number].stages
        changes = [sum(a != b for a, b in zip(own, other.stages, strict=True))
                   for other in self.distinct]  # fmt: skip
        return [number, *(n for n, count in enumerate(changes) if count == 1)]

    def training_noise(self) -> float:
        """Standard deviation of one training, from rows of equal networks."""
        groups = [self.accuracy[self.network == n] for n in range(self.networks)]
        squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        return math.sqrt(squares / (len(NAMES) - self.networks))

    def splits(self, size: int, rng: np.random.Generator) -> dict[str, float]:
        """Fit to `size` random networks and predict the others, SPLITS times."""
        ranks, squares, ordered = [], [], []
        for _ in range(SPLITS):
            left_out = rng.permutation(self.networks)[size:].tolist()
            predicted, truth = self.predict(left_out), self.truth[left_out]
            ranks.append(rank(predicted, truth))
            squares += ((predicted - truth) ** 2).tolist()
            ordered += in_order(predicted, truth)
        return {
            "spearman_mean": round(float(np.mean(ranks)), 3),
            "spearman_std": round(float(np.std(ranks)), 3),
            "pairs_in_order": round(float(np.mean(ordered)), 3),
            "rmse_percent": round(100 * float(np.sqrt(np.mean(squares))), 3),
        }

    def summary(self, predicted: Floats) -> dict[str, float]:
        """Figures of a prediction of all networks."""
        return {
            "spearman": round(rank(predicted, self.truth), 3),
            "pairs_in_order": round(float(np.mean(in_order(predicted, self.truth))), 3),
            "rmse_percent": round(100 * float(np.sqrt(np.mean((predicted - self.truth) ** 2))), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    rng = np.random.default_rng(parser.parse_args().seed)
    table = Table()
    each = range(table.networks)
    left_out = np.array([table.predict([n])[0] for n in each])
    alone = np.array([table.predict(table.neighbours(n))[0] for n in each])
    counts = [count(structure) for structure in table.distinct]
    noise, spread = table.training_noise(), float(table.accuracy.std(ddof=1))
    write_result(
        "manual_networks",
        {
            "rows": len(NAMES),
            "networks": table.networks,
            "accuracy_std_percent": round(100 * spread, 3),
            "training_noise_std_percent": round(100 * noise, 3),
            "leave_one_network_out": table.summary(left_out),
            "leave_network_and_neighbours_out": table.summary(alone),
            "neighbours": [len(table.neighbours(n)) - 1 for n in each],
            "splits": {
                f"fitted on {size} of {table.networks} networks": table.splits(size, rng)
                for size in FITTED
            },
            "spearman_multiply_adds": round(
                rank([c.multiply_adds for c in counts], table.truth), 3
            ),
            "spearman_parameters": round(rank([c.parameters for c in counts], table.truth), 3),
            "predicted_and_published_percent": {
                name: f"{100 * left_out[n]:.2f} {100 * truth:.1f}"
                for name, n, truth in zip(NAMES, table.network, table.accuracy, strict=True)
            },
        },
    )


if __name__ == "__main__":
    with threadpool_limits(limits=1, user_api="blas"):
        main()

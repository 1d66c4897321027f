"""The accuracy model against the paper's 20 hand-designed networks (Table 6).

A super-block of stride 1 that repeats the block and the width before it is more of the same, so 20
rows are fewer networks, and pairs of rows that are one network tell the noise of a training. All
have a stem, four super-blocks of stride 2 and a head: they lie in one design space. The accuracy
model is fitted to the published accuracies of some networks and predicts the others; rows of one
network are fitted or predicted together. Published to 0.1 %, between 75.8 and 77.6 %.

Run from the repository: python benchmarks/manual_networks.py. Writes results/manual_networks.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from conditions import write_result
from genets.nas.features import EVERYWHERE, SCALE_GROUPS, FeatureMap
from genets.nas.gaussian import Floats, LinearModel, fit_scales, posterior, with_scales
from genets.networks import count
from genets.structure import Structure, zoo

NAMES = tuple(f"net{number}" for number in range(1, 21))
MASTER = "net1"  # the paper's choice
ERROR = 0.23  # of these networks, the scale of the priors
TREND = (0.15, 0.15)  # gain from e times the multiply-adds in errors, as in the search
EFFECT_STD = 0.01  # of every group of effects; the data may move it
NOISE_STD = 0.002  # of one training; the data may move it
SPLITS, FITTED = 50, (4, 6, 8)


def joined(structure: Structure) -> Structure:
    """Neighbouring super-blocks that are one: of the same block and width, no stride between."""
    stages = [structure.stages[1]]
    for stage in structure.super_blocks[1:]:
        last = stages[-1]
        if (stage.stride, stage.block, stage.width) == (1, last.block, last.width):
            stages[-1] = replace(last, depth=last.depth + stage.depth)
        else:
            stages.append(stage)
    return Structure((structure.stem, *stages, structure.head), structure.resolution)


def fitted(features: Floats, values: Floats, feature_map: FeatureMap) -> Floats:
    """(columns,): the effects, by the priors of the search with one level for all networks."""
    mean = np.zeros(features.shape[1])
    variance = feature_map.base_variance * EFFECT_STD**2
    trend = feature_map.columns["trend", EVERYWHERE, EVERYWHERE]
    level = feature_map.columns["level", EVERYWHERE, EVERYWHERE]
    mean[trend], variance[trend] = TREND[0] * ERROR, (TREND[1] * ERROR) ** 2
    mean[level], variance[level] = values.mean(), 0.01**2
    noise = np.full(len(values), NOISE_STD**2)
    start = LinearModel(features, values, mean, variance, noise)
    log_std = np.array([1.0] * len(SCALE_GROUPS) + [0.25])
    scales = fit_scales(start, feature_map.groups, log_std)
    return posterior(with_scales(start, feature_map.groups, scales)).mean


def rank(first: Sequence[float] | Floats, second: Floats) -> float:
    return float(spearmanr(first, second).statistic)


class Table:
    """The networks as rows of a design matrix, with their published accuracies, 0 to 1."""

    def __init__(self) -> None:
        structures = [joined(zoo[name]) for name in NAMES]
        blocks = {stage.block for structure in structures for stage in structure.super_blocks}
        self.map = FeatureMap(joined(zoo[MASTER]), blocks)
        self.features = np.array([self.map.structure(structure) for structure in structures])
        self.features[:, self.map.columns["level", EVERYWHERE, EVERYWHERE]] = 1
        self.accuracy = np.array([zoo.entry(name).top1_percent for name in NAMES]) / 100
        distinct = list(dict.fromkeys(structures))
        self.network = np.array([distinct.index(structure) for structure in structures])
        self.networks = len(distinct)

    def predicted(self, rows: Floats) -> Floats:
        """Of `rows` (a mask), from a fit to all others."""
        effects = fitted(self.features[~rows], self.accuracy[~rows], self.map)
        return self.features[rows] @ effects

    def training_noise(self) -> float:
        """Standard deviation of one training, from the rows that are one network."""
        groups = [self.accuracy[self.network == n] for n in range(self.networks)]
        squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        return (squares / (len(NAMES) - self.networks)) ** 0.5

    def split(self, size: int, rng: np.random.Generator) -> tuple[float, float]:
        """Fitted on `size` networks: rank correlation and error on the others."""
        rows = np.isin(self.network, rng.permutation(self.networks)[size:])
        predicted, truth = self.predicted(rows), self.accuracy[rows]
        return rank(predicted, truth), float(np.sqrt(np.mean((predicted - truth) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    rng = np.random.default_rng(parser.parse_args().seed)
    table = Table()
    left_out = np.empty(len(NAMES))
    for number in range(table.networks):
        rows = table.network == number
        left_out[rows] = table.predicted(rows)
    splits = {}
    for size in FITTED:
        ranks, errors = np.transpose([table.split(size, rng) for _ in range(SPLITS)])
        splits[f"fitted on {size} of {table.networks} networks"] = {
            "spearman_mean": round(float(ranks.mean()), 3),
            "spearman_std": round(float(ranks.std()), 3),
            "rmse_percent": round(100 * float(errors.mean()), 3),
        }
    counts = [count(zoo[name]) for name in NAMES]
    noise, spread = table.training_noise(), float(table.accuracy.std(ddof=1))
    write_result(
        "manual_networks",
        {
            "rows": len(NAMES),
            "networks": table.networks,
            "accuracy_std_percent": round(100 * spread, 3),
            "training_noise_std_percent": round(100 * noise, 3),
            "ceiling_of_correlation": round((1 - (noise / spread) ** 2) ** 0.5, 3),
            "leave_one_network_out": {
                "spearman": round(rank(left_out, table.accuracy), 3),
                "rmse_percent": round(
                    100 * float(np.sqrt(np.mean((left_out - table.accuracy) ** 2))), 3
                ),
            },
            "splits": splits,
            "spearman_multiply_adds": round(
                rank([c.multiply_adds for c in counts], table.accuracy), 3
            ),
            "spearman_parameters": round(rank([c.parameters for c in counts], table.accuracy), 3),
            "predicted_and_published_percent": {
                name: f"{100 * value:.2f} {100 * truth:.1f}"
                for name, value, truth in zip(NAMES, left_out, table.accuracy, strict=True)
            },
        },
    )


if __name__ == "__main__":
    with threadpool_limits(limits=1, user_api="blas"):
        main()

"""Small made-up tables in the format of the public tables, for short runs and for tests.

A table holds the columns that `tables` reads. The log of the error of a network is a sum of one
effect for each layer, plus `interaction` times a product for each two layers. Each training adds
noise to the top-1. Latencies are sums of one cost for each layer.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np

from tables import ACCEL, ACCEL_WIDTHS, FBNET, MACRO, MACRO_BLOCKS, Floats, Integers

TRAININGS = 3
BASE_ERROR = 0.5  # of the network whose effects are all 0
ACCEL_OPTIONS = {"expansion": (1, 6), "kernel": (3, 5), "depth": (1, 2, 3), "se": (0,)}
FBNET_LAYERS, FBNET_OPERATORS = 22, 9


def write_macro(
    folder: Path,
    *,
    layers: int = 4,
    interaction: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> None:
    """Write all networks of so many layers, as in NAS-Bench-Macro.

    Args:
        folder: where the file is written.
        layers: 1 to 8.
        interaction: standard deviation of the effect of each two layers, in the log of the error.
        noise: standard deviation of a training, in top-1 points.
        seed: seed of effects and noise.
    """
    rng = np.random.default_rng(seed)
    networks = np.array([*product(range(len(MACRO_BLOCKS)), repeat=layers)])
    # A larger block is better, but not equally much in each layer.
    effects = np.cumsum(rng.uniform(0.05, 0.4, (layers, len(MACRO_BLOCKS))), axis=1)
    top1 = _train(networks, effects, interaction, noise, TRAININGS, rng)
    header = ["layers", *(f"test_top1_seed{n}" for n in range(TRAININGS))]
    names = ("".join(map(str, network)) for network in networks)
    _write(folder / MACRO, header, ([name, *row] for name, row in zip(names, top1, strict=True)))


def write_accel(folder: Path, *, networks: int = 140, noise: float = 0.0, seed: int = 0) -> None:
    """Write random networks and their speed on two devices, as in Accel-NASBench.

    The first network occurs twice, and the second one was not measured on VCK190.
    """
    rng = np.random.default_rng(seed)
    names = [f"block{n}_{name}" for n in range(len(ACCEL_WIDTHS)) for name in ACCEL_OPTIONS]
    options = [*ACCEL_OPTIONS.values()] * len(ACCEL_WIDTHS)
    chosen = np.stack([rng.integers(len(values), size=networks) for values in options], axis=1)
    chosen[-1] = chosen[0]
    effects = np.cumsum(rng.uniform(0.0, 0.1, (len(options), 3)), axis=1)
    top1 = _train(chosen, effects, 0.0, noise, 1, rng)
    columns = {"val_top1_percent": top1[:, 0].tolist()}
    for device in ("a100_images_per_second", "vck190_ms"):
        ms = _sums(chosen, np.cumsum(rng.uniform(0.01, 0.1, effects.shape), axis=1))
        columns[device] = (1000 / ms if device.endswith("second") else ms).tolist()
    columns["vck190_ms"][1] = ""
    layers = [[v[n] for v, n in zip(options, row, strict=True)] for row in chosen]
    values = zip(*columns.values(), strict=True)
    rows = ([*layer, *value] for layer, value in zip(layers, values, strict=True))
    _write(folder / ACCEL, [*names, *columns], rows)


def write_fbnet(folder: Path, *, networks: int = 1200, noise: float = 0.0, seed: int = 0) -> None:
    """Write random networks and their latency on one device, as in HELP.

    noise: standard deviation of a latency, relative to it.
    """
    rng = np.random.default_rng(seed)
    layers = rng.integers(FBNET_OPERATORS, size=(networks, FBNET_LAYERS))
    ms = _sums(layers, rng.uniform(0.1, 1.0, (FBNET_LAYERS, FBNET_OPERATORS)))
    ms *= 1 + noise * rng.normal(size=networks)
    rows = (["-".join(map(str, row)), value] for row, value in zip(layers, ms, strict=True))
    _write(folder / FBNET, ["layers", "phone_ms"], rows)


def _train(
    networks: Integers,
    effects: Floats,
    interaction: float,
    noise: float,
    trainings: int,
    rng: np.random.Generator,
) -> Floats:
    """(networks, trainings): top-1 in percent."""
    fall = _sums(networks, effects)
    centred = effects - effects.mean(axis=1, keepdims=True)
    for first, second in combinations(range(len(effects)), 2) if interaction else ():
        pair = centred[first][networks[:, first]] * centred[second][networks[:, second]]
        fall += interaction * rng.normal() * pair / pair.std()
    top1 = 100 * (1 - BASE_ERROR * np.exp(-fall))
    noisy = top1[:, None] + noise * rng.normal(size=(len(networks), trainings))
    return np.asarray(noisy.clip(0, 100))


def _sums(networks: Integers, by_layer: Floats) -> Floats:
    """(networks,): the sum over the layers of the number of the option that each layer has."""
    return np.asarray(by_layer[np.arange(len(by_layer)), networks].sum(axis=1))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)

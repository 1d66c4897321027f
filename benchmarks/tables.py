"""Public tables of trained networks and measured latencies, as structures of this package.

- NAS-Bench-Macro (Su et al. 2021): all 6,561 networks of 8 layers; each layer is an identity or one
  of two inverted residuals. CIFAR-10 test accuracy of three trainings. Every one-layer change of a
  network is in the table. Depth and width cannot change, so only the effects of blocks are used.
- Accel-NASBench (Ahmad et al. 2023): 5,138 random networks of MnasNet's space. ImageNet accuracy of
  one short training; measured speed on six devices. Depth and block change, width does not.
- The latencies of HELP (Lee et al. 2021): 5,000 networks of FBNet's space on 23 devices.

The tables are CSV files in one folder, which the caller gives.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genets.networks import load_blocks
from genets.structure import Block, DesignSpace, SearchSpace, Structure, SuperBlock
from genets.structure.cost import multiply_adds

load_blocks(Path(__file__).with_name("table_blocks.py"))

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MACRO, ACCEL, FBNET = "nas_bench_macro.csv", "accel_nasbench.csv", "help_fbnet_latency.csv"
MACRO_BLOCKS = (Block("Identity"), Block("MB", 3, 3), Block("MB", 5, 6))
MACRO_WIDTHS, MACRO_STRIDES = (64, 64, 128, 128, 128, 256, 256, 256), (2, 1, 2, 1, 1, 2, 1, 1)
ACCEL_WIDTHS, ACCEL_STRIDES = (16, 24, 40, 80, 96, 192, 320), (1, 2, 2, 2, 1, 2, 1)


@dataclass(frozen=True, eq=False)
class Table:
    """The trained networks of a table.

    Attributes:
        structures: the networks.
        scores: (networks, trainings), top-1 from 0 to 1.
        latency_ms: by device, (networks,), ms per image; NaN where it was not measured.
    """

    structures: tuple[Structure, ...]
    scores: Floats
    latency_ms: Mapping[str, Floats] = field(default_factory=dict)

    @cached_property
    def number(self) -> dict[Structure, int]:
        """The row of each network."""
        return {structure: row for row, structure in enumerate(self.structures)}

    @cached_property
    def truth(self) -> Floats:
        """(networks,): the mean over all trainings."""
        return np.asarray(self.scores.mean(axis=1))

    @cached_property
    def multiply_adds(self) -> Floats:
        """(networks,): counted in closed form, without the classifier."""
        return np.array([multiply_adds(s) for s in self.structures], np.float64)


def read_macro(folder: Path) -> Table:
    rows = _rows(folder / MACRO)
    structures = tuple(_macro_structure(row["layers"]) for row in rows)
    scores = [[float(row[f"test_top1_seed{n}"]) / 100 for n in range(3)] for row in rows]
    return Table(structures, np.array(scores))


def macro_space(start: Structure) -> SearchSpace:
    """All networks of NAS-Bench-Macro, around one of them."""
    space = DesignSpace(MACRO_BLOCKS, (1.0, 1.0), depth_change=0, resolutions=())
    return space.around(start)


def read_accel(folder: Path) -> Table:
    rows = _rows(folder / ACCEL)
    structures = tuple(_accel_structure(row) for row in rows)
    scores = np.array([[float(row["val_top1_percent"]) / 100] for row in rows])
    latency_ms = {}
    for column in rows[0]:
        if column.endswith("_images_per_second"):
            speed = _numbers(rows, column)
            latency_ms[column.removesuffix("_images_per_second")] = 1000 / speed
        elif column.endswith("_ms"):
            latency_ms[column.removesuffix("_ms")] = _numbers(rows, column)
    return _merged(structures, scores, latency_ms)


def _merged(
    structures: Sequence[Structure], scores: Floats, latency_ms: Mapping[str, Floats]
) -> Table:
    """The table with one row for each structure, the mean of its rows: 13 occur twice in Accel."""
    rows: dict[Structure, list[int]] = {}
    for row, structure in enumerate(structures):
        rows.setdefault(structure, []).append(row)

    def mean(values: Floats) -> Floats:
        return np.array([values[of_structure].mean(axis=0) for of_structure in rows.values()])

    merged = {device: mean(values) for device, values in latency_ms.items()}
    return Table(tuple(rows), mean(scores), merged)


def read_fbnet(folder: Path) -> tuple[Integers, dict[str, Floats]]:
    """Return the operators, (networks, layers), and ms by device, (networks,)."""
    rows = _rows(folder / FBNET)
    layers = np.array([[int(name) for name in row["layers"].split("-")] for row in rows])
    columns = [column for column in rows[0] if column.endswith("_ms")]
    return layers, {column.removesuffix("_ms"): _numbers(rows, column) for column in columns}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def _numbers(rows: Sequence[Mapping[str, str]], column: str) -> Floats:
    return np.array([float(row[column] or math.nan) for row in rows])


def _macro_structure(layers: str) -> Structure:
    blocks = [MACRO_BLOCKS[int(digit)] for digit in layers]
    # Made-up tables hold shorter networks, which have the first layers.
    count = len(layers)
    shapes = zip(blocks, MACRO_WIDTHS[:count], MACRO_STRIDES[:count], strict=True)
    super_blocks = [SuperBlock(b.type, 1, width, s, b.kernel, b.ratio) for b, width, s in shapes]
    # The networks read 32 x 32 pixels with a stem of stride 1: 64 and 2 give the same layers.
    return Structure((SuperBlock("Conv", 1, 32, 2), *super_blocks, _head()), 64)


def _accel_structure(row: Mapping[str, str]) -> Structure:
    super_blocks = []
    for number, (width, stride) in enumerate(zip(ACCEL_WIDTHS, ACCEL_STRIDES, strict=True)):
        names = ("expansion", "kernel", "depth", "se")
        ratio, kernel, depth, squeeze = (int(row[f"block{number}_{name}"]) for name in names)
        super_blocks.append(
            SuperBlock("MBSE" if squeeze else "MB", depth, width, stride, kernel, ratio)
        )
    return Structure((SuperBlock("Conv", 1, 32, 2), *super_blocks, _head()), 224)


def _head() -> SuperBlock:
    return SuperBlock("Conv", 1, 1280, kernel=1)

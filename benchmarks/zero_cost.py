"""Scores without any training, for all networks of NAS-Bench-Macro: Zen-score and AZ-NAS.

Run from the repository:
    python benchmarks/zero_cost.py --tables FOLDER
FOLDER is the folder of the public tables; see `tables`. Each network becomes a row of
results/zero_cost_macro.csv: its layers as in the table, and its scores. (The complexity of AZ-NAS
is `Table.multiply_adds`.) A stopped run continues. Rows are in random order, so that the networks
of a stopped run are a random sample of the table.

Zen-score is the mean over 1 draw of 8 images, not 32 draws of 16, to save time. The residual links
of the table's blocks stay in the network: on 40 random networks, with 2 draws of 8 images, the rank
correlation with the scores without these links is 0.9998. AZ-NAS uses 16 images. With 8, the last
blocks have fewer positions than channels, which changes the progressivity: on the same 40 networks,
its rank correlation with the progressivity from 64 images falls from 0.98 to 0.51.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from az_nas import AzNasScores, az_nas, combined
from conditions import RESULTS
from genets.structure import Structure
from tables import MACRO, MACRO_BLOCKS, Floats, Table, read_macro
from zen_score import zen_score

FILE = "zero_cost_macro.csv"
COLUMNS = ("layers", "zen", "expressivity", "progressivity", "trainability")
ZEN_REPEATS, ZEN_BATCH = 1, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=RESULTS / FILE, metavar="CSV")
    parser.add_argument("--limit", type=int, metavar="N", help="score only N networks, as a trial")
    options = parser.parse_args()
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit must be at least 1, but it is {options.limit}")
    if not (options.tables / MACRO).is_file():
        print(f"Skipped: {options.tables} has no file {MACRO}.")
        return
    torch.set_num_threads(1)
    structures = [*read_macro(options.tables).structures]
    random.Random(0).shuffle(structures)
    score_all(structures[: options.limit], options.out)


def score_all(structures: Iterable[Structure], out: Path) -> None:
    """Append a row to the file for each structure without a row."""
    scored = scored_layers(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    # One row is one write, so that a stopped run leaves no part of a row.
    with out.open("a", newline="", encoding="utf-8", buffering=1) as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        for structure in structures:
            if layers_of(structure) not in scored:
                writer.writerow(row(structure))


def scored_layers(out: Path) -> set[str]:
    if not out.exists():
        return set()
    with out.open(newline="", encoding="utf-8") as file:
        return {row["layers"] for row in csv.DictReader(file)}


def read_scores(table: Table, path: Path = RESULTS / FILE) -> dict[str, Floats] | None:
    """Read the scores of all networks of a table, by method; None where rows are missing.

    Returns:
        (networks,) for `Zen-score` and for `AZ-NAS`, which combines its four scores.
    """
    if not scored_layers(path).issuperset(map(layers_of, table.structures)):
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["layers"]: row for row in csv.DictReader(file)}
    ordered = [rows[layers_of(structure)] for structure in table.structures]
    az = [
        AzNasScores(
            float(row["expressivity"]), float(row["progressivity"]), float(row["trainability"]),
            float(multiply_adds),
        )
        for row, multiply_adds in zip(ordered, table.multiply_adds, strict=True)
    ]  # fmt: skip
    zen = np.array([float(row["zen"]) for row in ordered])
    return {"Zen-score": zen, "AZ-NAS": combined(az)}


def row(structure: Structure) -> list[str | float]:
    az = az_nas(structure)
    zen = zen_score(structure, repeats=ZEN_REPEATS, batch=ZEN_BATCH)
    scores = (zen, az.expressivity, az.progressivity, az.trainability)
    return [layers_of(structure), *(round(score, 6) for score in scores)]


def layers_of(structure: Structure) -> str:
    """The layers of a network of NAS-Bench-Macro as its table writes them: a digit per block."""
    return "".join(str(MACRO_BLOCKS.index(stage.block)) for stage in structure.super_blocks)


if __name__ == "__main__":
    main()

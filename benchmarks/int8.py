"""INT8 against FP32 and BF16: latency and accuracy of a network trained on the digits.

    python benchmarks/int8.py [--batch-size 64] [--weights FILE]

The weights are read from FILE if an earlier run wrote them there; otherwise they are trained now.
Every precision of every engine on this machine is scored on the test split, which training never
saw; the ranges of INT8 are calibrated on 300 training images. Then all are timed in turn in several
rounds, forwards and backwards. Writes benchmarks/results/int8_b64.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from conditions import write_result
from genets.core.errors import TargetError
from genets.data import load_digits
from genets.latency import ENGINES, PROTOCOLS, Target
from genets.latency.engines import Prepared
from genets.latency.evaluation import calibration_images, score
from genets.latency.timing.clock import sample_interleaved
from genets.latency.timing.statistics import Array, median, median_interval
from genets.networks import build, load_weights, save_weights
from genets.structure import zoo
from genets.training import Recipe, fitting_threads, train

STRUCTURE = zoo["master_small"]
PIXELS = STRUCTURE.resolution
ROUNDS = 4
SAMPLES = 25


def load_or_train(path: Path | None, epochs: int, data: Any) -> nn.Module:
    """The network with the weights of `path`; if there are none, train and write them there."""
    torch.manual_seed(0)
    net = build(STRUCTURE, 10)
    if path and path.exists():
        load_weights(net, path)
        return net.eval()
    with fitting_threads(net, PIXELS, 64):
        train(net, data.train, Recipe(epochs, learning_rate=1.2, warmup_epochs=1), seed=0)
    if path:
        save_weights(net, path, {"num_classes": "10", "epochs": str(epochs)})
    return net.eval()


def targets(batch_size: int) -> list[Target]:
    available = []
    for name, engine in ENGINES.items():
        for precision in engine.precisions:
            target = Target(engine=name, precision=precision, batch_size=batch_size)
            try:
                target.check()
            except TargetError:
                continue
            available.append(target)
    return available


def time_in_turn(prepared: dict[str, tuple[Target, Prepared]]) -> dict[str, Array]:
    """All samples of each network, ms per image."""
    samples: dict[str, list[Array]] = {name: [] for name in prepared}
    names = list(prepared)
    for turn in range(ROUNDS):
        for name in names if turn % 2 == 0 else reversed(names):
            target, run = prepared[name]
            with ENGINES[target.engine].open(target) as clock:
                seconds = sample_interleaved(
                    clock, {"": run}, PROTOCOLS["genets-1"], min_samples=SAMPLES, time_limit_s=0.4
                )[""].counted_s
            samples[name].append(seconds * 1e3 / target.batch_size)
    return {name: np.concatenate(parts) for name, parts in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="file to read, or to write if it is missing")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    data = load_digits(PIXELS)
    net = load_or_train(options.weights, options.epochs, data)
    images = calibration_images(data.train)
    prepared: dict[str, tuple[Target, Prepared]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for target in targets(options.batch_size):
        engine, name = ENGINES[target.engine], f"{target.engine}-{target.precision}"
        with engine.open(target):
            prepared[name] = target, engine.prepare(net, target, PIXELS, images)
            scored = score(prepared[name][1].predict, data.test, 64)
        rows[name] = scored.to_json() | {"seconds_before": prepared[name][1].seconds}
    samples = time_in_turn(prepared)
    for name, row in rows.items():
        low, high = median_interval(samples[name])
        row["ms_per_image"] = median(samples[name])
        row |= {"low_ms_per_image": low, "high_ms_per_image": high}
    base = rows["torch-fp32"]
    for row in rows.values():
        row["top1_points_lost"] = 100 * (base["top1"] - row["top1"])
        row["speed_over_torch_fp32"] = base["ms_per_image"] / row["ms_per_image"]
    figures = {"structure": str(STRUCTURE), "test_images": len(data.test), "rows": rows}
    used = [target for target, _ in prepared.values()]
    write_result(f"int8_b{options.batch_size}", figures, *used)


if __name__ == "__main__":
    main()

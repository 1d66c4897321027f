"""What preparing a latency table costs the host: a stub takes the place of the GPU.

    python benchmarks/table_preparation.py [--tiny]

Every item of the latency table of genet_normal's default design space at 192 pixels, batch 64,
torch-graph fp16 (with 30 networks held out) is built and prepared, on torch's meta device: the
stub does everything except the kernels. The benchmark reports the seconds of the host, the items,
the distinct shapes of convolutions for which cuDNN searches an algorithm, and, for `genets compare
--set paper34`, how often a network is built and the seconds of building and counting. Writes
benchmarks/results/table_preparation.json.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

from torch import nn

from conditions import add_tiny_option, write_result
from genets.analysis.comparison.networks import find_networks
from genets.latency import Target
from genets.latency.predictor.builder import prepare_item
from genets.latency.predictor.items import choose_items
from genets.latency.predictor.preparation import new_shapes
from genets.structure import DesignSpace, Structure, zoo
from stub_device import StubEngine

TARGET = Target("cuda", "torch-graph", "fp16", 64)
NETWORKS = 50  # 20 to calibrate, and 30 that are held out
CLASSES = 1000
SEED = 401


def prepare_table(master: Structure, step: int) -> dict[str, Any]:
    """Prepare each `step`th item of a table; the seconds are wall time and CPU time."""
    items = choose_items(DesignSpace(resolutions=()).around(master), NETWORKS, SEED)[::step]
    engine = StubEngine()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    shapes = sum(new_shapes((item, TARGET.batch_size) for item in items).values())
    with engine.open(TARGET):
        runs = [prepare_item(engine, item, TARGET, CLASSES) for item in items]
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    assert shapes == len(engine.shapes), "the shapes that run were not those that were counted"
    return {
        "items": len(runs),
        "whole_networks": sum(isinstance(item, Structure) for item in items),
        "distinct_shapes": shapes,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
    }


def count_networks(set_name: str) -> dict[str, Any]:
    """Build and count the networks of a comparison, until a device has to measure them."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    built: Counter[str] = Counter()
    networks = []
    for each in find_networks([], set_name):

        def make(each: Any = each) -> nn.Module:
            built[each.name] += 1
            network: nn.Module = each.make()
            return network

        networks.append(type(each)(each.name, each.family, each.resolution, make))
    for network in networks:
        _ = network.size
        network.network("meta")
    return {
        "networks": len(networks),
        "most_builds_of_a_network": max(built.values()),
        "wall_s": time.perf_counter() - wall_s,
        "cpu_s": time.process_time() - cpu_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_tiny_option(parser)
    options = parser.parse_args()
    master = zoo["master_small" if options.tiny else "genet_normal"]
    figures = {
        "target": TARGET.name,
        "master": str(master),
        "table": prepare_table(master, step=20 if options.tiny else 1),
        "compare": count_networks("genets" if options.tiny else "paper34"),
    }
    write_result("table_preparation", figures)


if __name__ == "__main__":
    main()

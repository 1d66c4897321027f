"""A published network, fine-tuned on the images of a search, beside the winners of the search.

Run from the repository, after `pretrained.py --studies FOLDER`:
    python benchmarks/published.py --studies FOLDER --weights FILE [--network timm:NAME]
        [--tasks 500-0 100-0] [--resolutions 32]
Writes results/published.json; runs of the same network stay if they are not run again. FILE has
the published weights of the network. A task is the name of a folder of images in FOLDER: images
for each class, and seed.

The network is trained like a rival of the search (recipe `finetune`, as many epochs as the winners
of the search), but whatever its latency is. It is then measured in turn with the MasterNet and the
winners. Trainings are stored beside the studies, so a stopped run continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import nn

from conditions import read_result, write_result
from genets.latency import measure_interleaved
from genets.nas.result import SearchResult
from genets.nas.rivals.contender import Rival
from genets.nas.search import run_search
from genets.nas.settings.rival_names import RivalName
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import StudyReader, is_study, load_settings
from genets.networks import build, resolve_network
from genets.training.train_network import train_network

NAME, MASTER = "published", "MasterNet"
MEASURE_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="timm:tf_efficientnet_lite0")
    parser.add_argument("--tasks", nargs="+", default=["500-0", "100-0", "25-0"])
    parser.add_argument("--resolutions", type=int, nargs="+", default=[32])
    options = parser.parse_args()
    for path in (options.studies, options.weights):
        if not path.exists():
            raise SystemExit(f"skipped: {path} is missing")
    stored = read_result(NAME) or {}
    runs = stored.get("runs", {}) if stored.get("network") == options.network else {}
    name = RivalName(options.network, str(options.weights.resolve()))
    for task in options.tasks:
        study = options.studies / f"{task}-studies" / "inherited"
        if not is_study(study):
            raise SystemExit(f"skipped: {study} is no study; run pretrained.py first")
        settings = load_settings(study)
        search = run_search(settings, study)
        for resolution in options.resolutions:
            rival = Rival.make(name, settings, resolution)
            place = f"{options.network.removeprefix('timm:')}-{resolution}"
            run = fine_tune(rival, study.parent / place)
            run |= compare(rival, settings, search)
            runs[f"{task}, {resolution} pixels"] = run
            write_result(NAME, {"network": options.network, "runs": runs}, settings.target)


def fine_tune(rival: Rival, folder: Path) -> dict[str, Any]:
    """Train the published network, or load its result from the folder."""
    result = train_network(rival.run, folder, device="cpu")
    return {"epochs": rival.run.recipe.epochs, "test_top1": result.test.top1}


def compare(rival: Rival, settings: SearchSettings, search: SearchResult) -> dict[str, Any]:
    """Scores of MasterNet and winners, and the latency of all networks."""
    winners = {budget: each.selected.structure for budget, each in search.budgets.items()}
    structures = {MASTER: settings.structure, **winners}
    classes = StudyReader(search.folder).num_classes()
    assert classes is not None
    nets: dict[str, nn.Module] = {name: build(each, classes) for name, each in structures.items()}
    network = rival.run.network
    nets[network] = resolve_network(network, classes).network
    sizes = dict.fromkeys(structures, settings.resolution) | {network: rival.resolution}
    measured = measure_interleaved(
        nets, settings.target, sizes, reference=MASTER, time_limit_s=MEASURE_S
    )

    def latency(name: str) -> dict[str, Any]:
        measurement = measured[name]
        ratio = measurement.ratio
        return {
            "ms_per_image": measurement.ms_per_image,
            "times_master": ratio and ratio.median,
            "interval": ratio and [ratio.low, ratio.high],
            "noisy": measurement.noisy,
            "disturbed": measurement.disturbed,
        }

    return latency(network) | {
        MASTER: {"test_top1": search.master.top1, **latency(MASTER)},
        "winners": {
            budget: {"test_top1": each.winner.top1, **latency(budget)}
            for budget, each in search.budgets.items()
        },
    }


if __name__ == "__main__":
    main()

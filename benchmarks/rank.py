"""Rank analysis: how long it takes, and whether the claim of section 3.3 holds on digits.

Run from the repository: python benchmarks/rank.py. Writes results/rank.json and
docs/pictures/rank_digits.png.
"""

from __future__ import annotations

import copy
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

import genets
from conditions import write_result
from genets.analysis.rank.rank import MEASURES, NetworkRank, claim_sentence, rank, rank_of
from genets.data import load_digits
from genets.networks import resolve_network
from genets.report.rank.charts import draw_spectra
from genets.training import Recipe, evaluate, fitting_threads, train

TIMED = ("timm:resnet152", "profiling_132")
TARGET_S = 60
# Only XX blocks, with stages at 8, 4 and 2 pixels. The second structure has one width, because
# ranks as shares of the channels could fall only because the channels grow.
STRUCTURES = {
    "widening": "Conv3x16s2 XX3x16*2 XX3x32s2*2 XX3x64s2*2 Conv1x128 @16",
    "one width": "Conv3x16s2 XX3x32*2 XX3x32s2*2 XX3x32s2*2 Conv1x128 @16",
}
RECIPE = Recipe(epochs=40, batch_size=64, learning_rate=0.4, warmup_epochs=2)
SEEDS = (0, 1, 2)
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "rank_digits.png"


def timing() -> dict[str, Any]:
    """Seconds to build and to analyse each network."""
    figures: dict[str, Any] = {"target_s": TARGET_S}
    for name in TIMED:
        start = time.perf_counter()
        source = resolve_network(name, seed=0)
        built = time.perf_counter()
        found = rank_of(source)
        figures[name] = {
            "build_s": round(built - start, 2),
            "rank_s": round(time.perf_counter() - built, 2),
            "stages": len(found.stages),
        }
    total = sum(figures[name][key] for name in TIMED for key in ("build_s", "rank_s"))
    return figures | {"total_s": round(total, 2)}


def digits(notation: str, seed: int) -> tuple[dict[str, Any], list[NetworkRank]]:
    """Ranks of a network before and after its training, and of the change of its weights."""
    structure = genets.Structure.parse(notation)
    data = load_digits(structure.resolution, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = genets.build(structure, data.num_classes)
    initial = copy.deepcopy(net)
    fresh = rank(net, structure.resolution, name="digits network")
    start = time.perf_counter()
    with fitting_threads(net, structure.resolution, RECIPE.batch_size):
        train(net, data.train, RECIPE, seed=seed)
    seconds = time.perf_counter() - start
    trained = rank(net, structure.resolution, name="digits network", weights="trained")
    step = difference(net, initial)
    change = rank(step, structure.resolution, name="its change", weights="trained minus fresh")
    record = {
        "seed": seed,
        "training_s": round(seconds, 1),
        "test_top1": evaluate(net, data.test).top1,
        "fresh": shares(fresh),
        "trained": shares(trained),
        "change": shares(change),
        "claim": claim_sentence(trained),
        "claim_on_the_change": claim_sentence(change),
    }
    return record, [fresh, trained, change]


@torch.no_grad()
def difference(net: nn.Module, initial: nn.Module) -> nn.Module:
    """Replace the weights of `initial` by those of `net` minus its own, in place."""
    for own, trained in zip(initial.parameters(), net.parameters(), strict=True):
        own.copy_(trained - own)
    return initial


def shares(found: NetworkRank) -> list[dict[str, float]]:
    """The measures of each stage, as shares of the output channels."""
    return [
        {name: round(measure(stage.spectrum), 4) for name, measure in MEASURES.items()}
        for stage in found.stages
    ]


def main() -> None:
    figures: dict[str, Any] = {"timing": timing(), "epochs": RECIPE.epochs}
    for name, notation in STRUCTURES.items():
        runs = [digits(notation, seed) for seed in SEEDS]
        figures[name] = {"structure": notation, "seeds": [record for record, _ in runs]}
        if name == "widening":
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            title = "XX blocks alone on digits: last 3 x 3 convolution of each stage"
            line = f"{notation}, {RECIPE.epochs} epochs, seed {SEEDS[0]}"
            with Image.open(BytesIO(draw_spectra(runs[0][1], title, line))) as picture:
                picture.convert("RGB").quantize(64).save(PICTURE, optimize=True)  # a small file
    write_result("rank", figures)


if __name__ == "__main__":
    main()

"""The frontier: is it equal to brute force, and how long does it take on large spaces?

Run from the repository: python benchmarks/selection.py. Writes results/selection.json.
"""

import itertools
import time
from collections.abc import Iterable

import numpy as np

from conditions import write_result
from genets.nas.selection.chain import ChainStage
from genets.nas.selection.frontier import frontier, random_selection
from genets.structure import DesignSpace, SearchSpace, Structure, SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds

SMALL = "Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*3 DW3x64s2r3*2 Conv1x128 @32"
LARGE = (
    "Conv3x32s2 XX3x128s2 XX3x192s2*2 BL3x640s2r0.25*6 DW3x640s2r3*5 DW3x640r3*4 Conv1x2560 @256"
)
# MasterNet, width step, repetitions.
SPACES = ((SMALL, 8, 7), (LARGE, 32, 7), (LARGE, 8, 3))


def synthetic_chain(space: SearchSpace, rng: np.random.Generator) -> list[ChainStage]:
    """A chain like that of a real search: smooth in width and depth, with noise.

    Latency: multiply-adds over the speed of the block, a fixed time per layer, and 3 % noise.
    Gain: an intercept and slopes in log depth and log width for each block.
    """
    master, stages = space.master, []
    widths_in: tuple[int, ...] = (master.stem.width,)
    sizes = list(input_resolutions(master))[1:]
    for index, original in enumerate(master.super_blocks):
        options = space.choices(index)
        adds = np.array(
            [[stage_multiply_adds(o, w, sizes[index]) for o in options] for w in widths_in]
        )
        speed = {block: rng.uniform(0.3, 1) for block in space.blocks[index]}
        slope = {block: rng.uniform(0.2, 1, 2) * 0.02 for block in space.blocks[index]}
        intercept = {block: rng.normal(0, 0.01) for block in space.blocks[index]}
        fixed = np.array([0.002 * o.depth for o in options])
        latency = fixed + adds / np.array([speed[o.block] for o in options]) / 3e10
        latency *= rng.normal(1, 0.03, adds.shape).clip(0.9, 1.1)
        local = [
            intercept[o.block]
            + slope[o.block] @ np.log([o.depth / original.depth, o.width / original.width])
            for o in options
        ]
        gain = np.array(local) + 0.004 * np.log(adds / adds.mean())
        stages.append(ChainStage(options, widths_in, latency, gain))
        widths_in = space.widths[index]
    head = master.head
    cost = np.array([[stage_multiply_adds(head, w, sizes[-1]) / 3e10] for w in widths_in])
    stages.append(ChainStage((head,), widths_in, cost, np.zeros_like(cost)))
    return stages


def matches_brute_force(rng: np.random.Generator) -> bool:
    """Whether frontier and brute force agree at every budget, on one small random space."""
    stages = small_chain(rng)
    front = frontier(stages)
    choices = itertools.product(*(range(len(stage.options)) for stage in stages))
    every = [path_sums(stages, choice) for choice in choices]
    claims = [path_sums(stages, chosen) for chosen in front.chosen]
    exact = claims == list(zip(front.latency_ms, front.gain, strict=True))
    best = (max(a for other, a in every if other <= budget) for budget, _ in every)
    reached = (front.gain[front.best(budget) or 0] for budget, _ in every)
    return exact and all(a == b for a, b in zip(best, reached, strict=True))


def small_chain(rng: np.random.Generator) -> list[ChainStage]:
    """A random chain whose values are multiples of 1/64, so that sums and ties are exact."""
    stages: list[ChainStage] = []
    widths_in: tuple[int, ...] = (16,)
    for _ in range(rng.integers(2, 5)):
        widths = rng.choice(np.arange(8, 64, 8), size=rng.integers(1, 4), replace=False)
        depths = range(1, 2 + rng.integers(0, 3))
        options = tuple(SuperBlock("XX", d, int(w)) for w in widths for d in depths)
        shape = (len(widths_in), len(options))
        latency, gain = rng.integers(0, 64, shape) / 64, rng.integers(-64, 64, shape) / 64
        stages.append(ChainStage(options, widths_in, latency, gain))
        widths_in = tuple(int(width) for width in widths)
    return stages


def path_sums(stages: list[ChainStage], choice: Iterable[int]) -> tuple[float, float]:
    """(latency, gain) of one structure, added up stage by stage."""
    latency, gain, width = 0.0, 0.0, stages[0].input_widths[0]
    for stage, option in zip(stages, choice, strict=True):
        row = stage.input_widths.index(width)
        latency += stage.latency_ms[row, option]
        gain += stage.gain[row, option]
        width = stage.options[option].width
    return latency, gain


def timing(master: str, width_step: int, repetitions: int) -> dict[str, object]:
    """Seconds for the whole frontier, and its gain beside that of random selection."""
    design_space = DesignSpace(resolutions=(), width_step=width_step)
    space = design_space.around(Structure.parse(master))
    stages = synthetic_chain(space, np.random.default_rng(0))
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        front = frontier(stages)
        seconds.append(time.perf_counter() - start)
    budget = float(np.median(front.latency_ms))
    drawn = random_selection(stages, budget, 10_000, np.random.default_rng(0))
    return {
        "master": master,
        "width_step": width_step,
        "structures": space.size,
        "widths": [len(space.widths[index]) for index in range(len(space.master.super_blocks))],
        "frontier_points": len(front),
        "seconds_median": round(float(np.median(seconds)), 3),
        "seconds_all": [round(s, 3) for s in seconds],
        "accuracy_at_median_latency": front.gain[front.best(budget) or 0],
        "accuracy_of_10000_random_there": drawn.gain[-1],
    }


def main() -> None:
    rng = np.random.default_rng(0)
    equal = sum(matches_brute_force(rng) for _ in range(200))
    result = {
        "brute_force": {"spaces": 200, "equal": equal},
        "timing": [timing(*space) for space in SPACES],
        "tables": "synthetic: smooth in multiply-adds, depth and width, with noise; seed 0",
    }
    write_result("selection", result)


if __name__ == "__main__":
    main()

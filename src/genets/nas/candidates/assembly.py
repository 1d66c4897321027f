"""Candidates are assembled: each changed super-block from the nearest trial, the rest from the
MasterNet.

A trial trains its super-block inside the MasterNet, so the super-blocks of several trials fit
together; see `networks.channels`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from timm.models.byobnet import ByobNet

from genets.nas.study.records import Trial
from genets.nas.trials.weights import TrialWeights
from genets.networks.channels import MasterChannels
from genets.networks.inheritance import inherit
from genets.structure import Structure, SuperBlock

KERNEL_DISTANCE = 0.5  # a crop or a border of zeros disturbs about as much as half the width


def assemble(
    net: ByobNet,
    structure: Structure,
    channels: MasterChannels,
    trials: Sequence[Trial],
    weights: TrialWeights,
) -> None:
    """Give a network the weights of the nearest trials and of the MasterNet.

    Args:
        net: The network, with fresh weights; it is changed in place.
        structure: Its structure.
        channels: The channels of the MasterNet.
        trials: The trials that ended well around this MasterNet.
        weights: Their weights.

    Raises:
        GenetsError: The file of a needed trial is missing or damaged.
    """
    needed = nearest_trials(structure, channels.structure, trials)
    trained = {index: weights.load(trial) for index, trial in needed.items()}
    inherit(net, structure, channels, trained)


def needed_trials(
    structures: Iterable[Structure], master: Structure, trials: Sequence[Trial]
) -> list[Trial]:
    """The trials whose weights the candidates inherit, each once, in order."""
    needed = {
        trial
        for structure in structures
        for trial in nearest_trials(structure, master, trials).values()
    }
    return sorted(needed)


def nearest_trials(
    structure: Structure, master: Structure, trials: Sequence[Trial]
) -> dict[int, Trial]:
    """For each changed stage the trial with the most similar super-block of the same type.

    A stage is left out where the MasterNet's own super-block is at least as similar, or where no
    trial has its type.
    """
    nearest = {}
    for index in structure.indices:
        wanted, own = structure.stage(index), master.stage(index)
        at_stage = [trial for trial in trials
                    if trial.index == index and trial.super_block.type == wanted.type]  # fmt: skip
        if wanted == own or not at_stage:
            continue
        best = min(at_stage, key=lambda trial: (_distance(trial.super_block, wanted), trial))
        if own.type != wanted.type or _distance(best.super_block, wanted) < _distance(own, wanted):
            nearest[index] = best
    return nearest


def _distance(one: SuperBlock, other: SuperBlock) -> float:
    """How different two super-blocks of one type are, in doublings of depth, width and ratio."""
    return (
        abs(math.log2(one.depth / other.depth))
        + abs(math.log2(one.width / other.width))
        + abs(math.log2(one.ratio / other.ratio))
        + KERNEL_DISTANCE * (one.kernel != other.kernel)
    )

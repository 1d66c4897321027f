"""The lower confidence bound, against brute force."""

import itertools
import math

import numpy as np
import pytest

from genets.core.errors import GenetsError
from genets.nas.accuracy.model import AccuracyModel
from genets.nas.selection.cautious import cautious_frontier, check_caution, lower_bound
from genets.nas.selection.chain import ChainStage
from genets.nas.selection.frontier import frontier
from genets.nas.study.trial import Trial, TrialResult
from genets.structure import Block, DesignSpace, Structure

MASTER = Structure.parse("Conv3x16s2 XX3x24 BL3x48s2r0.25*2 DW3x64s2r3*2 Conv1x128 @32")
BLOCKS = (Block("XX"), Block("BL", ratio=0.25), Block("DW", ratio=3))
SPACE = DesignSpace(BLOCKS, resolutions=()).around(MASTER)
OPTIONS = 8


def fitted(seed, form="bayes"):
    """Few, noisy trials: standard deviations that matter."""
    rng = np.random.default_rng(seed)
    results = []
    for index in range(3):
        choices = SPACE.choices(index)
        own = MASTER.super_blocks[index]
        picked = [own, own, *(choices[n] for n in rng.permutation(len(choices))[:6])]
        for number, super_block in enumerate(picked):
            value = 0.85 + 0.02 * math.log(super_block.width / own.width) + rng.normal(0, 0.02)
            results.append(TrialResult(Trial(index, super_block, number), "done", value, 1.0))
    return AccuracyModel.fit(MASTER, results, 0.9, form=form)


def chain(model, seed):
    """A few options for each super-block, and latencies that follow width and depth."""
    rng = np.random.default_rng(seed)
    widths = (MASTER.stem.width,)
    stages = [ChainStage((MASTER.stem,), (3,), np.zeros((1, 1)), np.zeros((1, 1)))]
    for index in range(3):
        choices = SPACE.choices(index)
        options = tuple(choices[n] for n in sorted(rng.permutation(len(choices))[:OPTIONS]))
        latency = np.array([[1e-3 * o.depth * (w + o.width) for o in options] for w in widths])
        worth = model.stage_accuracy(index, widths, options)
        stages.append(ChainStage(options, widths, latency, worth))
        widths = tuple(sorted({option.width for option in options}))
    nothing = np.zeros((len(widths), 1))
    return [*stages, ChainStage((MASTER.head,), widths, nothing, nothing)]


def structure_of(stages, chosen):
    chosen_stages = (stage.options[n] for stage, n in zip(stages, chosen, strict=True))
    return Structure(tuple(chosen_stages), MASTER.resolution)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("caution", [0.5, 1.0, 3.0])
def test_against_brute_force(seed, caution):
    model = fitted(seed)
    stages = chain(model, seed)
    limit = float(np.quantile(frontier(stages).latency_ms, 0.5))
    front, ceiling = cautious_frontier(stages, model.effects, caution, max_latency_ms=limit)
    best = front.best(limit)
    found = front.accuracy[best]
    assert found == pytest.approx(
        lower_bound(model, front.structure(best, MASTER.resolution), caution)
    )
    truth = -math.inf
    for chosen in itertools.product(*(range(len(stage.options)) for stage in stages)):
        structure = structure_of(stages, chosen)
        if _latency(stages, structure) <= limit + 1e-12:
            truth = max(truth, lower_bound(model, structure, caution))
    assert found <= truth + 1e-9 <= ceiling + 2e-9
    assert found == pytest.approx(truth, abs=1e-9)  # exact on each of these, by no guarantee


def _latency(stages, structure):
    total = 0.0
    for stage, index in zip(stages, structure.indices, strict=True):
        row = stage.input_widths.index(structure.input_width(index))
        total += stage.latency_ms[row, stage.options.index(structure.stage(index))]
    return total


def test_no_caution_is_the_plain_frontier():
    model = fitted(0)
    stages = chain(model, 0)
    plain = frontier(stages)
    front, ceiling = cautious_frontier(stages, model.effects, 0.0)
    np.testing.assert_allclose(front.accuracy, plain.accuracy)
    assert ceiling == pytest.approx(plain.accuracy[-1])


def test_more_caution_never_raises_the_bound():
    model = fitted(1)
    stages = chain(model, 1)
    best = [cautious_frontier(stages, model.effects, z)[0].accuracy[-1] for z in (0, 0.5, 1, 2, 4)]
    assert best == sorted(best, reverse=True)


def test_a_latency_that_nothing_keeps_gives_the_fastest():
    model = fitted(2)
    stages = chain(model, 2)
    front, _ = cautious_frontier(stages, model.effects, 1.0, max_latency_ms=0.0)
    assert front.best(0.0) is None
    assert front.latency_ms[front.fastest] == pytest.approx(frontier(stages).latency_ms[0])


def test_what_cannot_be_cautious_says_so():
    with pytest.raises(GenetsError, match="regression 'paper' of this study has no standard dev"):
        check_caution(1.0, fitted(0, form="paper"))
    with pytest.raises(GenetsError, match="caution must be a number of at least 0, not -1"):
        check_caution(-1, fitted(0))
    check_caution(0.0, fitted(0, form="paper"))
    assert math.isfinite(lower_bound(fitted(0, form="paper"), MASTER, 0.0))

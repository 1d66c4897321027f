"""Trials: what they share, and that sharing changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import TINY

from genets.data import load_data
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.runner import TrialJob, TrialRunner
from genets.networks import build, save_weights
from genets.structure import SuperBlock
from genets.training import Recipe, RunRecipe, with_all_fields

MASTER = TINY
TRIALS = (
    Trial(1, MASTER.super_blocks[1], 0),
    Trial(1, MASTER.super_blocks[1], 1),
    Trial(1, SuperBlock("XX", 2, 24), 0),
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrialJob:
    weights = tmp_path_factory.mktemp("job") / "master.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(build(MASTER, 10), weights, {})
    recipe = Recipe(epochs=1, learning_rate=0.8, label_smoothing=0.0)
    return TrialJob(
        master=MASTER, master_weights=weights, data="digits", recipe=recipe, thaw="after", seed=3
    )


@pytest.fixture(scope="module")
def runner(job: TrialJob) -> TrialRunner:
    return TrialRunner(job)


def test_each_worker_trains_where_its_number_says(
    job: TrialJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *where, **how: self)  # there is none
    own: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", own.append)
    devices = [replace(job, device="cuda").runner(worker).job.device for worker in range(3)]
    assert devices == own == ["cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.parametrize(
    ("thaw", "precision"),
    [("block", "fp32"), ("after", "fp32"), ("all", "fp32"), ("after", "bf16")],
)
def test_a_trial_gives_the_same_alone_or_in_a_group(
    job: TrialJob, thaw: str, precision: Literal["fp32", "bf16"]
) -> None:
    recipe = replace(job.recipe, precision=precision)
    runner = TrialRunner(replace(job, thaw=thaw, recipe=recipe))
    together = runner.run(TRIALS)
    for trial, expected in zip(TRIALS, together, strict=True):
        (alone,) = runner.run([trial])
        assert (alone.trial, alone.status) == (trial, "done")
        assert alone.top1 == pytest.approx(expected.top1, abs=2e-3)
        assert alone.cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-3)


@pytest.mark.parametrize("thaw", ["after", "all"])
def test_with_every_field_a_trial_gives_the_same_alone_or_in_a_group(
    job: TrialJob, thaw: str
) -> None:
    recipe = RunRecipe(
        epochs=1, optimizer="adamw", learning_rate=0.01, mixup=0.4, cutmix=1.0, ema_decay=0.5
    )
    runner = TrialRunner(replace(job, thaw=thaw, recipe=recipe))
    plain = TrialRunner(replace(job, thaw=thaw, recipe=replace(recipe, mixup=0.0, cutmix=0.0)))
    together, unmixed = runner.run(TRIALS), plain.run(TRIALS[:1])
    for trial, expected in zip(TRIALS, together, strict=True):
        (alone,) = runner.run([trial])
        assert (alone.trial, alone.status) == (trial, "done")
        assert alone.cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-3)
    assert together[0].cross_entropy != unmixed[0].cross_entropy


def test_trials_see_images_with_the_augmentation_of_their_recipe(
    job: TrialJob, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    recipe = RunRecipe(epochs=1, crop_area=(0.9, 1.0), flip=0.0, erase=0.5)
    found = replace(job, data=str(tmp_path), recipe=recipe).load_data(8)
    expected = load_data(tmp_path, 8, seed=job.seed, augmentation=recipe.augmentation())
    usual = replace(job, data=str(tmp_path)).load_data(8)
    images = [next(d.train.batches(4, epoch=0))[0] for d in (found, expected, usual)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert recipe.augmentation() != with_all_fields(job.recipe).augmentation()


@pytest.mark.parametrize(
    ("thaw", "trained", "frozen"),
    [
        ("after", {-1: {"stem", "stages", "final_conv", "head"}, 2: {"final_conv", "head"}}, {}),
        ("block", {-1: {"stem"}, 2: {"final_conv"}},
         {-1: {"stages", "final_conv", "head"}, 2: {"head"}}),
    ],
)  # fmt: skip
def test_trials_of_stem_and_head(
    job: TrialJob, thaw: str, trained: dict[int, set[str]], frozen: dict[int, set[str]]
) -> None:
    runner = TrialRunner(replace(job, thaw=thaw))
    for index, width in ((-1, 16), (2, 32)):
        own = MASTER.stage(index)
        group = [Trial(index, own), Trial(index, replace(own, width=width))]
        wider, before = runner._student(group[1]), runner.master_net
        kept = {id(p) for p in wider.parameters() if not p.requires_grad}
        assert len(kept) == sum(
            len([*getattr(before, part).parameters()]) for part in frozen.get(index, ())
        )
        assert len([*wider.parameters()]) - len(kept) == sum(
            len([*getattr(before, part).parameters()]) for part in trained[index]
        )
        for result in runner.run(group):
            assert (result.status, result.reason) == ("done", "")
            assert result.cross_entropy is not None


def test_another_machine_gives_the_same(job: TrialJob, runner: TrialRunner) -> None:
    (here,), (there,) = runner.run(TRIALS[2:]), TrialRunner(job).run(TRIALS[2:])
    assert here.cross_entropy == pytest.approx(there.cross_entropy, rel=1e-6)


def test_repeats_and_studies_have_weights_of_their_own(job: TrialJob, runner: TrialRunner) -> None:
    first, second = (runner._student(trial).state_dict() for trial in TRIALS[:2])
    other = TrialRunner(replace(job, seed=4))._student(TRIALS[0]).state_dict()
    name = "0.0.conv1_1x1.conv.weight"
    assert not torch.equal(first[name], second[name])
    assert not torch.equal(first[name], other[name])


def test_a_control_trial_is_fresh_and_the_rest_is_the_masters(runner: TrialRunner) -> None:
    student, master = runner._student(TRIALS[0]), runner.master_net
    fresh, own = student[0][0].conv1_1x1.conv.weight, master.stages[1][0].conv1_1x1.conv.weight
    assert fresh.shape == own.shape
    assert not torch.equal(fresh, own)
    assert torch.equal(student[1].conv.weight, master.final_conv.conv.weight)


def test_thawing_the_block_leaves_what_follows_as_it_was(job: TrialJob) -> None:
    runner = TrialRunner(replace(job, thaw="block"))
    student = runner._student(Trial(0, SuperBlock("DW", 1, 8, 2, ratio=3)))
    assert all(p.requires_grad for p in student[0].parameters())
    assert not any(p.requires_grad for part in student[1:] for p in part.parameters())


def test_the_master_is_left_as_it_was(runner: TrialRunner) -> None:
    before = {name: t.clone() for name, t in runner.master_net.state_dict().items()}
    runner.run(TRIALS)
    for name, tensor in runner.master_net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_diverging_trial_fails_with_its_reason(job: TrialJob) -> None:
    recipe = replace(job.recipe, learning_rate=1e30)
    results = TrialRunner(replace(job, recipe=recipe)).run(TRIALS[:2])
    for result in results:
        assert (result.status, result.top1, result.cross_entropy) == ("failed", None, None)
        assert "the loss became" in result.reason or "cross-entropy is" in result.reason


def test_a_missing_master_is_one_sentence(job: TrialJob, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weights file"):
        TrialRunner(replace(job, master_weights=tmp_path / "none.safetensors"))


def test_small_steps_take_one_thread(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another program wants the cores, threads that wait cost a hundred times the work."""
    seen: list[int] = []

    def _run(self: TrialRunner, group: Sequence[Trial]) -> list[TrialResult]:
        seen.append(torch.get_num_threads())
        return [TrialResult(trial, "done", 0.5, 1.0) for trial in group]

    before = torch.get_num_threads()
    monkeypatch.setattr(TrialRunner, "_run", _run)
    try:
        torch.set_num_threads(2)
        runner.run(TRIALS[:1])
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)

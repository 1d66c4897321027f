"""Complete runs: killed, continued, and refused."""

import gc
import json
import math
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import genets
from genets.core.errors import GenetsError, TrainingError
from genets.data import load_data, seeded_globals
from genets.networks import resolve_network
from genets.training import (
    Listener,
    RunRecipe,
    RunSettings,
    Score,
    fitting_threads,
    train_on,
)
from genets.training.checkpoints import Checkpoints
from genets.training.run.distributed import Processes
from genets.training.run.folder import load_settings
from genets.training.run.state import TrainingState
from genets.training.run.trainer import Trainer
from genets.training.train_network import train_network

NETWORK = "Conv3x8s2 XX3x16s2 BL3x24r0.5 Conv1x32 @16"
# Everything that draws or keeps state: mix-up, dropout-free but with momentum, average, teacher.
RECIPE = RunRecipe(
    epochs=3, batch_size=256, learning_rate=0.4, warmup_epochs=0.5, mixup=0.4, cutmix=1.0,
    ema_decay=0.9,
)  # fmt: skip
PLAIN = RunRecipe(epochs=2, batch_size=256, learning_rate=0.4)
STEPS = 4  # of an epoch: 1,078 training images


class KilledError(Exception):
    pass


def settings(recipe=PLAIN, **changes):
    return RunSettings(**{"network": NETWORK, "data": "digits", **changes}, recipe=recipe)


def run(out, recipe=PLAIN, *, notes=None, seconds=600.0, **changes):
    listener = Listener(note=[].append if notes is None else notes.append)
    return train_network(
        settings(recipe, **changes), out, device="cpu", listener=listener,
        checkpoint_seconds=seconds,
    )  # fmt: skip


def weights(out):
    return load_file(out / "results" / "weights.safetensors")


def checkpoints(out):
    return sorted(path.name.partition(".")[0] for path in (out / "checkpoints").glob("epoch-*"))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_trains_as_a_search_does(tmp_path):
    """Both have the same steps, with mix-up and the average of the weights, and the same seeds."""
    recipe = replace(RECIPE, epochs=1, optimizer="adamw", learning_rate=1e-3)
    run(tmp_path, recipe)
    with seeded_globals("network", 0):
        net = resolve_network(NETWORK, 10).network
    with fitting_threads(net, 16, recipe.batch_size):
        train_on(net, load_data("digits", 16), recipe, seed=0)
    assert_equal(weights(tmp_path), net.state_dict())


def test_few_images_give_more_epochs(tmp_path, kill_at):
    recipe = replace(PLAIN, epochs=1, least_steps=2 * STEPS)
    kill_at(STEPS + 1)
    notes: list[str] = []
    with pytest.raises(KilledError):
        run(tmp_path, recipe, notes=notes)
    assert load_settings(tmp_path).recipe == replace(recipe, precision="fp32")
    assert notes[0].startswith("2 epochs in place of 1, because an epoch has few steps")
    result = run(tmp_path, recipe)
    longer = run(tmp_path / "longer", PLAIN)
    assert result.epochs == longer.epochs == 2
    assert_equal(weights(tmp_path), weights(tmp_path / "longer"))


@pytest.fixture
def kill_at(monkeypatch):
    """Raise an error at the beginning of a step of this process (counted from 1)."""
    step = TrainingState.step

    def set_up(number):
        calls = iter(range(1, 10**6))

        def dying(self, *arguments):
            if next(calls) == number:
                raise KilledError
            return step(self, *arguments)

        monkeypatch.setattr(TrainingState, "step", dying)

    yield set_up
    monkeypatch.setattr(TrainingState, "step", step)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """An uninterrupted run, and its result."""
    out = tmp_path_factory.mktemp("alone")
    return out, run(out, RECIPE)


@pytest.mark.parametrize("seconds", [600.0, 0.0], ids=["by epoch", "by step"])
def test_killed_runs_end_with_the_same_bits(alone, tmp_path, kill_at, seconds):
    expected, result = alone
    for step in (3, 5, 5, 2):
        kill_at(step)
        with pytest.raises(KilledError):
            run(tmp_path, RECIPE, seconds=seconds)
    kill_at(0)
    again = run(tmp_path, RECIPE, seconds=seconds)
    assert_equal(weights(tmp_path), weights(expected))
    assert (again.validation, again.test, again.epoch) == (
        result.validation,
        result.test,
        result.epoch,
    )
    last = sorted((tmp_path / "checkpoints").glob("epoch-0003*"))[-1]
    assert_equal(load_file(last), load_file(next((expected / "checkpoints").glob("epoch-0003*"))))


@pytest.mark.parametrize(
    "change",
    [
        {"decay_norm_and_bias": False},
        {"momentum": 0.0},
        {"channels_last": False},
        {"precision": "bf16"},
        {"optimizer": "adamw", "learning_rate": 0.004},
    ],
    ids=str,
)
def test_other_recipes_continue_with_the_same_bits(tmp_path, kill_at, change):
    recipe = replace(PLAIN, **change)
    run(tmp_path / "alone", recipe)
    kill_at(6)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", recipe, seconds=0.0)
    kill_at(0)
    run(tmp_path / "killed", recipe)
    assert_equal(weights(tmp_path / "killed"), weights(tmp_path / "alone"))


def test_a_step_checkpoint_loses_no_step(tmp_path, kill_at, monkeypatch):
    kill_at(7)
    with pytest.raises(KilledError):
        run(tmp_path, seconds=0.0)
    assert checkpoints(tmp_path)[-1] == "epoch-0001-step-000002"
    kill_at(0)
    seen = []
    original = Trainer._step
    monkeypatch.setattr(
        Trainer, "_step", lambda self, *batch: (seen.append(1), original(self, *batch))[1]
    )
    run(tmp_path)
    assert len(seen) == 2 * STEPS - 6


def test_a_trainer_yields_epochs_and_continues_after_a_stop(tmp_path):
    data, recipe = load_data("digits", 16), replace(RECIPE, epochs=2)

    def make_trainer(name):
        with seeded_globals("network", 0):
            net = resolve_network(NETWORK, 10).network
        state = TrainingState(net, recipe, Processes("cpu"))
        return Trainer(state, data, 0, Checkpoints(tmp_path / name))

    alone, stopped = make_trainer("alone"), make_trainer("stopped")
    records = list(alone.train())
    assert [record.epoch for record in records] == [1, 2]
    assert records == alone.position.records
    first = next(stopped.train())
    assert (first.epoch, stopped.checkpoints.last_path() is not None) == (1, True)
    assert [record.epoch for record in stopped.train()] == [2]
    assert_equal(stopped.state.net.state_dict(), alone.state.net.state_dict())


def test_a_trainer_is_freed_without_the_collector(tmp_path, monkeypatch):
    """A reference cycle would keep its images and their readers alive."""
    trainers = []
    resume = Trainer.resume
    monkeypatch.setattr(
        Trainer, "resume", lambda self: (trainers.append(weakref.ref(self)), resume(self))[1]
    )
    gc.disable()
    try:
        run(tmp_path, replace(PLAIN, epochs=1))
        assert [trainer() for trainer in trainers] == [None]
    finally:
        gc.enable()


def test_log_and_results_agree(alone):
    out, result = alone
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert [record["steps"] for record in records] == [STEPS, 2 * STEPS, 3 * STEPS]
    best = max(records, key=lambda record: record["top1"])
    assert (best["epoch"], best["top1"]) == (result.epoch, result.validation.top1)
    assert best["best"]
    stored = json.loads((out / "results" / "result.json").read_text())
    assert stored["settings"]["recipe"]["mixup"] == 0.4
    assert out / stored["results"] == result.results
    assert stored["input"]["shape"] == ["N", 3, 16, 16]
    assert stored["test"]["images"] == 1800


def test_results_are_a_network_for_every_command(alone):
    out, _ = alone
    named = resolve_network(str(out / "results"))
    assert (str(named.structure), named.resolution) == (NETWORK, 16)
    net = genets.load(out / "results")
    assert_equal(net.state_dict(), weights(out))
    assert not net.training


def test_a_finished_run_returns_its_result_at_once(alone, kill_at):
    out, result = alone
    kill_at(1)
    assert run(out, RECIPE).to_json() == result.to_json()


def test_the_newest_and_the_best_checkpoints_are_kept(alone):
    out, result = alone
    kept = {2, 3, result.epoch}
    assert set(checkpoints(out)) >= {f"epoch-{epoch:04d}-step-000000" for epoch in kept}
    assert len(checkpoints(out)) <= 4


@pytest.mark.parametrize("damage", ["bit", "short", "empty"])
def test_a_damaged_checkpoint_is_not_used(alone, tmp_path, damage):
    expected, _ = alone
    shutil.copytree(expected, tmp_path / "run")
    out = tmp_path / "run"
    last = sorted((out / "checkpoints").glob("epoch-*"))[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes({"bit": content, "short": content[:-9], "empty": b""}[damage])
    notes = []
    run(out, RECIPE, notes=notes)
    assert notes == [f"checkpoint {last} is damaged and is not used"]
    assert_equal(weights(out), weights(expected))
    notes.clear()
    run(out, RECIPE, notes=notes)
    assert notes == []


def test_all_checkpoints_damaged(tmp_path, alone):
    shutil.copytree(alone[0], tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("epoch-*"):
        path.write_bytes(b"nothing")
    with pytest.raises(
        TrainingError, match=r"all checkpoints in .* are damaged; remove that folder"
    ):
        run(tmp_path / "run", RECIPE)


def test_changed_settings_are_refused_with_the_difference(alone):
    out, _ = alone
    other = RunRecipe(**{**settings(RECIPE).to_json()["recipe"], "epochs": 4})
    with pytest.raises(TrainingError, match=r"other settings \(epochs: 3 in the run, 4 asked\)"):
        run(out, other)
    with pytest.raises(TrainingError, match=r"\(seed: 0 in the run, 7 asked\)"):
        run(out, RECIPE, seed=7)


def test_before_the_first_checkpoint_settings_may_change(tmp_path, kill_at):
    kill_at(1)
    with pytest.raises(KilledError):
        run(tmp_path)
    kill_at(0)
    run(tmp_path, RunRecipe(epochs=1, batch_size=512))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(TrainingError, match=r"neither empty nor a run \(it holds thesis\.tex"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_nan_names_the_step_and_the_last_good_checkpoint(tmp_path, monkeypatch):
    step = TrainingState.step

    def nan_at_six(self, images, labels, teacher, rate, number):
        loss = step(self, images, labels, teacher, rate, number)
        return loss * math.nan if number == 6 else loss

    monkeypatch.setattr(TrainingState, "step", nan_at_six)
    with pytest.raises(TrainingError) as error:
        run(tmp_path)
    last = next((tmp_path / "checkpoints").glob("epoch-0001-*"))
    assert "the loss became nan in epoch 2, step 2" in str(error.value)
    assert f"the last good checkpoint is {last}" in str(error.value)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    with pytest.raises(TrainingError, match=r"not finite|became nan|cross-entropy is"):
        run(tmp_path, RunRecipe(epochs=2, batch_size=256, learning_rate=1e30), seconds=0.0)
    for path in (tmp_path / "checkpoints").glob("epoch-*"):
        assert all(value.isfinite().all() for value in load_file(path).values())


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_statistics_that_are_not_finite_are_never_saved(tmp_path, monkeypatch, average):
    """A running variance may overflow while the loss, which uses this batch alone, is finite."""
    step = TrainingState.step

    def overflowing(self, *arguments):
        loss = step(self, *arguments)
        self.scored.stem.bn.running_var.fill_(math.inf)
        return loss

    monkeypatch.setattr(TrainingState, "step", overflowing)
    with pytest.raises(TrainingError, match="weights are not finite after 1 epochs"):
        run(tmp_path, RunRecipe(epochs=1, batch_size=512, ema_decay=average))
    assert checkpoints(tmp_path) == []


def test_out_of_memory_says_what_fits(tmp_path, monkeypatch):
    step = TrainingState.step

    def small_machine(self, images, *rest):
        if len(images) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return step(self, images, *rest)

    monkeypatch.setattr(TrainingState, "step", small_machine)
    message = r"memory ran out with 256 images in a batch; 64 fits: --set batch_size=64 \(no check"
    with pytest.raises(TrainingError, match=message):
        run(tmp_path)


ONE_PIXEL = "Conv3x8s2 XX3x16s2 XX3x16s2 XX3x16s2 Conv1x16 @16"  # before the pooling


@pytest.mark.parametrize(
    "recipe",
    [
        RunRecipe(epochs=1, batch_size=1, learning_rate=0.1),
        RunRecipe(epochs=1, batch_size=1, norm_statistics="auto"),
    ],
)
def test_one_image_in_a_batch_is_too_few_for_batch_norm(tmp_path, recipe):
    with pytest.raises(TrainingError, match="--batch-size must be at least 2 for each process"):
        run(tmp_path, recipe, network=ONE_PIXEL)


def test_a_batch_of_one_image_is_not_advised(tmp_path, monkeypatch):
    step = TrainingState.step

    def small_machine(self, images, *rest):
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return step(self, images, *rest)

    monkeypatch.setattr(TrainingState, "step", small_machine)
    with pytest.raises(TrainingError, match="images in a batch; no smaller one fits"):
        run(tmp_path, network=ONE_PIXEL)


def test_a_compiler_that_fails_is_named(tmp_path, monkeypatch):
    class CompilerError(RuntimeError):
        __module__ = "torch._inductor.exc"

    def broken(*_):
        raise CompilerError("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1 for more")

    monkeypatch.setattr(TrainingState, "step", broken)
    message = r"torch\.compile fails .*\(No working C\+\+ compiler found\); --set compile=false"
    with pytest.raises(TrainingError, match=message):
        run(tmp_path, RunRecipe(epochs=1, compile=True))


def test_of_equal_top1_the_lower_cross_entropy_is_best(tmp_path, monkeypatch):
    scores = iter([Score(0.5, 2.0, 9), Score(0.5, 1.0, 9), Score(0.5, 1.5, 9), Score(0.4, 0.5, 9)])
    monkeypatch.setattr("genets.training.run.trainer.evaluate", lambda *_, **__: next(scores))
    result = run(tmp_path, RunRecipe(epochs=4, batch_size=1024, learning_rate=0.1))
    assert (result.epoch, result.validation.cross_entropy) == (2, 1.0)


@pytest.mark.parametrize(
    ("metric", "class_weights", "best"),
    [
        (None, "none", 2),
        (None, "balanced", 3),
        ("balanced_accuracy", "none", 3),
        ("top1", "balanced", 2),
        ("cross_entropy", "none", 1),
    ],
)
def test_the_metric_decides_which_epoch_is_best(tmp_path, monkeypatch, metric, class_weights, best):
    scores = iter([Score(0.5, 0.1, 9, 0.3), Score(0.6, 2.0, 9, 0.4), Score(0.5, 2.0, 9, 0.5),
                   Score(0.4, 1.5, 9, 0.2)])  # fmt: skip
    monkeypatch.setattr("genets.training.run.trainer.evaluate", lambda *_, **__: next(scores))
    recipe = RunRecipe(epochs=4, batch_size=1024, learning_rate=0.1, class_weights=class_weights)
    assert run(tmp_path, recipe, metric=metric).epoch == best
    assert load_settings(tmp_path).metric == metric


def test_other_errors_are_not_called_out_of_memory(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("a kernel failed")

    monkeypatch.setattr(TrainingState, "step", broken)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        run(tmp_path)


def test_results_name_a_timm_network(tmp_path):
    recipe = RunRecipe(epochs=1, batch_size=512, learning_rate=0.1)
    run(tmp_path, recipe, network="timm:test_resnet", resolution=32)
    named = resolve_network(str(tmp_path / "results"))
    assert (named.structure, named.resolution, named.network.num_classes) == (None, 32, 10)
    assert not (tmp_path / "results" / "structure.toml").exists()
    assert_equal(genets.load(tmp_path / "results").state_dict(), weights(tmp_path))


def test_starting_weights_state_their_resolution(tmp_path):
    """A checkpoint and a results folder state it, and a run keeps it without them."""
    recipe = RunRecipe(epochs=1, batch_size=512, learning_rate=0.1)
    first, second, notes = tmp_path / "first", tmp_path / "second", []
    run(first, recipe, network="timm:test_resnet", resolution=24)
    run(second, recipe, network=str(first / "results"), notes=notes)
    assert load_settings(second).resolution == 24
    assert "images of 24 pixels, as in the training of the starting weights" in notes[0]
    checkpoint = next((first / "checkpoints").iterdir())
    weighted = {"network": "timm:test_resnet", "weights": str(checkpoint)}
    run(tmp_path / "third", recipe, **weighted)
    assert load_settings(tmp_path / "third").resolution == 24
    run(tmp_path / "fourth", recipe, resolution=16, **weighted)
    run(tmp_path / "fourth", recipe, **weighted)
    assert load_settings(tmp_path / "fourth").resolution == 16


def test_global_generators_are_left_alone(tmp_path):
    state = torch.get_rng_state()
    run(tmp_path, RunRecipe(epochs=1, batch_size=512, mixup=0.2))
    assert torch.equal(state, torch.get_rng_state())


def test_a_run_on_a_cpu_leaves_the_gpus_alone(alone, tmp_path, monkeypatch):
    """The generator of a GPU cannot be read without CUDA, which takes memory of every GPU."""

    def read(device):
        raise AssertionError(f"GPU {device} was used")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", read)
    results = str(alone[0] / "results")
    recipe = RunRecipe(epochs=1, batch_size=512)
    run(tmp_path, recipe, teacher=results, weights=f"{results}/weights.safetensors")


def test_a_run_in_use_is_refused(tmp_path):
    def second(note):
        raise AssertionError(note)

    seen = []

    def epoch(record, epochs):
        with pytest.raises(TrainingError, match="in use by process"):
            run(tmp_path)
        seen.append(record.epoch)

    train_network(
        settings(RunRecipe(epochs=1, batch_size=512)), tmp_path, device="cpu",
        listener=Listener(epoch=epoch, note=second),
    )  # fmt: skip
    assert seen == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"recipe": RunRecipe(epochs=1, batch_size=2048)},
            r"batch_size 2048 is larger than the training split of digits, 1078 images; "
            r"--set batch_size=1024 fits",
        ),
        ({"resolution": 2}, r"resolution for digits must be from 8 to 64 pixels, not 2"),
        (
            {"network": "Conv3x8s2 XX3x16s2 XX3x16s2 XX3x16s2 Conv1x32 @16", "resolution": 8},
            r"resolution must be at least 16, the product of the strides, not 8",
        ),
        (
            {"network": "timm:vit_tiny_patch16_224", "resolution": 32},
            r"timm:vit_tiny_patch16_224 cannot take images of 32 pixels: .*height \(32\)",
        ),
        ({"network": "genet_larg"}, r"unknown network 'genet_larg'; did you mean genet_large"),
        ({"data": "digts"}, r"unknown data set 'digts' \(.*\); did you mean digits"),
        ({"teacher": "genet_lage"}, r"unknown network 'genet_lage'"),
        ({"teacher": "master_small"}, r"no pretrained weights exist for this structure"),
        ({"pretrained": True}, r"no pretrained weights exist for this structure"),
        ({"weights": "gone.safetensors"}, r"no weights file 'gone.safetensors'"),
    ],
)
def test_bad_input(tmp_path, changes, message):
    with pytest.raises(GenetsError, match=message) as error:
        run(tmp_path / "run", **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu", "device must be auto, cpu, cuda"), ("cuda:99", "device 'cuda:99' is not available")],
)
def test_bad_device(tmp_path, device, message):
    with pytest.raises(TrainingError, match=message):
        train_network(settings(), tmp_path, device=device)
    assert list(Path(tmp_path).iterdir()) == []

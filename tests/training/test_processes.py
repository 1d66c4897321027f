"""Two processes train one network with the losses of a single process, and nothing is lost."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric.strategies.launchers import subprocess_script
from PIL import Image
from safetensors.torch import load_file
from team_lab import BN_FREE, DRAWING, UNDECIDED, WITH_BN, run, searched, settings

import genets
from genets.core.errors import TrainingError
from genets.data import Share, load_data
from genets.training import evaluate, train_on
from genets.training.run import distributed as processes
from genets.training.run.folder import load_variants
from genets.training.variants import RATES, best_variant


def make_photos(root):
    """122 images; a broken one is in the validation images of the second process."""
    random = np.random.default_rng(0)
    for name, level in (("cats", 60), ("dogs", 180)):
        (root / name).mkdir(parents=True)
        for number in range(61):
            pixels = random.normal(level, 30, (20, 24, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    data = load_data(root, 16)
    path = Path(data.validation.images.paths[data.validation.positions[1]])
    path.write_bytes(path.read_bytes()[:60])
    return path


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    broken = make_photos(folder / "photos")
    script = Path(__file__).with_name("team_lab.py")
    command = [sys.executable, "-W", "ignore:.*fork:DeprecationWarning", str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, broken


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights(out):
    return load_file(out / "results" / "weights.safetensors")


def test_same_losses_as_one_process(team, tmp_path):
    folder, _ = team
    run(settings(BN_FREE, DRAWING, resolution=16), tmp_path)
    for one, two in zip(log(tmp_path), log(folder / "bn-free"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["cross_entropy"] == pytest.approx(one["cross_entropy"], rel=1e-5)
        assert (two["top1"], two["steps"], two["images"]) == pytest.approx(
            (one["top1"], one["steps"], one["images"]), abs=0.002
        )
    alone, together = weights(tmp_path), weights(folder / "bn-free")
    assert all(torch.allclose(alone[n], together[n], rtol=1e-3, atol=1e-5) for n in alone)


def test_short_trainings_of_two_processes_decide_as_those_of_one(team, tmp_path):
    folder, _ = team
    run(settings(BN_FREE, UNDECIDED, resolution=16), tmp_path)
    alone, together = load_variants(tmp_path), load_variants(folder / "undecided")
    assert len(together) == len(RATES["adamw"])
    for one, two in zip(alone, together, strict=True):
        assert two.cross_entropy == pytest.approx(one.cross_entropy, rel=1e-3)
    assert best_variant(together).learning_rate == best_variant(alone).learning_rate
    assert [each["loss"] for each in log(folder / "undecided")] == pytest.approx(
        [each["loss"] for each in log(tmp_path)], rel=1e-4
    )


def test_a_process_that_ends_during_the_short_trainings_is_one_sentence(tmp_path, monkeypatch):
    def lost(*words, **options):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")

    monkeypatch.setattr("genets.training.run.decided_recipe.try_variants", lost)
    monkeypatch.setattr(processes.Processes, "is_lost", lambda self, error: "gloo" in str(error))
    with pytest.raises(TrainingError, match="another process of this run has ended during"):
        run(settings(WITH_BN, UNDECIDED), tmp_path)


def test_the_training_of_a_search_has_the_losses_of_one_process(team):
    folder, _ = team
    net, data = searched()
    losses = []
    recipe = replace(DRAWING, precision="fp32")
    train_on(net, data, recipe, seed=0, on_epoch=lambda epoch, loss: losses.append(loss))
    assert json.loads((folder / "search.json").read_text()) == pytest.approx(losses, rel=1e-5)
    together = torch.load(folder / "search.weights", weights_only=True)
    alone = net.state_dict()
    assert all(torch.allclose(alone[n], together[n], rtol=1e-3, atol=1e-5) for n in alone)


def test_a_killed_and_continued_run_ends_with_the_same_bits(team):
    folder, _ = team
    expected, gone_on = weights(folder / "alone"), weights(folder / "killed")
    assert all(torch.equal(expected[name], gone_on[name]) for name in expected)
    keys = ("loss", "top1", "cross_entropy", "best")
    for one, other in zip(log(folder / "alone"), log(folder / "killed"), strict=True):
        assert [one[key] for key in keys] == [other[key] for key in keys]


def test_the_score_is_that_of_the_saved_weights(team):
    folder, _ = team
    stored = json.loads((folder / "alone" / "results" / "result.json").read_text())
    net = genets.load(folder / "alone" / "results")
    for split in ("validation", "test"):
        score = evaluate(net, getattr(load_data("digits", 16), split))
        assert stored[split]["top1"] == score.top1
        assert stored[split]["cross_entropy"] == pytest.approx(score.cross_entropy, rel=1e-6)


def test_a_broken_image_of_one_process_is_reported_by_the_first(team):
    folder, broken = team
    (line,) = (folder / "broken" / "broken.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == str(broken)
    assert log(folder / "broken")[0]["broken"] == 1
    first, second = (json.loads((folder / f"seen-{n}.json").read_text()) for n in (1, 2))
    assert len([note for note in first["notes"] if str(broken) in note]) == 1
    assert second["notes"] == []


def test_errors_reach_all_processes(team):
    folder, _ = team
    first, second = (json.loads((folder / f"seen-{n}.json").read_text()) for n in (1, 2))
    changed, odd = first["faults"]
    assert "was begun with other settings" in changed
    assert "batch_size 31 must be a multiple of 2, because 2 processes share it" in odd
    assert second["faults"] == [f"process 2 of 2: {fault}" for fault in first["faults"]]


@pytest.mark.parametrize(
    ("device", "here", "message"),
    [
        ("cpu", 0, "processes must be 1 or more, not 0"),
        ("cuda", 3, "device .cuda. is not available|3 processes need 3 GPUs"),
    ],
)
def test_missing_devices_and_wrong_counts(device, here, message):
    with pytest.raises(TrainingError, match=message):
        processes.Processes(device, here)


def test_the_others_run_the_same_command_line(monkeypatch):
    class StartedError(Exception):
        pass

    def started(command, env, **options):
        raise StartedError(command, env)

    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # which the launch sets, to be undone afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["train.py", "--processes", "3"])
    monkeypatch.setattr(subprocess_script.subprocess, "Popen", started)
    with pytest.raises(StartedError) as first:
        processes.Processes("cpu", 3)
    command, env = first.value.args
    assert command[-2:] == ["--processes", "3"]
    assert (env["LOCAL_RANK"], env["WORLD_SIZE"]) == ("1", "3")


def test_the_end_of_another_process_is_recognised():
    alone, team = processes.Processes("cpu"), processes.Processes("cpu")
    team.share = Share(0, 2)
    ended = RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer")
    assert team.is_lost(ended)
    assert not team.is_lost(RuntimeError("a kernel failed"))
    assert not alone.is_lost(ended)


def test_fabric_prints_no_greeting():
    said = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = said.append
    logger = logging.getLogger("lightning_fabric")
    logger.addHandler(handler)
    try:
        processes.Processes("cpu", None, "bf16")
    finally:
        logger.removeHandler(handler)
    assert said == []


def test_the_number_of_processes_comes_from_torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert processes._layout(None) == processes._layout(4) == (4, 2)
    with pytest.raises(TrainingError, match="processes is 3, but torchrun started 4"):
        processes._layout(3)


def test_several_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert processes._gpus(torch.device("cuda"), 2) == 2
    assert processes._gpus(torch.device("cuda:1"), 1) == [1]
    with pytest.raises(TrainingError, match="4 processes need 4 GPUs; this machine has 2"):
        processes._gpus(torch.device("cuda"), 4)
    with pytest.raises(
        TrainingError, match="use one GPU each, so the device must be cuda, not cuda:1"
    ):
        processes._gpus(torch.device("cuda:1"), 2)


def test_the_tasks_of_a_slurm_job_are_not_its_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also, a machine with SLURM gives no warning about srun."""
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert processes.Processes("cpu").count == 1
    for name, value in {"JOB_NAME": "search", "NTASKS": "4", "PROCID": "2", "LOCALID": "2",
                        "NODEID": "1", "JOB_ID": "7", "NODELIST": "a[1-2]"}.items():  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    group = processes.Processes("cpu")
    assert (group.count, group.is_first) == (1, True)

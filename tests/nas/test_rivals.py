"""Rivals: published networks beside the winner of a search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from rich.console import Console
from rounds_lab import SETTINGS, ClosedFormLaboratory, in_closed_form, search
from small_networks import TINY
from torch import nn

import genets
from command_line import fails, invoke
from genets.core.errors import (
    GenetsError,
    SettingsError,
    StudyError,
    TargetError,
    TrainingError,
)
from genets.core.progress import Progress
from genets.data import ImageData, Split, load_data
from genets.latency import Measurement, Target
from genets.nas.candidates.export import EXPORTED, OnnxCheck
from genets.nas.laboratory import Laboratory
from genets.nas.new_study import settings_at
from genets.nas.result import SearchResult
from genets.nas.rivals.contender import Rival
from genets.nas.settings.rival_names import DEFAULT_RIVALS, RivalName, expand_rivals, read_rivals
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.reader import load_settings
from genets.nas.study.rival_records import RivalResult
from genets.nas.warnings import rival_warnings
from genets.networks import load_weights, save_weights
from genets.networks.weights import read_tensors
from genets.report.study.facts import finished_parts, state_sentences, study_record
from genets.report.study.page import study_page
from genets.report.study.tables import search_tables
from genets.structure import Structure
from genets.training import EpochRecord, Listener, Metric, RunSettings, Score, short_trainings
from genets.training.predictions import Predictions
from json_keys import check_keys

RESNET, BYOBNET, EFFICIENT = (f"timm:test_{name}" for name in ("resnet", "byobnet", "efficientnet"))
FRESH = f"{RESNET}=scratch"
OTHER = f"{EFFICIENT}=scratch"
PIXELS = 32  # the product of the strides of these networks


class Answers(nn.Module):
    """A network whose share of right answers is known."""

    def __init__(self, top1: float) -> None:
        super().__init__()
        self.top1 = top1


class RivalLaboratory(ClosedFormLaboratory):
    """Rivals have the latencies and scores that a test gives, by network.

    Attributes:
        times: Latency of a rival in multiples of the MasterNet's.
        top1: Share of the 100 test images that a trained rival recognises.
        faults: The error that the training of a rival ends with.
        measured, trained: The rivals that were measured, and the settings of all trainings.
        exported: Whether the winner was exported before each training.
        trainings: Number of trainings of MasterNet and winner.
    """

    def __init__(self, asked: SearchSettings | None = None, **known: Mapping[str, Any]) -> None:
        super().__init__(asked or settings())
        self.times, self.top1, self.faults = (
            dict(known.get(name, {})) for name in ("times", "top1", "faults")
        )
        self.measured: list[str] = []
        self.trained: list[RunSettings] = []
        self.exported: list[bool] = []
        self.trainings = 0

    def train(self, *words: Any, **options: Any) -> None:
        self.trainings += 1
        super().train(*words, **options)

    def measure_rival(
        self, rival: Any, master: Structure, target: Target, *_: Any, relative: bool = False
    ) -> tuple[Measurement, Measurement]:
        self.measured.append(rival.name)
        own = self._measurement(master, target)
        factor = self.times.get(rival.name.partition("=")[0], 0.5)
        ends = {name: factor * getattr(own, name)
                for name in ("ms_per_image", "low_ms_per_image", "high_ms_per_image")}  # fmt: skip
        return replace(own, resolution=rival.resolution, **ends), own

    def train_rival(
        self, settings: RunSettings, folder: Path, *, device: str, listener: Listener
    ) -> nn.Module:
        self.trained.append(settings)
        results = folder.parent.parent / "results"
        self.exported.append(any(results.rglob("result.json")))
        epochs = settings.recipe.epochs
        listener.epoch(EpochRecord(epochs, 1, 0.1, 0.1, 0.5, 1.0, 1.0, 1.0, True, 100), epochs)
        if settings.network in self.faults:
            raise self.faults[settings.network]
        return Answers(self.top1.get(settings.network, 0.1))

    def export(self, net: Any, structure: Structure, data: ImageData, folder: Path) -> OnnxCheck:
        for name in EXPORTED.values():
            (folder / name).write_text(str(structure))
        return OnnxCheck(0.0)

    def test(self, net: nn.Module, split: Split, device: str) -> tuple[Score, Predictions]:
        if not isinstance(net, Answers):
            return super().test(net, split, device)
        labels = np.arange(100) % 10
        wrong = np.arange(100) >= round(100 * net.top1)
        return Score(net.top1, 1.0, 100), Predictions(labels, (labels + wrong) % 10)


def settings(**changes: Any) -> SearchSettings:
    given = {**SETTINGS, "rounds": 1, "resolution": PIXELS, "rivals": [FRESH, OTHER], **changes}
    if "budgets" in changes:
        given["budget"] = None
    return SearchSettings(**given)


def run(asked: SearchSettings, folder: Path, lab: RivalLaboratory | None = None) -> SearchResult:
    return search(asked, folder, lab or RivalLaboratory(asked))


def screen(result: SearchResult) -> str:
    console = Console(width=300, record=True)
    for table in search_tables(result):
        console.print(table)
    return console.export_text()


def page(folder: Path) -> str:
    return study_page(Snapshot.read(folder), "today")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a network for seven classes."""
    path = tmp_path / "byobnet.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_weights(timm.create_model("test_byobnet", num_classes=7), path, {})
    return path


@pytest.mark.usefixtures("plain")
def test_rivals_stand_beside_the_winner(tmp_path: Path, weights: Path) -> None:
    asked = settings(rivals=[FRESH, f"{BYOBNET}={weights}", OTHER])
    lab = RivalLaboratory(
        asked, times={EFFICIENT: 0.95}, top1={RESNET: 0.05, BYOBNET: 0.95, EFFICIENT: 1.0}
    )
    events: list[Progress] = []
    folder = tmp_path / "study"
    result = search(asked, folder, lab, on_event=events.append)
    worse, better, slow = result.rivals
    assert [each.status for each in result.rivals] == ["done", "done", "above budget"]
    assert [each.weights for each in result.rivals] == ["fresh", "file", "fresh"]
    assert [each.resolution for each in result.rivals] == [PIXELS] * 3
    assert [each.network for each in lab.trained] == [RESNET, BYOBNET]
    assert lab.exported == [True, True]
    assert (slow.within_budget, slow.test, slow.difference, slow.folder) == (False, None, None, "")
    for rival in (worse, better):
        assert rival.test is not None
        assert rival.difference is not None
        assert rival.difference.top1 == pytest.approx(
            rival.test.top1 - result.winner.top1, abs=0.01
        )
        assert rival.epochs == asked.final_training.epochs
    (warning,) = [each for each in result.warnings if "rival" in each]
    assert f"{better.name}, which meets the budget" in warning
    assert "is better than the winner" in warning
    assert "95 % interval +" in warning
    last = {event.phase: event for event in events}["rivals"]
    assert (last.done, last.total) == (3, 3)
    printed = screen(result)
    assert "95.00 (88.82 to 97.85) %" in printed
    assert "above the budget, so not compared" in printed
    assert "Rivals" not in screen(run(settings(rivals=[]), tmp_path / "other"))
    html = page(folder)
    assert "<h2>Rivals</h2>" in html
    assert "points more accurate (95 % interval +" in html
    assert warning in html
    assert "3 rivals trained" not in finished_parts(folder)
    assert "2 rivals trained" in finished_parts(folder)


def test_a_better_value_within_noise_is_said_with_its_interval(tmp_path: Path) -> None:
    asked = settings(rivals=[FRESH])
    own = round(run(settings(rivals=[]), tmp_path / "alone").winner.top1, 2)
    result = run(asked, tmp_path / "study", RivalLaboratory(asked, top1={RESNET: own + 0.02}))
    (warning,) = [each for each in result.warnings if "rival" in each]
    assert "may be better than the winner: its test top-1 is 2.0 points higher" in warning
    assert "95 % interval -" in warning
    equal = run(asked, tmp_path / "equal", RivalLaboratory(asked, top1={RESNET: own}))
    assert not any("rival" in each for each in equal.warnings)


def test_the_result_and_the_study_hold_the_rivals(tmp_path: Path) -> None:
    asked = settings()
    result = run(asked, tmp_path)
    printed = json.loads(json.dumps(result.to_json()))
    check_keys("search, rivals", printed)
    stored = json.loads((tmp_path / "results/result.json").read_text())
    assert stored["input"]["shape"] == ["N", 3, PIXELS, PIXELS], "what the export wrote stays"
    assert [row["name"] for row in stored["rivals"]] == [FRESH, OTHER]
    assert stored["rivals"][0]["folder"] == "rivals/timm_test_resnet_scratch/results"
    assert printed["rivals"][0]["folder"] == f"{tmp_path}/{stored['rivals'][0]['folder']}"
    assert tuple(map(RivalResult.from_json, stored["rivals"])) == result.rivals
    assert study_record(Snapshot.read(tmp_path))["rivals"] == stored["rivals"]
    older = {name: value for name, value in stored["rivals"][1].items() if name != "within_budget"}
    assert RivalResult.from_json(older) == replace(result.rivals[1], within_budget=None)
    assert stored["seconds"]["rivals"] >= 0


def test_a_rival_that_fails_costs_no_result(tmp_path: Path) -> None:
    """Neither an error of genets nor one of a foreign network."""
    asked = settings(rivals=[FRESH, OTHER, f"{BYOBNET}=scratch"])
    faults = {
        RESNET: TrainingError("the loss is not finite"),
        EFFICIENT: torch.OutOfMemoryError("memory"),
    }
    lab = RivalLaboratory(asked, faults=faults)
    result = run(asked, tmp_path, lab)
    assert [(each.status, each.reason) for each in result.rivals] == [
        ("failed", "the loss is not finite"), ("failed", "memory"), ("done", ""),
    ]  # fmt: skip
    assert result.rivals[0].within_budget, "it was measured"
    assert "failed: the loss is not finite" in screen(result)
    assert not Snapshot.read(tmp_path).missing()
    again = RivalLaboratory(asked)
    repeated = run(asked, tmp_path, again)
    assert [each.network for each in again.trained] == [RESNET, EFFICIENT]
    assert again.measured == []
    assert [each.status for each in repeated.rivals] == ["done"] * 3


@pytest.mark.usefixtures("plain")
def test_rivals_are_quantised_for_an_int8_target(tmp_path: Path) -> None:
    class Quantising(RivalLaboratory):
        def score_quantised(self, net: nn.Module, *_: Any) -> Score:
            if not isinstance(net, Answers):
                return Score(0.2, 2.0, 100)
            if net.top1 == 0.9:
                raise TargetError("the engine cannot quantise this network")
            return Score(net.top1 - 0.25, 2.0, 100)

    target = {**SETTINGS["target"], "engine": "onnxruntime", "precision": "int8"}
    asked = settings(target=target)
    result = run(asked, tmp_path, Quantising(asked, top1={RESNET: 0.75, EFFICIENT: 0.9}))
    done, failed = result.rivals
    assert done.test == Score(0.75, 1.0, 100, quantised=Score(0.5, 2.0, 100))
    assert (failed.status, failed.reason) == ("failed", "the engine cannot quantise this network")
    stored = json.loads((tmp_path / "results/result.json").read_text())
    assert stored["rivals"][0]["test"]["quantised"]["top1"] == 0.5
    assert done.difference is not None
    assert done.difference.top1 == pytest.approx(0.75 - result.winner.top1, abs=0.01)
    for text in (screen(result), page(tmp_path)):
        assert "50.00 (40.38 to 59.62) %" in text
        assert "The difference compares the networks before quantisation." in " ".join(text.split())
    assert "test top-1 in int8" in page(tmp_path)


def test_a_rival_that_is_better_by_another_score_is_said() -> None:
    """In int8, and by balanced accuracy, if that is the metric of the study."""
    own = Score(0.8, 1.0, 100, 0.7, 90.0, quantised=Score(0.78, 1.0, 100, 0.6, 90.0))
    test = Score(0.8, 0.5, 100, 0.75, 90.0, quantised=Score(0.79, 0.5, 100, 0.64, 90.0))
    rival = RivalResult(
        name=FRESH, status="done", measured_ms=1.0, test=test, folder="rivals/one/results"
    )
    (warning,) = rival_warnings([rival], own, Metric.CROSS_ENTROPY)
    assert "may be better than the winner: its test top-1 in int8 is 1.0 points higher; " in warning
    (warning,) = rival_warnings([rival], own, Metric.BALANCED_ACCURACY)
    for words in ("accuracy is 5.0", "top-1 in int8 is 1.0", "accuracy in int8 is 4.0"):
        assert f"{words} points higher" in warning
    assert not rival_warnings([replace(rival, test=own)], own, Metric.BALANCED_ACCURACY)
    assert not rival_warnings([replace(rival, test=own)], test, Metric.BALANCED_ACCURACY)


def test_a_rival_that_the_target_cannot_run_has_a_reason(tmp_path: Path) -> None:
    class Refusing(RivalLaboratory):
        def measure_rival(
            self, rival: Any, *words: Any, relative: bool = False
        ) -> tuple[Measurement, Measurement]:
            if rival.name == FRESH:
                raise GenetsError("the engine has no such operator")
            return super().measure_rival(rival, *words)

    asked = settings()
    result = run(asked, tmp_path, Refusing(asked))
    assert [each.status for each in result.rivals] == ["failed", "done"]
    assert result.rivals[0].reason == "the engine has no such operator"
    assert result.rivals[0].measured_ms is None


def test_on_a_busy_device_rivals_are_left_undecided(tmp_path: Path) -> None:
    class Busy(RivalLaboratory):
        def measure_rival(
            self, *words: Any, relative: bool = False
        ) -> tuple[Measurement, Measurement]:
            rival, master = super().measure_rival(*words)
            return replace(rival, disturbed=True, undelayed=False), master

    asked = settings(rivals=[FRESH])
    result = search(asked, tmp_path, Busy(asked), wait_minutes=0)
    assert result.rivals[0].status == "failed"
    assert "kept the device busy" in result.rivals[0].reason
    assert run(asked, tmp_path).rivals[0].status == "done"


def test_an_interrupted_comparison_continues(tmp_path: Path) -> None:
    asked = settings()
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path, RivalLaboratory(asked, faults={EFFICIENT: KeyboardInterrupt()}))
    record = json.loads((tmp_path / "results/result.json").read_text())
    assert record["rivals"] == []
    assert Snapshot.read(tmp_path).missing() == [
        "2 rivals have not been compared with the winner yet"
    ]
    assert "2 rivals have not been compared" in state_sentences(Snapshot.read(tmp_path))[-1]
    lab = RivalLaboratory(asked)
    result = run(asked, tmp_path, lab)
    assert [each.network for each in lab.trained] == [EFFICIENT]
    assert (lab.measured, lab.trainings, lab.trial_jobs) == ([], 0, [])
    assert [each.status for each in result.rivals] == ["done", "done"]


def test_rivals_are_given_to_a_finished_study(tmp_path: Path) -> None:
    before = run(settings(rivals=[]), tmp_path)
    lab = RivalLaboratory()
    asked = SearchSettings(**settings_at(tmp_path, None, {"rivals": FRESH}))
    result = run(asked, tmp_path, lab)
    assert [each.network for each in lab.trained] == [RESNET]
    assert (lab.trainings, lab.trial_jobs) == (0, [])
    assert result.selected == before.selected
    assert load_settings(tmp_path).rivals == (FRESH,)
    more = SearchSettings(**settings_at(tmp_path, None, {"rivals": f"{OTHER},{FRESH}"}))
    lab = RivalLaboratory()
    assert [each.name for each in run(more, tmp_path, lab).rivals] == [OTHER, FRESH]
    assert [each.network for each in lab.trained] == [EFFICIENT]
    none = SearchSettings(**settings_at(tmp_path, None, {"rivals": "none"}))
    assert run(none, tmp_path).rivals == ()
    assert json.loads((tmp_path / "results/result.json").read_text())["rivals"] == []


def test_rivals_change_beside_other_settings_but_do_not_hide_a_refusal(tmp_path: Path) -> None:
    run(settings(rivals=[], trials_per_super_block=4), tmp_path)
    with pytest.raises(StudyError, match="seed: 0 in the study, 1 asked"):
        run(settings(rivals=[FRESH], seed=1), tmp_path)
    assert load_settings(tmp_path).rivals == ()
    result = run(settings(rivals=[FRESH], trials_per_super_block=6), tmp_path)
    assert [each.name for each in result.rivals] == [FRESH]
    assert load_settings(tmp_path).trials_per_super_block == 6


@pytest.mark.usefixtures("plain")
def test_a_rival_is_trained_once_for_all_budgets_that_it_meets(tmp_path: Path) -> None:
    asked = settings(budgets="0.9x,0.7x")
    lab = RivalLaboratory(asked, times={EFFICIENT: 0.8}, top1={RESNET: 0.9})
    result = run(asked, tmp_path, lab)
    assert lab.measured == [FRESH, OTHER]
    assert [each.network for each in lab.trained] == [RESNET, EFFICIENT]
    large, small = result.budgets.values()
    assert [each.status for each in large.rivals] == ["done", "done"]
    assert [each.status for each in small.rivals] == ["done", "above budget"]
    assert result.rivals == large.rivals
    check_keys("search, several budgets, rivals", json.loads(json.dumps(result.to_json())))
    for name in ("0.9x", "0.7x"):
        record = json.loads((tmp_path / f"results/{name}/result.json").read_text())
        assert record["rivals"][0]["difference"]["top1"] > 0.5
        assert "the rival" in record["warnings"][-1]
    joint = json.loads((tmp_path / "results/result.json").read_text())
    assert [len(row["rivals"]) for row in joint["budgets"]] == [2, 2]
    assert any("the rival" in each for each in joint["warnings"])
    assert "Rivals, 0.7x" in screen(result)
    assert "<h2>Rivals, 0.7x</h2>" in page(tmp_path)
    again = RivalLaboratory(asked)
    repeated = run(asked, tmp_path, again)
    assert (again.measured, again.trained, again.trainings) == ([], [], 0)
    assert [each.rivals for each in repeated.budgets.values()] == [large.rivals, small.rivals]
    assert repeated.warnings == result.warnings


@pytest.mark.parametrize("resolution", [PIXELS, 2 * PIXELS])
def test_a_stored_difference_is_that_of_the_same_input_size(
    tmp_path: Path, resolution: int
) -> None:
    """A larger budget that is added may have a winner with another resolution."""
    asked = settings()
    result = run(asked, tmp_path)
    path = tmp_path / "results/result.json"
    record = json.loads(path.read_text())
    record["rivals"][0]["resolution"] = resolution
    record["rivals"][0]["difference"] |= {"top1": -0.5, "low": -0.6, "high": -0.4}
    path.write_text(json.dumps(record))
    (rival, _) = run(asked, tmp_path).rivals
    assert rival.difference is not None
    before = result.rivals[0].difference
    assert before is not None
    expected = -0.5 if resolution == PIXELS else before.top1
    assert rival.difference.top1 == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rival", "message"),
    [
        ("resnet18", "rival resnet18: unknown network 'resnet18'; for timm's network of this name"),
        ("timm:resnet19", "rival timm:resnet19: unknown timm network 'resnet19'"),
        ("master_small", r"no pretrained weights exist .* give a file of weights \(--rivals "
         r"master_small=FILE\), or train the network from fresh weights"),
        (f"{RESNET}=nothing.safetensors", "no weights file"),
        (f"{RESNET}={{weights}}", "are not of this network: it lacks"),
        (f"{BYOBNET}={{broken}}", "are damaged: stem.conv.weight holds NaN"),
        (f"{BYOBNET}={{half}}", "truncated or not a safetensors file"),
        ("timm:vit_tiny_patch16_224=scratch", "does not run at resolution 32: Input height"),
    ],
)  # fmt: skip
def test_a_rival_is_refused_before_anything_is_measured(
    tmp_path: Path, weights: Path, rival: str, message: str
) -> None:
    net = timm.create_model("test_byobnet", num_classes=7)
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = torch.nan
    save_weights(net, tmp_path / "broken.safetensors", {})
    (tmp_path / "half.safetensors").write_bytes(weights.read_bytes()[:5000])
    files = {"broken": tmp_path / "broken.safetensors", "half": tmp_path / "half.safetensors"}
    asked = settings(rivals=[rival.format(weights=weights, **files)])
    with pytest.raises(GenetsError, match=message) as raised:
        run(asked, tmp_path / "study")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "study").exists()


def test_a_rival_that_is_too_deep_for_the_images_is_refused(tmp_path: Path) -> None:
    message = rf"rival {FRESH}: resolution must be at least 32, .* not 8"
    with pytest.raises(GenetsError, match=message):
        run(settings(resolution=8), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_trained_rival_needs_no_weights_any_more(tmp_path: Path, weights: Path) -> None:
    asked = settings(rivals=[f"{BYOBNET}={weights}"])
    before = run(asked, tmp_path / "study")
    weights.unlink()
    assert run(asked, tmp_path / "study").rivals == before.rivals


def unreachable(*_: Any) -> None:
    raise OSError("there is no network")


def test_default_rivals_without_weights_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("genets.networks.build"), "reach_hub", unreachable)
    with pytest.raises(GenetsError, match=r"none of the default rivals can be .*no network"):
        run(settings(rivals="default"), tmp_path / "none")
    asked = settings(rivals=f"default,{FRESH},timm:resnet18=scratch")
    lab = RivalLaboratory(asked)
    with pytest.warns(UserWarning, match="rivals are left out: timm:mobilenetv3_small_100, timm:"):
        result = run(asked, tmp_path / "some", lab)
    assert [each.network for each in lab.trained] == [RESNET, "timm:resnet18"]
    left = [each for each in result.rivals if each.status == "left out"]
    assert [each.name for each in left] == [n for n in DEFAULT_RIVALS if n != "timm:resnet18"]
    assert "left out: cannot load the pretrained weights of timm:gernet_s" in screen(result)
    assert not Snapshot.read(tmp_path / "some").missing()


def test_a_rival_is_trained_as_long_as_the_winner(tmp_path: Path, weights: Path) -> None:
    final = {"epochs": 5, "batch_size": 48, "learning_rate": 0.3, "label_smoothing": 0.2}
    asked = settings(final_training=final, rivals=[], seed=3)
    fresh = Rival.make(RivalName.parse(FRESH), asked, 16).run
    assert {name: getattr(fresh.recipe, name) for name in final} == final
    assert (fresh.pretrained, fresh.weights) == (False, "")
    tuned = Rival.make(RivalName.parse(f"{BYOBNET}={weights}"), asked, 16).run
    assert (tuned.recipe.epochs, tuned.recipe.linear_start, tuned.recipe.optimizer) == (
        5, True, "adamw",
    )  # fmt: skip
    assert tuned.recipe.warmup_epochs == pytest.approx(5 / 20)
    assert (tuned.weights, tuned.resolution, tuned.seed) == (str(weights), 16, 3)
    assert (fresh.metric, tuned.metric) == (Metric.CROSS_ENTROPY,) * 2
    published = Rival.make(RivalName.parse("timm:resnet18"), asked, 16)
    assert (published.run.pretrained, published.start) == (True, "published")


@pytest.mark.parametrize(
    ("images", "batch_size"), [(1, 1), (19, 16), (47, 32), (48, 48), (1000, 48)]
)
def test_a_batch_of_a_rival_has_no_more_images_than_there_are(images: int, batch_size: int) -> None:
    asked = settings(final_training={"batch_size": 48}, rivals=[])
    rival = Rival.make(RivalName.parse(FRESH), asked, 16)
    assert rival.run_on(images).recipe == replace(rival.run.recipe, batch_size=batch_size)


def test_a_rival_is_trained_on_fewer_images_than_a_batch_of_the_winner(tmp_path: Path) -> None:
    asked = settings(final_training={"batch_size": 2**14}, rivals=[FRESH])
    lab = RivalLaboratory(asked)
    (rival,) = run(asked, tmp_path / "study", lab).rivals
    assert rival.status == "done"
    batch_size = lab.trained[0].recipe.batch_size
    assert batch_size <= len(load_data("digits", PIXELS).train) < 2 * batch_size


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({"from_scratch": False}, 7),  # the winner continues from its weights as a candidate
        ({"from_scratch": False, "confirm": 1}, 5),
        ({"from_scratch": False, "confirm": 1, "rounds": 2}, 7),
        ({"from_scratch": False, "confirm": 1, "space": {"resolutions": [24]}}, 7),
        ({"from_scratch": False, "folds": 5}, 5),
        ({"from_scratch": False, "confirm_epochs": 5}, 5),  # the candidate is the winner
        ({"from_scratch": True}, 5),
    ],
)
def test_the_epochs_of_a_rival_include_those_of_the_candidate(
    changes: dict[str, Any], epochs: int
) -> None:
    final = {"epochs": 5, "class_weights": "balanced"}
    asked = settings(**{"final_training": final, "confirm_epochs": 2, "rivals": [], **changes})
    for name in (FRESH, "timm:resnet18"):
        recipe = Rival.make(RivalName.parse(name), asked, 16).run.recipe
        assert (recipe.epochs, recipe.class_weights) == (epochs, "balanced")


def test_a_results_folder_is_a_rival_with_its_own_weights(tmp_path: Path) -> None:
    folder = tmp_path / "a=b" / "results"
    folder.mkdir(parents=True)
    (folder / "structure.toml").write_text(TINY.to_toml())
    save_weights(genets.build(TINY, 10), folder / "weights.safetensors", {"num_classes": "10"})
    asked = settings(rivals=[str(folder)])
    lab = RivalLaboratory(asked)
    (rival,) = run(asked, tmp_path / "study", lab).rivals
    assert (rival.status, rival.weights) == ("done", "results folder")
    assert lab.trained[0].weights == str(folder / "weights.safetensors")
    assert not lab.trained[0].pretrained
    with pytest.raises(GenetsError, match="a results folder has weights of its own"):
        Rival.make(RivalName(str(folder), "scratch"), asked, 8)


def test_names_of_rivals_are_read(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f" {FRESH} ,default, {BYOBNET} = {weights.name}"
    names = (FRESH, "default", f"{BYOBNET}={weights}")
    assert read_rivals(text) == names == read_rivals(names)
    assert [str(each) for each in expand_rivals(names)] == [
        FRESH, *DEFAULT_RIVALS, f"{BYOBNET}={weights}",
    ]  # fmt: skip
    assert read_rivals("none") == read_rivals("") == read_rivals([]) == ()
    again = SearchSettings.from_toml(settings(rivals=text).to_toml())
    assert again.rivals == names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "rivals must be a list such as timm:resnet18, not 7"),
        ([7], "rivals must be names of networks, not 7"),
        ("a,,b", "rivals must be networks such as timm:resnet18"),
        ("timm:resnet18=", "with a file of weights, not 'timm:resnet18='"),
        ("none,timm:resnet18", "rivals must be names of networks, not 'none'"),
        ("timm:resnet18, timm:resnet18", "must name each network once, not timm:resnet18 twice"),
        (",".join(f"net{n}" for n in range(17)), "at most 16 networks, .* not 17"),
    ],
)
def test_wrong_names_of_rivals_are_refused(value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(rivals=value)


def test_every_rival_has_a_folder_of_its_own() -> None:
    names = [
        "timm:resnet18", "timm:resnet18=scratch", "timm:resnet18=/a/w.pth",
        "timm:resnet18=/b/w.pth", "genet_light", "/a/runs/one/results", "/a/runs/two/results",
        str(TINY),
    ]  # fmt: skip
    paths = [layout.rival_path(name) for name in names]
    paths.append(layout.rival_path("timm:resnet18", 20))
    assert len(set(paths)) == len(paths)
    assert paths[:2] == ["rivals/timm_resnet18", "rivals/timm_resnet18_scratch"]
    assert all(len(path) < 70 and path.count("/") == 1 for path in paths)


def test_the_command_takes_rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_closed_form(monkeypatch, RivalLaboratory())
    run(settings(rivals=[]), tmp_path / "study")
    done = invoke("search", "--out", tmp_path / "study", "--rivals", FRESH)
    assert done.exit_code == 0, done.output
    assert "Rivals" in done.stdout
    wrong = invoke("search", "--out", tmp_path / "study", "--rivals", "timm:resnet19")
    fails(wrong, "rival timm:resnet19: unknown timm network")
    assert load_settings(tmp_path / "study").rivals == (FRESH,)


def test_a_rival_is_measured_in_turn_with_the_masternet() -> None:
    asked = settings(rivals=[])
    rival = Rival.make(RivalName.parse(FRESH), asked, 2 * PIXELS).for_timing(10)
    target = Target(threads=1, batch_size=2).resolved()
    measured, master = Laboratory().measure_rival(rival, asked.structure, target, 10, 0.05)
    assert (measured.resolution, master.resolution) == (2 * PIXELS, PIXELS)
    assert measured.ms_per_image > 0
    assert rival.network().get_classifier().out_features == 10


class RealRivals(RivalLaboratory):
    """Rivals are trained for real, and all networks are tested for real."""

    train_rival = Laboratory.train_rival
    test = Laboratory.test


def test_a_rival_is_trained_for_real(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_trainings, "MIN_STEPS", 3)
    monkeypatch.setattr(short_trainings, "MAX_STEPS", 3)
    asked = settings(rivals=[f"{BYOBNET}={weights}"], final_training={"epochs": 2})
    result = run(asked, tmp_path / "study", RealRivals(asked))
    (rival,) = result.rivals
    assert (rival.status, rival.weights, rival.epochs, rival.reason) == ("done", "file", 2, "")
    assert rival.test is not None
    assert rival.difference is not None
    images = load_data("digits", PIXELS).test
    assert rival.test.images == rival.difference.images == len(images)

    def count_right(net: nn.Module) -> int:
        with torch.inference_mode():
            return sum(int((net(x).argmax(1) == y).sum()) for x, y in images.batches(100))

    net = genets.load(tmp_path / "study" / rival.folder)
    winner = genets.build(result.selected.structure, 10).eval()
    load_weights(winner, tmp_path / "study" / layout.WINNER_WEIGHTS)
    right, own = count_right(net), count_right(winner)
    assert rival.test.top1 == pytest.approx(right / len(images))
    assert rival.difference.top1 == pytest.approx((right - own) / len(images))
    before, after = read_tensors(weights), net.state_dict()
    moved = (after["stem.conv.weight"] - before["stem.conv.weight"]).abs().mean()
    assert moved < 0.2 * before["stem.conv.weight"].abs().mean(), "it started from the file"
    again = RivalLaboratory(asked)
    again.faults[BYOBNET] = AssertionError("trained again")
    assert run(asked, tmp_path / "study", again).rivals[0].test == rival.test

"""A search at several resolutions, with real training and latencies from a formula."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import genets
from genets.core.errors import (
    DataError,
    GenetsError,
    InfeasibleBudgetError,
    SettingsError,
    StructureError,
)
from genets.data import load_data
from genets.latency import LatencyTable, Measurement, TableSettings, Target
from genets.latency.environment import describe_environment
from genets.latency.predictor.builder import WholeNetwork
from genets.latency.predictor.probes import block_probes, stem_and_head_probes
from genets.nas.laboratory import Laboratory
from genets.nas.reselect import select_top
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.selection import resolutions
from genets.nas.selection.budget_search import OnAttempt
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Candidate, TrainedCandidate, TrialResult
from genets.nas.warnings import missing_resolutions
from genets.nas.workers.job import Workers
from genets.networks.weights import read_weights
from genets.report.study.page import study_page
from genets.structure import Structure, SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds
from genets.training import Score, evaluate

SETTINGS: dict[str, Any] = {
    "from_scratch": True,
    "data": "digits",
    "budget": "0.9x",
    "master": "Conv3x8s2 XX3x16s2 DW3x16r3 Conv1x16 @12",
    "space": {"blocks": ["XX3", "DW3r3"], "depth_change": 0, "resolutions": [8, 16, 64]},
    "target": {"batch_size": 8, "threads": 1},
    "trials_per_super_block": 2,
    "controls_per_super_block": 1,
    "master_training": {"epochs": 1, "warmup_epochs": 0},
    "final_training": {"epochs": 1, "warmup_epochs": 0},
    "confirm": 2,
    "confirm_epochs": 1,
}


def stage_ms(stage: SuperBlock, width: int, pixels: int) -> float:
    return 0.02 * stage.depth + 1e-5 * stage_multiply_adds(stage, width, pixels)


def network_ms(structure: Structure) -> float:
    widths = [3, *(stage.width for stage in structure.stages)]
    return sum(map(stage_ms, structure.stages, widths, input_resolutions(structure)))


class ClosedForm(Laboratory):
    """Trains for real. Latencies are formulas, and so are scores: a higher resolution is better."""

    def prepare_table(self, path: Path, wanted: TableSettings, **_: Any) -> LatencyTable:
        if not path.exists():
            closed_form_table().save(path)
        return super().prepare_table(path, wanted, **_)

    def measure(
        self, structures: Any, target: Target, num_classes: int, *_: Any, relative: bool = False
    ) -> dict[Structure, Measurement]:
        return {structure: measurement(structure, target) for structure in structures}

    def evaluate(self, net: Any, split: Any, device: str) -> Score:
        """Replace the validation top-1, because a MasterNet of one epoch may be at chance level."""
        score = super().evaluate(net, split, device)
        return replace(score, top1=0.5) if split.purpose == "validation" else score

    def run_trials(self, job: Any, groups: Any, workers: Workers) -> Iterator[TrialResult]:
        for trial in [trial for group in groups for trial in group]:
            yield TrialResult(trial, "done", 0.5, 2 - trial.super_block.width / 64)

    def train_candidates(
        self, job: Any, groups: Any, workers: Workers
    ) -> Iterator[TrainedCandidate]:
        for trained in super().train_candidates(job, groups, workers):
            pixels = trained.structure.resolution
            yield replace(trained, top1=pixels / 100, cross_entropy=1 / pixels)


class Idle(ClosedForm):
    def train(self, *_: Any, **__: Any) -> None:
        pytest.fail("trained again")


def closed_form_table() -> LatencyTable:
    settings = SearchSettings(**SETTINGS)
    around = settings.space.design_space().around(settings.structure)
    timed: dict[Any, float] = {}
    for resolution in around.resolutions:
        for piece in block_probes(around, resolution):
            b = piece.block
            stage = SuperBlock(b.type, piece.depth, piece.width, piece.stride, b.kernel, b.ratio)
            timed[piece] = stage_ms(stage, piece.input_width, piece.resolution)
        stem, *heads = stem_and_head_probes(around, resolution)
        timed[stem] = stage_ms(around.master.stem, 3, resolution)
        timed |= {e: stage_ms(around.master.head, e.input_width, e.resolution) for e in heads}
    master = settings.structure
    rng = np.random.default_rng(0)
    networks = [WholeNetwork(master, network_ms(master), "calibration")]
    held_out = (around.sample(rng) for _ in range(8))
    networks += [WholeNetwork(s, network_ms(s), "held-out") for s in held_out]
    target = settings.target.resolved()
    here = describe_environment(target)
    return LatencyTable(around, target, 10, timed, tuple(networks), here)


def measurement(structure: Structure, target: Target) -> Measurement:
    ms = network_ms(structure) / target.batch_size
    times = (ms, 0.999 * ms, 1.001 * ms, ms, ms, (ms,))
    return Measurement(*times, False, {}, "genets-1", target, structure.resolution)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("runs") / "study"
    return run_search(SearchSettings(**SETTINGS), folder, workers=1, lab=ClosedForm())


def test_each_resolution_has_a_trained_candidate_and_the_best_one_wins(
    finished: SearchResult,
) -> None:
    rows = json.loads((finished.folder / "candidates.json").read_text())
    candidates = [Candidate.from_json(row) for row in rows]
    assert [candidate.structure.resolution for candidate in candidates] == [8, 12, 16]
    assert all(candidate.high_ms <= candidate.budget_ms for candidate in candidates)
    assert all(c.master_ms == pytest.approx(network_ms(master()) / 8) for c in candidates)
    assert [each.structure for each in finished.confirmed] == [c.structure for c in candidates]
    assert [each.top1 for each in finished.confirmed] == [0.08, 0.12, 0.16]
    assert finished.selected == candidates[2]
    assert finished.warnings[0] == (
        "the search found no structure at 64 pixels that meets the budget, so it trained no "
        "candidate at this resolution"
    )


def master() -> Structure:
    return SearchSettings(**SETTINGS).structure


def test_each_selected_structure_equals_the_best_of_a_brute_force_search(
    finished: SearchResult,
) -> None:
    """The scores of these trials grow with the width."""
    around = SearchSettings(**SETTINGS).space.design_space().around(master())
    model = Snapshot.read(finished.folder).model
    assert model is not None
    budget_ms = finished.selected.budget_ms * 8
    for candidate in finished.confirmed:
        resized = master().with_resolution(candidate.structure.resolution)
        structures = (
            resized.with_stage(0, a).with_stage(1, b)
            for a in around.choices(0)
            for b in around.choices(1)
        )
        fitting = [s for s in structures if network_ms(s) * 1.001 <= budget_ms * 0.97]
        best = max(model.predict(structure).mean for structure in fitting)
        assert model.predict(candidate.structure).mean >= best


def test_the_exported_files_have_the_resolution_of_the_winner(finished: SearchResult) -> None:
    record = json.loads(finished.files["result"].read_text())
    assert record["input"]["shape"] == ["N", 3, 16, 16]
    assert record["selected"]["resolution"] == 16
    assert genets.Structure.load(finished.files["structure"]).resolution == 16
    data = load_data("digits", 16)
    _, metadata = read_weights(finished.files["weights"])
    assert json.loads(metadata["mean"]) == list(data.mean)
    net = genets.load(finished.results)
    assert finished.winner["cross_entropy"] == pytest.approx(
        evaluate(net, data.test).cross_entropy, rel=1e-4
    )


def test_a_resumed_study_trains_no_network_again(
    finished: SearchResult,
) -> None:
    again = run_search(SearchSettings(**SETTINGS), finished.folder, workers=1, lab=Idle())
    assert (again.selected, again.winner) == (finished.selected, finished.winner)
    assert again.master == finished.master


def test_select_uses_the_resolution_of_the_winner_by_default(
    finished: SearchResult,
) -> None:
    def selected(**options: Any) -> Candidate:
        return select_top(finished.folder, "0.8x", 1, lab=Idle(), **options)[0]

    assert selected().structure.resolution == 16
    assert selected().predicted_accuracy is None
    assert selected(resolution=12).predicted_accuracy is not None
    with pytest.raises(GenetsError, match="one of the study's, 8, 12, 16, 64, not 13"):
        selected(resolution=13)
    with pytest.raises(InfeasibleBudgetError, match="of the design space at 64 pixels meets"):
        selected(resolution=64)


@pytest.mark.usefixtures("plain")
def test_the_page_compares_resolutions_by_trained_candidates_only(finished: SearchResult) -> None:
    html = study_page(Snapshot.read(finished.folder), "today")
    assert "<h2>Candidates</h2>" in html
    assert "over latency, 12 pixels" in html
    assert "The predictions are for 12 pixels, the resolution of the trials" in html
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    first = cells.index("input")
    assert cells[first : first + 3] == ["input", "12 pixels", "16 pixels"]
    assert "found no structure at 64 pixels that meets the budget" in html


@pytest.mark.parametrize(
    ("confirm", "each"), [(1, 1), (3, 1), (4, 2), (9, 3)], ids=lambda value: str(value)
)
def test_every_resolution_has_the_same_number_of_candidates(
    monkeypatch: pytest.MonkeyPatch, confirm: int, each: int
) -> None:
    selections: list[tuple[int, int]] = []
    steps: list[tuple[int, int, str]] = []

    class Search:
        def __init__(
            self,
            context: Any,
            model: Any,
            resolution: int,
            trained: Any,
            screened: Any,
            measured: Any,
        ) -> None:
            self.resolution = resolution
            assert trained == screened == []
            assert measured == ()

        def find_candidates(self, count: int, on_attempt: OnAttempt) -> list[Any]:
            on_attempt(5, 5)
            selections.append((self.resolution, count))
            if self.resolution == 12:
                raise InfeasibleBudgetError("too slow", fastest_ms=self.resolution)
            return [self.resolution]

    monkeypatch.setattr(resolutions, "BudgetSearch", Search)
    context: Any = SimpleNamespace(
        space=SimpleNamespace(resolutions=(12, 16, 20)),
        settings=SimpleNamespace(confirm=confirm, measure_seconds=2.0),
        report=lambda phase: lambda *step: steps.append(step),
        phase=lambda phase: nullcontext(),
    )
    unused: Any = None
    assert resolutions.select_at_each_resolution(context, unused) == [16, 20]
    assert selections == [(12, each), (16, each), (20, each)]
    assert [step[:2] for step in steps] == [(5, 15), (10, 15), (15, 15)]
    time = f"measuring takes up to {2 * (each + 3)} s for each"
    assert [step[2] for step in steps] == [f"{pixels} pixels, {time}" for pixels in (12, 16, 20)]


def test_a_resolution_with_a_candidate_is_not_reported_as_missing() -> None:
    around = SearchSettings(**SETTINGS).space.design_space().around(master())
    structures = [master().with_resolution(r) for r in around.resolutions]
    winner: Any = SimpleNamespace(structure=structures[0])
    trained = [TrainedCandidate(s, "failed", 1) for s in structures]
    assert missing_resolutions(around, winner, trained) == []
    assert len(missing_resolutions(around, winner, ())) == 3


@pytest.mark.parametrize(
    ("space", "kind", "sentence"),
    [
        ({"resolutions": [8, 65]}, DataError, "65"),
        ({"resolutions": [2]}, StructureError, "resolution must be at least 4, the product of the"),
        (
            {"blocks": ["XX3"], "width_range": (1, 1), "depth_change": 0, "resolutions": [8, 16]},
            SettingsError,
            "the design space holds no structure besides the MasterNet",
        ),
    ],
)
def test_wrong_resolutions_leave_no_study(
    tmp_path: Path, space: dict[str, Any], kind: type[GenetsError], sentence: str
) -> None:
    changes = {"space": space}
    if "blocks" in space:
        changes["master"] = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @12"  # type: ignore[assignment]
    with pytest.raises(kind, match=sentence):
        run_search(SearchSettings(**SETTINGS | changes), tmp_path / "study")
    assert not (tmp_path / "study").exists()

"""A search by balanced accuracy: it is predicted, it decides, and it is shown."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rounds_lab import in_closed_form, search, settings
from test_stored_study import STORED, StoredLaboratory

from command_line import fails, invoke
from genets.core.class_balance import balance_advice
from genets.core.errors import GenetsError
from genets.latency import Budget
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.master.training import _check_learned
from genets.nas.result import SearchResult
from genets.nas.selected_folder import Selection, write_selected
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.reader import StudyReader
from genets.nas.warnings import balance_cure
from genets.report.study.tables import search_tables
from genets.training import Metric, Score


def test_balanced_accuracy_decides_and_is_shown_where_it_is_the_metric(tmp_path: Path) -> None:
    asked = settings(metric="balanced_accuracy")
    result = search(asked, tmp_path / "study")
    best = max(result.confirmed, key=lambda one: one.balanced_accuracy or 0)
    assert result.rounds[-1].confirmed
    assert result.selected.structure == best.structure
    assert result.winner.balanced_accuracy == pytest.approx(0.9 * result.winner.top1)
    stored = json.loads((tmp_path / "study" / "results" / "result.json").read_text())
    assert stored["winner"] == result.winner.to_json()
    assert SearchResult.from_record(stored, tmp_path / "study").winner == result.winner
    model = Snapshot.read(tmp_path / "study").model
    assert model is not None
    selection = Selection(result.selected, Budget.parse("0.9x"), asked.target)
    written = write_selected(StudyReader(tmp_path / "study"), selection, tmp_path / "selected")
    assert "--metric balanced_accuracy" in written.command
    assert written.settings.deciding_metric is Metric.BALANCED_ACCURACY
    assert isinstance(model.effects, BayesEffects)
    assert (model.metric, model.effects.log_errors.images) == ("balanced_accuracy", 80.0)
    for metric, expected in ((asked.metric, True), (Metric.TOP1, False)):
        console = Console(width=300)
        with console.capture() as capture:
            console.print(*search_tables(replace(result, metric=metric)))
        assert ("balanced accuracy" in capture.get()) == expected


@pytest.mark.parametrize("command", ["select", "report"])
def test_a_study_of_an_older_version_cannot_answer_for_balanced_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    in_closed_form(monkeypatch, StoredLaboratory())
    folder = Path(shutil.copytree(STORED, tmp_path / "study"))
    stored = folder / "study.toml"
    text = stored.read_text()
    assert 'response = "cross_entropy"' in text  # the name before version 0.2
    stored.write_text(text.replace('response = "cross_entropy"', 'metric = "balanced_accuracy"'))
    words = ("--budget", "0.7x") if command == "select" else ()
    fails(
        invoke(command, folder, *words),
        "has no balanced accuracy, which older versions of genets did not record; begin another",
    )


def test_an_older_study_keeps_its_metric(tmp_path: Path) -> None:
    folder = shutil.copytree(STORED, tmp_path / "study")
    fails(
        invoke("search", "--out", folder, "--metric", "balanced_accuracy"),
        "metric: cross_entropy in the study, balanced_accuracy asked",
    )


@pytest.mark.parametrize(
    ("changes", "is_given"),
    [
        ({}, True),
        ({"metric": "top1"}, True),
        ({"metric": "balanced_accuracy"}, False),
        ({"final_training": {"class_weights": "balanced"}}, False),
        ({"trial_training": {"class_weights": "balanced"}}, True),
        ({"trial_training": {"class_weights": "balanced"}, "from_scratch": True}, False),
    ],
)
def test_a_search_on_very_unbalanced_classes_gives_advice(
    changes: dict[str, Any], is_given: bool
) -> None:
    cure = balance_cure(SearchSettings(data="digits", budget="0.5x", **changes))
    assert balance_advice({0: 50, 1: 10}, ("cat", "dog"), cure) == ""
    advice = balance_advice({0: 51, 1: 10}, ("cat", "dog"), cure)
    assert bool(advice) == is_given
    if is_given:
        assert advice.startswith("class cat has 51 training images, and class dog has 10; to let")


def test_a_master_net_that_knows_one_class_has_not_learned() -> None:
    """It is right on 90 % of the images, and all others are of the other class."""
    score = Score(0.9, 0.4, 100, 0.5, 36.0)
    _check_learned(score, 2, Metric.TOP1)
    with pytest.raises(GenetsError, match=r"50\.0% is the balanced accuracy on the validation"):
        _check_learned(score, 2, Metric.BALANCED_ACCURACY)

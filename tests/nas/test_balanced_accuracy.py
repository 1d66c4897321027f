"""A search by balanced accuracy: it is predicted, it decides, and it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rounds_lab import search, settings

from genets.core.errors import GenetsError
from genets.nas.accuracy.bayes import BayesEffects
from genets.nas.result import SearchResult
from genets.nas.search import _check_learned
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.snapshot import Snapshot
from genets.nas.warnings import balance_advice
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
    assert isinstance(model.effects, BayesEffects)
    assert (model.metric, model.effects.log_errors.images) == ("balanced_accuracy", 80.0)
    for metric, expected in ((asked.metric, True), (Metric.TOP1, False)):
        console = Console(width=300)
        with console.capture() as capture:
            console.print(*search_tables(replace(result, metric=metric)))
        assert ("balanced accuracy" in capture.get()) == expected


@pytest.mark.parametrize(
    ("changes", "is_given"),
    [
        ({}, True),
        ({"metric": "top1"}, True),
        ({"metric": "balanced_accuracy"}, False),
        ({"final_training": {"class_weights": "balanced"}}, False),
    ],
)
def test_a_search_on_very_unbalanced_classes_gives_advice(
    changes: dict[str, Any], is_given: bool
) -> None:
    asked = SearchSettings(data="digits", budget="0.5x", **changes)
    assert balance_advice(asked, {0: 50, 1: 10}, ("cat", "dog")) == ""
    advice = balance_advice(asked, {0: 51, 1: 10}, ("cat", "dog"))
    assert bool(advice) == is_given
    if is_given:
        assert advice.startswith("class cat has 51 training images, and class dog has 10; to let")


def test_a_master_net_that_knows_one_class_has_not_learned() -> None:
    """It is right on 90 % of the images, and all others are of the other class."""
    score = Score(0.9, 0.4, 100, 0.5, 36.0)
    _check_learned(score, 2, Metric.TOP1)
    with pytest.raises(GenetsError, match=r"50\.0% is the balanced accuracy on the validation"):
        _check_learned(score, 2, Metric.BALANCED_ACCURACY)

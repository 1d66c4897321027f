"""Ranking MasterNets: the arithmetic by hand, the file, and a real training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from genets.analysis import masters as master_training
from genets.analysis.masters import MasterRanking, MasterScore, rank_masters
from genets.core.errors import GenetsError
from genets.data import load_data
from genets.report.study.tables import masters_table
from genets.structure import Structure, zoo
from genets.training import Metric, Recipe, Score

NETS = {
    "wide": Structure.parse("Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @8"),
    "thin": Structure.parse("Conv3x8s2 XX3x8s2 XX3x8 Conv1x16 @8"),
    "deep": Structure.parse("Conv3x8s2 XX3x8s2*2 XX3x8 Conv1x16 @8"),
}
RECIPE = Recipe(epochs=1, batch_size=256)


def scored(values: dict[str, list[float]], **options: Any) -> MasterRanking:
    scores = [
        MasterScore(name, seed, Score(value, 1 - value))
        for name, row in values.items()
        for seed, value in enumerate(row)
    ]
    return MasterRanking({name: NETS[name] for name in values}, tuple(scores), **options)


def test_a_seed_that_is_better_for_all_is_no_noise() -> None:
    ranking = scored({"wide": [0.8, 0.9], "thin": [0.7, 0.8], "deep": [0.6, 0.7]})
    assert ranking.noise == pytest.approx(0, abs=1e-12)
    assert [row.name for row in ranking.ranked] == ["wide", "thin", "deep"]
    assert [row.tied for row in ranking.ranked] == [True, False, False]
    assert ranking.best == NETS["wide"]


def test_interval_is_student_s_of_the_two_way_residual() -> None:
    values = {"wide": [0.80, 0.84, 0.79], "thin": [0.81, 0.80, 0.80], "deep": [0.6, 0.63, 0.61]}
    ranking = scored(values)
    table = np.array(list(values.values()))
    # The same by least squares: one effect for each structure and each seed.
    rows = np.repeat(np.arange(3), 3)
    columns = np.tile(np.arange(3), 3)
    design = np.hstack([np.eye(3)[rows], np.eye(3)[columns]])
    residual = table.ravel() - design @ np.linalg.lstsq(design, table.ravel())[0]
    noise = math.sqrt((residual**2).sum() / 4)
    assert ranking.noise == pytest.approx(noise)
    half = stats.t.ppf(0.975, 4) * noise / math.sqrt(3)
    first, second, third = ranking.ranked
    assert (first.name, second.name, third.name) == ("wide", "thin", "deep")
    assert (first.low, first.high) == (
        pytest.approx(first.mean - half), pytest.approx(first.mean + half),
    )  # fmt: skip
    assert second.behind == pytest.approx(table[0].mean() - table[1].mean())
    assert (second.tied, third.tied) == (True, False)


def test_less_cross_entropy_is_better() -> None:
    values = {"wide": [0.8, 0.8], "thin": [0.9, 0.9]}
    assert scored(values, metric="cross_entropy").best == NETS["thin"]
    assert scored(values, metric="cross_entropy").ranked[0].mean == pytest.approx(0.1)


def test_one_training_each_tells_nothing_of_its_error() -> None:
    ranking = scored({"wide": [0.8], "thin": [0.7]})
    assert math.isnan(ranking.noise)
    assert all(row.tied and math.isnan(row.low) for row in ranking.ranked)


def test_a_failed_training_is_shown_and_its_structure_not_ranked() -> None:
    known = scored({"wide": [0.8, 0.9], "thin": [0.7, 0.8]})
    failed = MasterScore("deep", 1, reason="the loss became nan")
    scores = (*known.scores, MasterScore("deep", 0, Score(0.99, 0.1)), failed)
    ranking = MasterRanking(NETS, scores)
    assert [row.name for row in ranking.ranked] == ["wide", "thin"]
    assert ranking.failed == (failed,)
    with pytest.raises(GenetsError, match=r"no structure was trained .* \(deep: the loss became n"):
        MasterRanking(NETS, (failed,))


@pytest.mark.parametrize(
    ("structures", "message"),
    [
        ({"wide": NETS["wide"]}, r"needs at least two structures, not \['wide'\]"),
        ({"a": zoo["net1"], "b": zoo["genet_light"]}, r"need one resolution, not \[192, 224\]"),
        ({"a": NETS["wide"], "b": NETS["wide"]}, "must differ, but 1 are repeated"),
    ],
)
def test_what_cannot_be_ranked(structures: dict[str, Structure], message: str) -> None:
    data = load_data("digits", 8, seed=0)
    with pytest.raises(GenetsError, match=message):
        rank_masters(structures, data, RECIPE)
    with pytest.raises(GenetsError, match=r"seeds must be one or more different integers, not \[1"):
        rank_masters(NETS, data, RECIPE, seeds=(1, 1))


def test_trainings_are_real_kept_and_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data("digits", 8, seed=0)
    path = tmp_path / "masternets.json"
    told: list[tuple[int, int, str]] = []
    ranking = rank_masters(
        NETS, data, RECIPE, seeds=(3,), keep=path, on_training=lambda *step: told.append(step)
    )
    assert told == [(1, 3, "wide"), (2, 3, "thin"), (3, 3, "deep")]
    assert all(each.score and 0 < each.score.top1 < 1 for each in ranking.scores)

    monkeypatch.setattr(
        master_training, "_trained", lambda name, *a: MasterScore(name, a[3], Score(0.5, 1.0))
    )
    more = rank_masters(NETS, data, RECIPE, seeds=(3, 4), keep=path)
    assert more.scores[:3] == ranking.scores
    assert [score.seed for score in more.scores] == [3, 3, 3, 4, 4, 4]
    assert rank_masters(NETS, data, RECIPE, seeds=(3,), keep=path) == ranking

    with pytest.raises(GenetsError, match="is a ranking of other recipe; remove it"):
        rank_masters(NETS, data, Recipe(epochs=2), seeds=(3,), keep=path)
    with pytest.raises(GenetsError, match="is a ranking of other images; remove it"):
        rank_masters(NETS, replace(data, fingerprint="changed"), RECIPE, seeds=(3,), keep=path)
    path.write_text(json.dumps({"scores": [1]}))
    with pytest.raises(GenetsError, match=r"is damaged .*; remove it to train again"):
        rank_masters(NETS, data, RECIPE, keep=path)


def test_the_file_of_an_older_version_is_continued_for_the_metrics_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields of the recipe, the fingerprint of the images and balanced accuracy are missing."""
    data = load_data("digits", 8, seed=0)
    path = tmp_path / "masternets.json"
    monkeypatch.setattr(
        master_training, "_trained", lambda name, *a: MasterScore(name, a[3], Score(0.5, 1.0))
    )
    ranking = rank_masters(NETS, data, RECIPE, keep=path)
    record = json.loads(path.read_text())
    del record["recipe"]["class_weights"], record["images"]
    record["scores"] = [
        {name: value for name, value in score.items() if name != "balanced_accuracy"}
        for score in record["scores"]
    ]
    path.write_text(json.dumps(record))
    assert rank_masters(NETS, data, RECIPE, keep=path) == ranking
    with pytest.raises(GenetsError, match=r"json has no balanced accuracy, .*; remove it to train"):
        rank_masters(NETS, data, RECIPE, keep=path, metric=Metric.BALANCED_ACCURACY)


def test_a_score_is_read_back_from_the_file_of_any_version() -> None:
    done = MasterScore("wide", 3, Score(0.5, 1.0, 300))
    failed = MasterScore("deep", 3, reason="the loss became nan")
    for score in (done, failed):
        assert MasterScore.from_json(json.loads(json.dumps(score.to_json()))) == score
    before = {"name": "wide", "seed": 3, "top1": 0.5, "cross_entropy": 1.0, "reason": ""}
    assert MasterScore.from_json(before) == MasterScore("wide", 3, Score(0.5, 1.0))


def test_a_training_that_diverges_is_a_failed_one(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=256, learning_rate=1e30)
    with pytest.raises(GenetsError, match="no structure was trained with every seed"):
        rank_masters(NETS, load_data("digits", 8, seed=0), recipe, keep=tmp_path / "m.json")
    record = json.loads((tmp_path / "m.json").read_text())
    assert all("the loss became" in score["reason"] for score in record["scores"])


def test_the_table_marks_structures_that_are_tied_with_the_best() -> None:
    ranking = scored({"wide": [0.80, 0.84], "thin": [0.81, 0.80], "deep": [0.1, 0.1]})
    console = Console(width=120, record=True, file=None, quiet=True)
    console.quiet = False
    with console.capture() as captured:
        console.print(masters_table(ranking.ranked, "top1"))
    lines = captured.get().splitlines()
    assert any("thin" in line and "~" in line for line in lines)
    assert any("deep" in line and "~" not in line for line in lines)
    assert "within its 95 % interval" in " ".join(captured.get().split())

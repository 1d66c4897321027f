"""Rounds: the MasterNet moves to the best that was trained, and trials are taken around it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import rounds_lab
from rounds_lab import ClosedFormLaboratory, loss, run_with_kills, search, settings

from genets.core.errors import SettingsError, StudyError
from genets.core.progress import Progress
from genets.nas.reselect import select_top
from genets.nas.result import SearchResult
from genets.nas.snapshot import Snapshot
from genets.nas.study.study import Study
from genets.networks.weights import read_weights
from genets.structure import Structure

Finished = tuple[Path, SearchResult, list[Progress]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("rounds") / "study"
    events: list[Progress] = []
    result = search(settings(), folder, on_event=events.append)
    return folder, result, events


def test_the_second_round_starts_at_the_best_of_the_first(finished: Finished) -> None:
    _, result, _ = finished
    first, second = result.rounds
    assert first.master == settings().structure
    best = min(first.confirmed, key=lambda one: one.cross_entropy or 0)
    assert second.master == best.structure != first.master
    assert second.score == best.score
    assert (first.trials_done, second.trials_done, result.trials_done) == (10, 10, 20)
    assert min(loss(one.structure) for one in second.confirmed) < loss(second.master), "it helped"


def test_the_winner_is_the_best_of_all_rounds_within_the_budget(finished: Finished) -> None:
    _, result, _ = finished
    everything = {one.structure for each in result.rounds for one in each.confirmed}
    assert {one.structure for one in result.confirmed} == everything
    assert result.selected.structure == min(everything, key=loss)
    assert result.selected.high_ms <= result.selected.budget_ms
    first = result.rounds[0].candidates[0]
    for each in result.rounds:
        for candidate in each.candidates:
            assert candidate.master_ms == first.master_ms, "a budget in x is of the first MasterNet"
            assert candidate.budget_ms == first.budget_ms


def test_trials_of_the_second_round_are_of_the_first_space(finished: Finished) -> None:
    folder, result, _ = finished
    around = settings().space.design_space().around(settings().structure)
    with Study.open(folder) as study:
        trials = [r.trial for r in study.results(2)]
        assert len(study.results()) == 10
    assert all(trial.super_block in around.choices(trial.index) for trial in trials)
    controls = [trial for trial in trials if trial.is_control(result.rounds[1].master)]
    assert {trial.index for trial in controls} == {0, 1}


def test_every_phase_of_every_round_tells_its_progress(finished: Finished) -> None:
    folder, _, events = finished
    last = {event.phase: event for event in events}
    for phase in ("trials", "selection", "candidate training"):
        assert {phase, f"{phase}, round 2"} <= set(last)
    assert all(event.done == event.total for event in last.values()), last
    assert "trials, round 2" in json.loads((folder / "seconds.json").read_text())


def test_the_record_of_a_search_tells_its_rounds(finished: Finished) -> None:
    record = json.loads(json.dumps(finished[1].to_json()))
    assert [row["round"] for row in record["rounds"]] == [1, 2]
    assert record["rounds"][1]["master"] == str(finished[1].rounds[1].master)
    assert len(record["rounds"][1]["candidates"]) == 2


def test_select_uses_the_model_of_the_last_round(finished: Finished) -> None:
    folder, result, _ = finished
    lab = ClosedFormLaboratory()
    model = Snapshot.read(folder).model
    assert model is not None
    assert model.master == result.rounds[1].master
    assert model.master_value == -result.rounds[1].score.cross_entropy
    for budget in ("0.9x", "0.5x"):
        selected = select_top(folder, budget, 1, lab=lab)[0]
        prediction = model.predict(selected.structure)
        assert selected.predicted_accuracy == pytest.approx(prediction.value)
        ends = (selected.predicted_accuracy_low, selected.predicted_accuracy_high)
        assert ends == pytest.approx(prediction.interval())


def test_killed_again_and_again_it_finds_the_same(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, kills = run_with_kills(
        monkeypatch, ("save_json", "record", "begin_round"), 3, lambda: search(settings(), tmp_path)
    )
    assert kills > 8
    assert result.selected == finished[1].selected
    assert [each.master for each in result.rounds] == [e.master for e in finished[1].rounds]
    for number in (1, 2):
        with Study.open(tmp_path) as again, Study.open(finished[0]) as once:
            assert plain(again.results(number)) == plain(once.results(number))


def plain(results: Any) -> Any:
    return [(r.trial, r.status, r.top1, r.cross_entropy) for r in results]


def test_one_round_is_what_it_was(finished: Finished, tmp_path: Path) -> None:
    """The same files as the first round of more, and none besides."""
    result = search(settings(rounds=1), tmp_path)
    assert result.rounds == ()
    assert "rounds" not in result.to_json()
    assert not (tmp_path / "rounds").exists()
    for name in ("candidates.json", "master.json"):
        assert (tmp_path / name).read_bytes() == (finished[0] / name).read_bytes()
    with sqlite3.connect(tmp_path / "trials.sqlite") as here:
        assert len(here.execute("SELECT * FROM trials").fetchall()) == 10


def test_a_study_from_before_rounds_goes_on(tmp_path: Path) -> None:
    search(settings(rounds=1), tmp_path)
    path = tmp_path / "study.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("rounds")]
    path.write_text("\n".join(lines))
    assert search(settings(rounds=1), tmp_path).rounds == ()


def test_rounds_end_where_the_masternet_is_the_best(
    tmp_path: Path,
) -> None:
    """It meets the budget, and is better than all candidates."""
    lab = ClosedFormLaboratory(master_loss=0.1)
    result = search(settings(budget="3x", rounds=3), tmp_path, lab)
    assert len(result.rounds) == 1
    assert not (tmp_path / "rounds").exists()
    assert result.selected.structure in {one.structure for one in result.confirmed}


def test_rounds_end_where_nothing_is_better_than_the_best_so_far(tmp_path: Path) -> None:
    result = search(settings(rounds=10), tmp_path)
    last = result.rounds[-1]
    assert 2 <= len(result.rounds) < 10
    assert all(loss(one.structure) >= loss(last.master) for one in last.confirmed)
    assert result.selected.structure == last.master
    losses = [loss(each.master) for each in result.rounds[1:]]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(("budget", "networks"), [("0.5x", 1), ("0.51x", 2)])
def test_a_round_without_an_untrained_network_within_the_budget_ends(
    tmp_path: Path, budget: str, networks: int
) -> None:
    """Its candidate is its MasterNet, whose training is stored."""
    result = search(settings(budget=budget, confirm=12, rounds=3), tmp_path)
    assert [len(each.confirmed) for each in result.rounds] == [networks, 1]
    assert len({one.structure for one in result.confirmed}) == networks
    assert result.selected.structure == result.rounds[1].master


def test_a_single_candidate_is_trained_where_another_round_may_start_there(tmp_path: Path) -> None:
    result = search(settings(confirm=1), tmp_path)
    assert [len(each.confirmed) for each in result.rounds] == [1, 1]


def test_rounds_at_several_resolutions(tmp_path: Path) -> None:
    """Each round selects at each; trials are taken at that of the round's MasterNet."""
    asked = settings(budget="1.5x", space={**rounds_lab.SETTINGS["space"], "resolutions": [10, 12]})
    result = search(asked, tmp_path)
    first, second = result.rounds
    for each in result.rounds:
        assert {one.structure.resolution for one in each.candidates} == {8, 10, 12}
        assert all(one.high_ms <= one.budget_ms for one in each.candidates)
    assert second.master == min((one.structure for one in first.confirmed), key=loss)
    assert second.master.resolution > 8
    everything = {one.structure for each in result.rounds for one in each.confirmed}
    assert result.selected.structure == min(everything, key=loss)


def test_trials_stand_in_the_trained_candidate(tmp_path: Path) -> None:
    """The trials of a later round read the weights of its MasterNet's training as a candidate."""
    lab = ClosedFormLaboratory()
    result = search(settings(), tmp_path, lab)
    last = lab.trial_jobs[-1].runner()
    assert last.job.master == result.rounds[1].master
    assert last.job.master_weights.parent == tmp_path / "confirmed"
    tensors, _ = read_weights(last.job.master_weights)
    for name, tensor in last.master_net.state_dict().items():
        assert tensor.equal(tensors[name]), name


@pytest.mark.parametrize(
    ("rounds", "rule"),
    [
        (0, "rounds must be greater than or equal to 1, not 0"),
        (-3, "rounds must be greater than or equal to 1, not -3"),
        (10**9, "rounds must be less than or equal to 10, not 1000000000"),
        ("two", "rounds must be a valid integer"),
        (1.5, "rounds must be a valid integer"),
    ],
)
def test_a_wrong_number_of_rounds_is_one_sentence(rounds: Any, rule: str) -> None:
    with pytest.raises(SettingsError, match=rule):
        settings(rounds=rounds)


def test_other_rounds_or_more_trials_are_refused_for_the_same_study(finished: Finished) -> None:
    with pytest.raises(StudyError, match="rounds: 2 in the study, 3 asked"):
        search(settings(rounds=3), finished[0])
    with pytest.raises(StudyError, match="trials_per_super_block: 4 in the study, 5 asked"):
        search(settings(trials_per_super_block=5), finished[0])


@pytest.mark.parametrize("name", ["master", "candidates", "confirmed"])
@pytest.mark.parametrize("content", ["{", '{"foo": 1}', "[]", "7"])
def test_a_damaged_round_is_one_sentence(
    finished: Finished, tmp_path: Path, name: str, content: str
) -> None:
    import shutil

    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    (folder / f"rounds/2/{name}.json").write_text(content)
    if (name, content) == ("confirmed", "[]"):  # as before the first candidate was trained
        assert search(settings(), folder).selected == finished[1].selected
        return
    with pytest.raises(StudyError, match=rf"{name}\.json is damaged"):
        search(settings(), folder)


def test_a_masternet_outside_the_space_is_refused(finished: Finished, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    path = folder / "rounds/2/master.json"
    text = path.read_text().replace(str(finished[1].rounds[1].master), WIDE)
    path.write_text(text)
    with pytest.raises(StudyError, match="must be of the study's design space, not Conv3x8s2 XX3x"):
        search(settings(), folder)


WIDE = str(Structure.parse("Conv3x8s2 XX3x512s2 DW3x16r3 Conv1x16 @8"))


@pytest.mark.usefixtures("plain")
def test_the_page_shows_every_round(finished: Finished) -> None:
    from genets.report.study.page import study_page

    html = study_page(Snapshot.read(finished[0]), "today")
    assert "<h2>Rounds</h2>" in html
    assert "20 done of 20; 2 of 2 rounds begun" in html
    for caption in ("Trials over time, round 1", "Trials over time, round 2"):
        assert f"<figcaption>{caption}</figcaption>" in html
    assert str(finished[1].rounds[1].master) in html
    assert rounds_lab.MASTER in html

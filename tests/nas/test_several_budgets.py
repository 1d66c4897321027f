"""A trained network for each of several budgets from one search."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import (
    DEVICE,
    SETTINGS,
    ClosedFormLaboratory,
    files,
    in_closed_form,
    loss,
    run_with_kills,
    search,
)
from rounds_lab import settings as lab_settings

from command_line import fails, invoke
from genets.core.errors import GenetsError, InfeasibleBudgetError, SettingsError, StudyError
from genets.core.progress import Progress
from genets.core.resumable import ResumableFolder
from genets.data import ImageData
from genets.nas.candidates.export import EXPORTED, OnnxCheck
from genets.nas.context import SearchContext
from genets.nas.new_study import settings_at
from genets.nas.reselect import select_top
from genets.nas.result import SearchResult
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader, load_settings
from genets.nas.study.records import TrainedCandidate, TrialResult
from genets.nas.study.study import Study
from genets.nas.workers.job import Workers
from genets.nas.workers.local import LocalMachine, LocalWorkers
from genets.report.study.facts import finished_parts, state_sentences, study_record
from genets.structure import Structure
from json_keys import check_keys

BUDGETS = ("0.9x", "0.7x", "0.55x")
OF_BUDGET = ("candidates.json", "confirmed.json", "selected.json", "winner.safetensors")


class CountingMachine(LocalMachine):
    """Counts how often a search chooses its workers."""

    def __init__(self) -> None:
        self.choices = 0

    def workers(self, *words: Any) -> LocalWorkers:
        self.choices += 1
        return super().workers(*words)


class CountingLaboratory(ClosedFormLaboratory):
    """Counts what a search does.

    trained: every candidate that was trained, in order.
    """

    def __init__(self) -> None:
        super().__init__(settings())
        self.tables = self.trainings = self.exports = 0
        self.trained: list[Structure] = []

    def prepare_table(self, path: Path, *words: Any, **options: Any) -> Any:
        self.tables += not path.exists()
        return super().prepare_table(path, *words, **options)

    def train(self, *words: Any, **options: Any) -> None:
        self.trainings += 1
        super().train(*words, **options)

    def train_candidates(
        self, job: Any, groups: Sequence[tuple[Structure, ...]], workers: Workers
    ) -> Iterator[TrainedCandidate]:
        for trained in super().train_candidates(job, groups, workers):
            self.trained.append(trained.structure)
            yield trained

    def export(self, net: Any, structure: Structure, data: ImageData, folder: Path) -> OnnxCheck:
        self.exports += 1
        for name in EXPORTED.values():
            (folder / name).write_text(str(structure))
        return OnnxCheck(0.0)


Finished = tuple[Path, SearchResult, CountingLaboratory, list[Progress]]


def settings(**changes: Any) -> SearchSettings:
    """Settings with several budgets, unless one budget is given."""
    given: dict[str, Any] = {**SETTINGS, "rounds": 1, **changes}
    if "budget" not in changes:
        given |= {"budget": None, "budgets": changes.get("budgets", BUDGETS)}
    return SearchSettings(**given)


def run(asked: SearchSettings, folder: Path) -> tuple[SearchResult, CountingLaboratory]:
    lab = CountingLaboratory()
    return search(asked, folder, lab), lab


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder, lab = tmp_path_factory.mktemp("budgets") / "study", CountingLaboratory()
    events: list[Progress] = []
    result = search(
        settings(budgets=(BUDGETS[2], *BUDGETS[:2])), folder, lab, on_event=events.append
    )
    return folder, result, lab, events


@pytest.fixture
def study(finished: Finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "study"))


@pytest.mark.usefixtures("one_blas_thread")
def test_without_trained_candidates_it_is_equal_to_separate_searches(tmp_path: Path) -> None:
    several, _ = run(settings(confirm=1), tmp_path / "several")
    assert list(several.budgets) == [*BUDGETS]
    for budget in BUDGETS:
        alone, _ = run(settings(confirm=1, budget=budget), tmp_path / budget)
        result = several.budgets[budget]
        assert result.selected == alone.selected
        assert (result.master, result.winner, result.difference) == (
            alone.master, alone.winner, alone.difference,
        )  # fmt: skip


def test_table_masternet_and_trials_are_shared(finished: Finished) -> None:
    _, result, lab, _ = finished
    assert (lab.tables, lab.trainings, len(lab.trial_jobs), lab.exports) == (1, 1, 1, 3)
    assert len(set(lab.trained)) == len(lab.trained), "no candidate was trained twice"
    assert result.trials_done == 10


def test_rounds_and_budgets_share_the_workers(study: Path) -> None:
    """On a GPU, their number depends on the memory that is free when they are chosen."""
    machine, lab = CountingMachine(), CountingLaboratory()
    with Study.open(study) as opened:
        contexts = SearchContext(opened, 10, lab=lab, machines=machine).each_budget()
        workers = [here.in_round(here.round).workers for here in contexts]
    assert len(workers) == len(BUDGETS)
    assert all(each is workers[0] for each in workers)
    assert machine.choices == 1


def test_the_largest_budget_comes_first_and_equals_a_search_of_its_own(
    finished: Finished, tmp_path: Path
) -> None:
    _, result, _, _ = finished
    assert list(result.budgets) == [*BUDGETS]
    alone, _ = run(settings(budget="0.9x"), tmp_path)
    assert result.selected == result.budgets["0.9x"].selected == alone.selected
    assert [each.structure for each in result.budgets["0.9x"].confirmed] == [
        each.structure for each in alone.confirmed
    ]


def test_the_winner_is_the_best_of_all_that_were_trained_so_far_and_meet_the_budget(
    finished: Finished,
) -> None:
    _, result, lab, _ = finished
    pool: list[Structure] = []
    for each in result.budgets.values():
        pool += [trained.structure for trained in each.confirmed]
        limit_ms = each.selected.budget_ms
        within = [s for s in pool if 1.001 * DEVICE.network_ms(s) / 8 <= limit_ms]
        assert each.selected.structure == min(within, key=loss)
        assert each.selected.high_ms <= limit_ms
        assert {trained.structure for trained in each.confirmed} == set(within)
    assert set(pool) == set(lab.trained)


def test_a_candidate_of_a_larger_budget_wins_a_smaller_one(tmp_path: Path) -> None:
    """Everything meets both budgets, so the second has the candidates of the first as well."""
    result, lab = run(settings(budgets="50x,40x"), tmp_path)
    first, second = (result.budgets[budget].confirmed for budget in ("50x", "40x"))
    assert {each.structure for each in first} < {each.structure for each in second}
    assert len(lab.trained) == len(second) == 4
    assert result.budgets["40x"].selected.structure == min(lab.trained, key=loss)
    for name in ("weights", "structure"):
        assert result.budgets["40x"].files[name].exists()


def test_a_winner_is_trained_once_for_all_budgets(tmp_path: Path) -> None:
    result, lab = run(settings(budgets="50x,40x", confirm=1), tmp_path)
    first, second = (result.budgets[budget].selected for budget in ("50x", "40x"))
    assert first.structure == second.structure
    assert lab.trainings == 2, "the MasterNet and one winner"
    weights = [tmp_path / f"budgets/{name}/winner.safetensors" for name in ("50x", "40x")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_every_budget_has_its_own_files(finished: Finished) -> None:
    folder, result, _, _ = finished
    names = files(folder)
    for budget in BUDGETS:
        assert {f"budgets/{budget}/{name}" for name in OF_BUDGET} <= names
        exported = {f"results/{budget}/{name}" for name in (*EXPORTED.values(), "result.json")}
        assert exported <= names
        of_budget = result.budgets[budget]
        assert of_budget.results == folder / "results" / budget
        assert of_budget.files["weights"].parent == of_budget.results
        record = json.loads((of_budget.results / "result.json").read_text())
        assert record["selected"]["structure"] == str(of_budget.selected.structure)
        assert record["files"]["weights"] == f"results/{budget}/weights.safetensors"
    assert not names & {*OF_BUDGET, *(f"results/{name}" for name in EXPORTED.values())}
    assert {"results/result.json", "trials.sqlite", "master.json"} <= names


def test_the_result_shows_all_budgets(finished: Finished) -> None:
    folder, result, _, _ = finished
    printed = json.loads(json.dumps(result.to_json()))
    check_keys("search, several budgets", printed)
    stored = json.loads((folder / "results/result.json").read_text())
    for record, root in ((printed, folder), (stored, Path())):
        assert [row["budget"] for row in record["budgets"]] == [*BUDGETS]
        assert record["refused"] == []
        for row in record["budgets"]:
            assert row["difference"]["images"] == 100
            weights = root / "results" / row["budget"] / "weights.safetensors"
            assert row["files"]["weights"] == str(weights)


def test_every_phase_of_every_budget_reports_its_progress(finished: Finished) -> None:
    folder, _, _, events = finished
    last = {event.phase: event for event in events}
    for phase in ("budget check", "selection", "candidate training", "export"):
        assert {f"{phase}, {budget}" for budget in BUDGETS} <= set(last)
        assert phase not in last
    assert {"latency table", "MasterNet training", "trials"} <= set(last)
    assert all(event.done == event.total for event in last.values()), last
    assert "selection, 0.7x" in json.loads((folder / "seconds.json").read_text())


def test_one_budget_has_the_files_and_the_keys_of_always(tmp_path: Path) -> None:
    """Also where it is given as a list."""
    for name, asked in (("one", settings(budget="0.9x")), ("list", settings(budgets=["0.9x"]))):
        result, _ = run(asked, tmp_path / name)
        names = files(tmp_path / name)
        assert set(OF_BUDGET) <= names
        assert {f"results/{file}" for file in EXPORTED.values()} <= names
        assert not any(file.startswith(("budgets/", "results/0.9x")) for file in names)
        assert "budgets" not in (tmp_path / name / "study.toml").read_text()
        assert not {"budgets", "refused"} & set(result.to_json())
        assert result.budgets == {}
    assert files(tmp_path / "one") == files(tmp_path / "list")


def test_a_finished_study_repeats_nothing(study: Path, finished: Finished) -> None:
    again, lab = run(SearchSettings(**settings_at(study, None)), study)
    assert (lab.trainings, lab.trained, lab.trial_jobs, lab.exports) == (0, [], [], 0)
    for budget, before in finished[1].budgets.items():
        after = again.budgets[budget]
        assert after.selected == before.selected
        assert after.confirmed == before.confirmed
        assert after.difference == before.difference
        assert after.winner.by_metric() == before.winner.by_metric()
        assert after.warnings == before.warnings
        assert [path.name for path in after.files.values()] == [
            path.name for path in before.files.values()
        ]


def test_a_lost_export_is_made_again(study: Path) -> None:
    (study / "results/0.7x/network.onnx").unlink()
    _, lab = run(load_settings(study), study)
    assert (lab.trainings, lab.trained, lab.exports) == (0, [], 1)
    assert (study / "results/0.7x/network.onnx").exists()


def test_killed_again_and_again_it_finds_the_same(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (result, _), kills = run_with_kills(
        monkeypatch,
        ("save_json", "record"),
        7,
        lambda: run(settings(budgets=(BUDGETS[2], *BUDGETS[:2])), tmp_path / "study"),
    )
    assert kills > 5
    for budget, once in finished[1].budgets.items():
        assert result.budgets[budget].selected == once.selected
        assert [each.structure for each in result.budgets[budget].confirmed] == [
            each.structure for each in once.confirmed
        ]
    assert files(tmp_path / "study") == files(finished[0])


def test_a_new_budget_trains_only_what_is_missing(study: Path, finished: Finished) -> None:
    before = {path: path.read_bytes() for path in (study / "results/0.9x").iterdir()}
    asked = settings(budgets=["0.8x", "0.70x", "0.9x", "0.55x"])
    result, lab = run(asked, study)
    assert list(result.budgets) == ["0.9x", "0.8x", "0.7x", "0.55x"]
    assert (lab.trainings, lab.trial_jobs, lab.exports) == (0, [], 1)
    assert not set(lab.trained) & set(finished[2].trained)
    assert {path: path.read_bytes() for path in before} == before
    assert result.budgets["0.7x"].selected == finished[1].budgets["0.7x"].selected
    confirmed = {each.structure for each in result.budgets["0.8x"].confirmed}
    smaller = {each.structure for each in result.budgets["0.7x"].confirmed}
    assert smaller <= confirmed, "what meets 0.7x meets 0.8x as well"
    assert load_settings(study).budgets == ("0.55x", "0.9x", "0.7x", "0.8x")


def test_one_budget_becomes_one_of_several(tmp_path: Path) -> None:
    alone, _ = run(settings(budget="0.9x"), tmp_path)
    weights = (tmp_path / "winner.safetensors").read_bytes()
    result, lab = run(settings(budgets="0.55x,0.90x"), tmp_path)
    assert list(result.budgets) == ["0.9x", "0.55x"]
    assert result.budgets["0.9x"].selected == alone.selected
    assert not {each.structure for each in alone.confirmed} & set(lab.trained)
    assert (lab.trainings, lab.trial_jobs) == (0, [])
    assert (tmp_path / "budgets/0.9x/winner.safetensors").read_bytes() == weights
    names = files(tmp_path)
    assert not names & {*OF_BUDGET, *(f"results/{name}" for name in EXPORTED.values())}
    assert {f"results/0.9x/{name}" for name in EXPORTED.values()} <= names


def test_killed_while_it_becomes_one_of_several_a_study_has_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = run(settings(budget="0.9x"), tmp_path)

    def killed(folder: ResumableFolder, text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ResumableFolder, "write_settings", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings(budgets="0.9x,0.55x"), tmp_path)
    again, lab = run(load_settings(tmp_path), tmp_path)
    assert again.selected == alone.selected
    assert (lab.trainings, lab.trained) == (0, [])
    more, _ = run(settings(budget="0.9x", trials_per_super_block=6), tmp_path)
    result, lab = run(settings(budgets="0.9x,0.55x", trials_per_super_block=6), tmp_path)
    assert result.budgets["0.9x"].selected == more.selected, "not that of the killed run"


def test_a_budget_with_results_stays(study: Path) -> None:
    with pytest.raises(StudyError, match=r"has results for 0.55x and 0.7x, so give the budgets"):
        run(settings(budgets="0.9x,0.8x"), study)
    with pytest.raises(StudyError, match=r"--budgets 0.55x,0.9x,0.7x"):
        run(settings(budget="0.9x"), study)
    with pytest.raises(StudyError, match="seed: 0 in the study, 1 asked"):
        run(settings(seed=1), study)


def test_more_trials_select_anew_for_every_budget(study: Path, finished: Finished) -> None:
    result, lab = run(settings(trials_per_super_block=6), study)
    assert list(result.budgets) == [*BUDGETS]
    assert result.trials_done == 14
    assert (lab.trainings, len(lab.trial_jobs), lab.exports) == (0, 1, 3)
    assert not set(lab.trained) & set(finished[2].trained), "no candidate was trained twice"


def test_a_failed_trial_is_not_tried_again_after_the_first_selection(tmp_path: Path) -> None:
    """Every budget is selected from the same trials."""

    class Failing(CountingLaboratory):
        def run_trials(self, job: Any, groups: Any, workers: Workers) -> Iterator[TrialResult]:
            fails = True
            for result in super().run_trials(job, groups, workers):
                if fails and not result.trial.is_control(job.master):
                    fails = False
                    yield TrialResult(result.trial, "failed", reason="out of memory")
                else:
                    yield result

    lab = Failing()
    result = search(settings(), tmp_path, lab)
    assert (result.trials_done, result.trials_failed, len(lab.trial_jobs)) == (9, 1, 1)


def test_a_budget_that_nothing_meets_is_refused_and_the_others_are_made(tmp_path: Path) -> None:
    result, lab = run(settings(budgets="0.01x,0.9x,0.55x"), tmp_path)
    assert list(result.budgets) == ["0.9x", "0.55x"]
    assert list(result.refused) == ["0.01x"]
    assert "no structure of the design space meets" in result.refused["0.01x"]
    assert lab.exports == 2
    assert result.to_json()["refused"][0]["budget"] == "0.01x"
    assert StudyReader(tmp_path).at_budget("0.01x").refusal() == result.refused["0.01x"]
    snapshot = Snapshot.read(tmp_path)
    assert snapshot.missing() == []
    (state,) = state_sentences(snapshot)
    assert state.startswith("This study is finished, but 1 budget is not met: 0.01x (no structure")
    other, lab = run(settings(budgets="0.9x,0.55x"), tmp_path)
    assert (other.refused, lab.trainings, lab.trained, lab.exports) == ({}, 0, [], 0)


def test_a_search_whose_budgets_are_all_refused_trains_nothing(tmp_path: Path) -> None:
    lab = CountingLaboratory()
    with pytest.raises(InfeasibleBudgetError, match="give a larger budget"):
        search(settings(budgets="0.01x,0.02x"), tmp_path, lab)
    assert lab.trainings == 0
    result, _ = run(settings(budgets="0.9x,0.02x"), tmp_path)
    assert (list(result.budgets), list(result.refused)) == (["0.9x"], ["0.02x"])


def test_budgets_in_ms_and_in_x_are_ordered_by_latency(tmp_path: Path) -> None:
    master_ms = DEVICE.network_ms(settings().structure) / 8
    texts = ["0.6x", f"{0.7 * master_ms:.6g}ms", f"{1000 * 0.8 * master_ms:.6g} us"]
    result, _ = run(settings(budgets=texts), tmp_path)
    assert list(result.budgets) == texts[::-1]
    assert (tmp_path / "results" / texts[2].replace(" ", "") / "result.json").exists()
    assert all(each.selected.margin >= 0 for each in result.budgets.values())


@pytest.mark.parametrize(
    ("text", "name"),
    [("0.5x", "0.5x"), (" 0.5 x", "0.5x"), (".5x", "0.5x"), ("+1E-1ms", "1E-1ms"),
     ("150µs", "150us"), ("2.x", "2.x")],
)  # fmt: skip
def test_the_folder_of_a_budget_has_its_text(text: str, name: str) -> None:
    assert layout.budget_folder(text) == name
    assert layout.at_budget(text, "selected.json") == f"budgets/{name}/selected.json"
    assert layout.at_budget(text, "results/result.json") == f"results/{name}/result.json"
    assert layout.at_budget(text, "trials.sqlite") == "trials.sqlite"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budgets": "0.5x,0.50x"}, r"must name each budget once, not 0\.5x and 0\.50x"),
        ({"budgets": "0.15ms,150us"}, r"must name each budget once, not 0\.15ms and 150us"),
        ({"budgets": "0.5x,half"}, "budget must be a number in ms or us per image"),
        ({"budgets": "0.5x,,0.3x"}, "budget must be a number in ms or us per image"),
        ({"budgets": "0.5x,nanx"}, "budget must be above 0 and finite, not nanx"),
        ({"budgets": ["0.5x", 0.3]}, "budget must be a text such as 0.2ms, not 0.3"),
        ({"budgets": ""}, "budgets must name at least one budget, such as 0.8x,0.5x"),
        ({"budgets": []}, "budgets must name at least one budget, such as 0.8x,0.5x"),
        ({"budgets": 5}, "budgets must be a list such as 0.8x,0.5x, not 5"),
        ({"budgets": "0.5x,0.3x", "budget": "0.5x"}, "give budget or budgets, not both"),
        ({"budgets": "0.5x", "budget": "0.5x"}, "give budget or budgets, not both"),
        ({"budgets": [f"0.{n}x" for n in range(10, 30)]}, "budgets must be at most 16"),
        ({"budgets": "0.5x,0.3x", "rounds": 2}, "rounds must be 1 with several budgets, not 2"),
        ({}, "setting budget must be given, or several budgets as budgets"),
    ],
)
def test_a_wrong_list_of_budgets_is_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(GenetsError, match=message):
        SearchSettings(data="digits", **given)


def test_several_budgets_replace_the_one_of_a_layer_below(tmp_path: Path) -> None:
    Study.create_or_resume(tmp_path, lab_settings(rounds=1)).close()
    chosen = settings_at(tmp_path, None, {"budgets": ["0.9x", "0.5x"]})
    assert "budget" not in chosen
    assert SearchSettings(**chosen).all_budgets == ("0.9x", "0.5x")
    both = settings_at(tmp_path, None, {"budget": "0.9x"}, {"budgets": "0.9x,0.5x"})
    assert SearchSettings(**both).budgets == ("0.9x", "0.5x")
    again = settings_at(tmp_path, None, {"budgets": "0.9x,0.5x"}, {"budget": "0.4x"})
    assert SearchSettings(**again).all_budgets == ("0.4x",)
    with pytest.raises(SettingsError, match="not both"):
        SearchSettings(**settings_at(tmp_path, None, {"budget": "0.9x", "budgets": "0.9x,0.5x"}))


def test_settings_with_several_budgets_are_stored_and_read() -> None:
    asked = settings()
    assert SearchSettings.from_toml(asked.to_toml()) == asked
    assert asked.budget is None


def test_select_uses_the_candidates_of_all_budgets(finished: Finished, study: Path) -> None:
    model = Snapshot.read(study).model
    assert model is not None
    (selected,) = select_top(study, "0.65x", 1, lab=CountingLaboratory())
    assert selected.high_ms <= selected.budget_ms
    prediction = model.predict(selected.structure)
    assert selected.predicted_accuracy == pytest.approx(prediction.value)
    assert {each.structure for each in Snapshot.read(study).confirmed} == set(finished[2].trained)


@pytest.mark.usefixtures("plain")
def test_the_page_shows_every_budget(study: Path, finished: Finished) -> None:
    from genets.report.study.page import study_page

    snapshot = Snapshot.read(study)
    html = study_page(snapshot, "today")
    assert "<h2>Budgets</h2>" in html
    for budget, result in finished[1].budgets.items():
        for title in ("Result", "Candidates", "The winner beside the MasterNet"):
            assert f"<h2>{title}, {budget}</h2>" in html
        assert str(result.selected.structure) in html
        assert f"({budget})" in html
    assert "<h2>State</h2>" not in html
    assert f"{shlex.quote(str(study / 'results/0.9x'))} photo.jpg" in html
    record = study_record(snapshot)
    check_keys("report, several budgets", {"page": "", **record})
    assert [row["budget"] for row in record["budgets"]] == [*BUDGETS]
    assert record["warnings"] == list(finished[1].warnings)
    assert record["finished"]
    parts = finished_parts(study)
    assert parts[-2:] == [f"{len(finished[2].trained)} candidates trained", "3 winners trained"]


@pytest.mark.usefixtures("plain")
def test_the_page_of_an_unfinished_study_names_the_budget(study: Path) -> None:
    from genets.report.study.page import study_page

    for name in OF_BUDGET:
        (study / "budgets/0.55x" / name).unlink()
    (study / "results/0.55x/result.json").unlink()
    snapshot = Snapshot.read(study)
    assert snapshot.missing() == [
        "no structure has been selected yet for 0.55x",
        "the winner for 0.55x has not been trained and exported yet",
    ]
    html = study_page(snapshot, "today")
    assert "Unfinished: no structure has been selected yet for 0.55x" in html
    assert "not selected yet" in html
    assert "This command continues the search" in html


def test_the_command_shows_all_budgets_and_refuses_with_status_3(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_closed_form(monkeypatch, CountingLaboratory())
    shown = invoke("search", "--out", study, "--workers", 1)
    assert shown.exit_code == 0, shown.output
    for part in ("MasterNet", *BUDGETS, "results/0.55x", "10 done"):
        assert part in shown.stdout
    asked = ",".join(("0.01x", *BUDGETS))
    refused = invoke("search", "--out", study, "--budgets", asked, "--workers", 1, "--json")
    assert refused.exit_code == 3
    printed = json.loads(refused.stdout)
    check_keys("search, several budgets", printed)
    assert [row["budget"] for row in printed["refused"]] == ["0.01x"]
    assert [row["budget"] for row in printed["budgets"]] == [*BUDGETS]
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("genets: 1 budget is not met: 0.01x (no structure of the design space")
    both = invoke("search", "--out", study, "--budgets", "0.9x,0.5x", "--budget", "0.5x")
    fails(both, "give budget or budgets, not both")


@pytest.mark.parametrize(("name", "content"), [("result", "{}"), ("result", "["), ("refused", "7")])
def test_a_damaged_file_of_a_budget_is_one_sentence(study: Path, name: str, content: str) -> None:
    path = study / ("results" if name == "result" else "budgets") / "0.7x" / f"{name}.json"
    path.write_text(content)
    with pytest.raises(StudyError, match=rf"{name}\.json is damaged"):
        Snapshot.read(study)

"""The page of a study, at every stage of it, and with names that are no friends."""

import errno
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from study_lab import DEVICE, make_study

from command_line import fails, invoke
from genets.core.errors import StudyError
from genets.nas.snapshot import Snapshot
from genets.nas.study.class_counts import ClassCounts
from genets.nas.study.records import TrainedCandidate
from genets.report import html as html_page
from genets.report.study import page as page_file
from genets.report.study.candidates import candidates_section
from genets.report.study.classes import classes_section
from genets.report.study.facts import state_sentences, study_record
from genets.report.study.headline import headline
from genets.report.study.page import study_page
from genets.report.wording import difference_text, noisy_score_text
from genets.training import Metric, Score
from genets.training.predictions import PairedDifference, Predictions

EVIL = "<script>alert('x')<"  # a folder name, so without a slash


@pytest.fixture(scope="module", autouse=True)
def _plain():
    """Without the script library, which takes seconds to bundle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_page, "_library", lambda: "")
        yield


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study") / "mine")


@pytest.fixture(scope="module")
def html(selected, _plain):
    return study_page(Snapshot.read(selected), "today")


def specs_of(html):
    found = re.search(r"<script>const specs = (.*);\nspecs\.forEach", html)
    return json.loads(found.group(1)) if found else []


def sections(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def values(html, *fields):
    """The different rows of all charts that have these fields."""

    def within(spec):
        yield from spec.get("data", {}).get("values", [])
        for layer in spec.get("layer", []):
            yield from within(layer)

    rows = {json.dumps(row): row for spec in specs_of(html) for row in within(spec)}
    return [row for row in rows.values() if all(field in row for field in fields)]


def test_everything_is_there(selected, html):
    snapshot = Snapshot.read(selected)
    assert sections(html) == [
        "State", "Result", "Next step", "Warnings", "The winner beside the MasterNet",
        "Frontier: cpu, torch, fp32, batch 8, 1 thread", "Trials", "Pseudo-gradients",
        "Predicted against measured", "Conditions",
    ]  # fmt: skip
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(captions) == len(specs_of(html)) == 9
    marks = {row["structure"]: row for row in values(html, "network", "latency", "score")
             if row["network"] != "frontier"}  # fmt: skip
    assert set(marks) == {str(snapshot.master), str(snapshot.selected.structure)}
    for structure, known in snapshot.targets[0].measured.items():
        assert marks[str(structure)]["ms"] == pytest.approx(known.network.ms_per_image)
        assert known.network.ms_per_image == pytest.approx(DEVICE.network_ms(structure) / 8)
    assert marks[str(snapshot.master)]["score"] == pytest.approx(0.5)
    trials = values(html, "minutes", "tried")
    assert len(trials) == snapshot.planned == 4 * 8
    assert max(row["minutes"] for row in trials) == pytest.approx(len(trials) * 2 / 60)
    assert len(values(html, "observed", "tried")) == len(trials)
    assert {row["series"] for row in values(html, "predicted", "measured", "series")} == {
        "held out of the table", "candidate"}  # fmt: skip
    for condition in ("protocol genets-1", "torch 2", "on 6 networks", "500 validation images"):
        assert condition in html


def test_the_frontier_ascends_and_is_the_models(html):
    line = [row for row in values(html, "network", "latency")
            if row["network"] == "frontier"]  # fmt: skip
    assert [row["ms"] for row in line] == sorted(row["ms"] for row in line)
    losses = [row["score"] for row in line]
    assert losses == sorted(losses, reverse=True)
    assert all(row["low"] < row["score"] < row["high"] for row in line)


@pytest.mark.parametrize(
    ("upto", "missing", "shown"),
    [
        ("settings", "the latency table has not been measured yet", ["The MasterNet"]),
        ("table", "the MasterNet has not been trained yet", ["Predicted against measured"]),
        ("master", "32 of 32 trials have not ended", ["The MasterNet"]),
        ("trials", "no structure has been selected yet", ["Pseudo-gradients", "Trials"]),
    ],
)
def test_an_unfinished_study_says_what_is_missing(tmp_path, upto, missing, shown):
    folder = make_study(tmp_path / "study", upto)
    before = {path.name for path in folder.rglob("*")}
    html = study_page(Snapshot.read(folder), "today")
    assert f"This study is unfinished: {missing if upto != 'table' else ''}" in html
    assert missing in html
    assert set(shown) <= set(sections(html))
    assert {path.name for path in folder.rglob("*")} - before <= {
        "trials.sqlite-wal", "trials.sqlite-shm"}  # fmt: skip


CLASS_NAMES = tuple("0123456789")


def finish(folder):
    """Write the result of a search: of 200 images, the MasterNet recognises 180, the winner 171.

    The winner takes class 9 for class 3 in nearly all of its images.
    """
    labels = np.arange(200) % 10
    master, winner = labels.copy(), labels.copy()
    master[:20] = (labels[:20] + 1) % 10
    winner[labels == 9] = 3
    winner[:10] = (labels[:10] + 1) % 10
    predictions = (Predictions(labels, classes) for classes in (master, winner))
    counts = ClassCounts.count(CLASS_NAMES, *predictions)
    scores = {"master": Score(0.9, 0.3).to_json(), "winner": Score(0.855, 0.4).to_json()}
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results" / "test.json").write_text(json.dumps(counts.to_json()))
    (folder / "results" / "result.json").write_text(json.dumps(scores))
    return counts


def test_a_finished_study_begins_with_its_result(tmp_path):
    folder = make_study(tmp_path / "study", "selected")
    counts = finish(folder)
    snapshot = Snapshot.read(folder)
    html = study_page(snapshot, "today")
    assert sections(html)[:4] == ["Result", "Next steps", "Warnings", "Classes"]
    heading = re.search(r"<h1>(.*?)</h1><p class=\"quiet\">(.*?)</p>", html)
    selected, difference = snapshot.selected, counts.difference
    assert difference.top1 == pytest.approx(-0.045)
    assert heading.group(1) == (
        f"{selected.master_ms / selected.measured_ms:.1f} times as fast as the MasterNet, "
        f"4.5 points less accurate (95 % interval {100 * difference.low:.1f} to "
        f"+{100 * difference.high:.1f} points); "
        f"{selected.measured_ms:.3f} ms per image, within the budget of {selected.budget_ms:.3f} ms"
    )
    assert "The MasterNet is the network that the search started from." in heading.group(2)
    assert "scored on the same 200 test images" in heading.group(2)
    assert f"genets export {folder / 'results'} --out deploy" in html
    assert f"genets.load(&quot;{folder / 'results'}&quot;)" in html


def test_a_loss_is_named_where_only_the_totals_are_stored(tmp_path):
    folder = make_study(tmp_path / "study", "selected")
    finish(folder)
    (folder / "results" / "test.json").unlink()
    text = headline(Snapshot.read(folder))
    assert ", 4.5 points less accurate (interval not stored);" in text


@pytest.mark.parametrize(
    ("top1", "low", "high", "text"),
    [
        (0.0, -0.01, 0.01, "as accurate (95 % interval -1.0 to +1.0 points)"),
        (-0.0004, -0.0104, 0.0096, "as accurate (95 % interval -1.0 to +1.0 points)"),
        (0.02, 0.008, 0.03, "2.0 points more accurate (95 % interval +0.8 to +3.0 points)"),
        (-0.02, -0.03, -0.008, "2.0 points less accurate (95 % interval -3.0 to -0.8 points)"),
        (-0.005, -0.012, 0.003, "0.5 points less accurate (95 % interval -1.2 to +0.3 points)"),
        (0.0, 0.0, 0.009, "as accurate (95 % interval +0.0 to +0.9 points)"),
        (0.0, -0.0004, 0.009, "as accurate (95 % interval +0.0 to +0.9 points)"),
    ],
)
def test_equal_accuracy_is_not_more_accurate(top1, low, high, text):
    assert difference_text(PairedDifference(top1, low, high, 200)) == text


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (Score(1.0, 0.1, 200), "100.00 (98.12 to 100.00) %"),
        (Score(0.0, 9.0, 20), "0.00 (0.00 to 16.11) %"),
        (Score(0.801, 0.5, 1000), "80.10 (77.51 to 82.46) %"),
        (Score(0.801, 0.5), "80.10%"),
        (Score(0.801, 0.5, 1000, 0.6, 20.0), "80.10 (77.51 to 82.46) %"),
        (None, "-"),
    ],
)
def test_an_accuracy_stands_with_both_ends_of_its_interval(score, text):
    assert noisy_score_text(score, Metric.TOP1) == text


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (Score(1.0, 0.1, 900, 1.0, 200.4), "100.00 (98.12 to 100.00) %"),
        (Score(0.9, 9.0, 900, 0.0, 20.0), "0.00 (0.00 to 16.11) %"),
        (Score(0.9, 9.0, 900, 0.5, 0.2), "50.00 (0.00 to 79.35) %"),
        (Score(0.9, 0.1, balanced_accuracy=0.8), "80.00%"),
        (Score(0.9, 0.1, 200), "-"),
    ],
)
def test_balanced_accuracy_has_the_interval_of_the_images_that_count(score, text):
    assert noisy_score_text(score, Metric.BALANCED_ACCURACY) == text


@pytest.mark.parametrize("metric", Metric)
def test_balanced_accuracy_is_on_the_page_where_it_is_the_metric(tmp_path, metric):
    folder = make_study(tmp_path / "study", "selected", metric=metric)
    finish(folder)
    html = study_page(Snapshot.read(folder), "today")
    expected = metric is Metric.BALANCED_ACCURACY
    assert ("test balanced accuracy" in html) == expected
    assert ("Balanced accuracy is the mean" in html) == expected
    assert f"predicted {metric.label}" in html


def test_classes_are_sorted_by_the_winners_score(tmp_path):
    folder = make_study(tmp_path / "study", "selected")
    finish(folder)
    _, table, figure = classes_section(Snapshot.read(folder)).blocks
    names = [row[0] for row in table.rows]
    assert sorted(names) == list(CLASS_NAMES)
    assert names[0] == "9"
    assert table.rows[0][1:4] == ["20", "0.0 (0.0 to 16.1)", "90.0 (69.9 to 97.2)"]
    assert table.rows[0][4].text == "3 (19 images)"
    shares = [float(row[2].partition(" ")[0]) for row in table.rows]
    assert shares == sorted(shares)
    squares = figure.spec()["data"]["values"]
    assert {"class": "9", "taken": "3", "share": 0.95, "shown": "95%"} in squares


def test_the_page_has_one_budget(tmp_path):
    """The winner was measured while the machine was slower than when the table was made."""
    folder = make_study(tmp_path / "study", "selected")
    record = json.loads((folder / "selected.json").read_text())
    slower = {name: 1.3 * record[name] for name in ("budget_ms", "measured_ms", "low_ms", "high_ms",
                                                    "master_ms")}  # fmt: skip
    (folder / "selected.json").write_text(json.dumps(record | slower))
    snapshot = Snapshot.read(folder)
    html = study_page(snapshot, "today")
    budget = f"{snapshot.selected.budget_ms:.4g}"
    assert f"The dashed line is the budget, {budget} ms" in html
    assert f"The budget is {budget} ms per image (0.8x: 0.8 times" in html
    assert f"<dd>{budget} ms per image (0.8x)</dd>" in html
    winner = next(row for row in values(html, "network", "latency") if row["network"] == "winner")
    assert winner["ms"] == pytest.approx(snapshot.selected.measured_ms)


@pytest.mark.parametrize(
    ("from_scratch", "length"),
    [(False, "77 steps or more with inherited weights"), (True, "9 epochs")],
)
def test_the_page_says_how_long_trials_are_trained(tmp_path, from_scratch, length):
    """Trials that inherit weights ignore their epochs."""
    training = {"epochs": 9, "feature_steps": 77}
    folder = make_study(tmp_path / "study", from_scratch=from_scratch, trial_training=training)
    html = study_page(Snapshot.read(folder), "today")
    assert f"16 pixels; trials of {length}, inside a MasterNet that was trained for" in html


def test_the_page_says_how_wide_the_interval_of_a_budget_in_x_is(html):
    assert (
        "at least twice as wide as the interval of the ratio to the MasterNet, and reaches on a "
        "calm CPU at least 3 % to each side with one thread, and 4 % with several threads" in html
    )


def test_a_study_in_use_can_be_reported(selected):
    from genets.nas.study.study import Study

    with Study.open(selected):
        assert Snapshot.read(selected).selected is not None


def test_a_study_in_a_folder_that_cannot_be_written_can_be_reported(tmp_path):
    folder = make_study(tmp_path / "study")
    # SQLite makes these beside a database, even to read; here they cannot be made.
    log, shared = (folder / f"trials.sqlite-{name}" for name in ("wal", "shm"))
    log.symlink_to(tmp_path / "nowhere" / "log")
    shared.symlink_to(tmp_path / "nowhere" / "shared")
    assert len(Snapshot.read(folder).results) == 32


def test_trials_that_only_the_log_of_the_database_has_are_read(tmp_path):
    from genets.nas.study.study import Study

    folder = make_study(tmp_path / "study")
    (last, *_) = Snapshot.read(folder).results
    again = replace(last, trial=replace(last.trial, repeat=99))
    with Study.open(folder) as study:
        study.record(again)
        assert (folder / "trials.sqlite-wal").stat().st_size > 0
        results = Snapshot.read(folder).results
    assert len(results) == 33
    assert again in results


def test_candidates_stand_with_their_latency_at_the_pace_of_their_own_measuring(tmp_path):
    folder = make_study(tmp_path / "study")
    snapshot = Snapshot.read(folder)
    unknown = snapshot.settings.structure.with_resolution(20)
    both = [
        TrainedCandidate(s, "done", 3, 0.8, 0.5) for s in (snapshot.selected.structure, unknown)
    ]
    (folder / "confirmed.json").write_text(json.dumps([one.to_json() for one in both]))
    table, _ = candidates_section(Snapshot.read(folder)).blocks
    ms, master_ms = snapshot.selected.measured_ms, snapshot.selected.master_ms
    assert table.header[2:5] == ("ms per image", "times the MasterNet", "noise")
    measured = [f"{ms:.4f}", f"{ms / master_ms:.3f}", "noisy"]
    assert [row[2:5] for row in table.rows] == [measured, ["-", "-", ""]]
    assert table.strong == {0}


@pytest.mark.parametrize(
    ("from_scratch", "candidates", "controls"),
    [
        (True, "candidates were trained from scratch like the winner and", "with fresh weights;"),
        (False, "candidates inherited weights from the MasterNet", "own super-block; the other"),
    ],
)
def test_the_page_says_whether_weights_are_inherited(tmp_path, from_scratch, candidates, controls):
    folder = make_study(tmp_path / "study", from_scratch=from_scratch)
    best = Snapshot.read(folder).selected.structure
    row = TrainedCandidate(best, "done", 3, 0.8, 0.5).to_json()
    (folder / "confirmed.json").write_text(json.dumps([row]))
    html = study_page(Snapshot.read(folder), "")
    assert candidates in html
    assert controls in html


def test_a_search_that_failed_says_why(tmp_path):
    sentence = "the MasterNet did not learn: 10 % <i>are right</i>"
    html = study_page(Snapshot.read(make_study(tmp_path / "a", "table", failure=sentence)), "")
    assert (
        "The last run of this search stopped: the MasterNet did not learn: 10 % &lt;i&gt;" in html
    )


def test_a_finished_study_whose_last_run_failed_says_so(tmp_path, monkeypatch):
    snapshot = Snapshot.read(make_study(tmp_path / "a", "table", failure="the disk is full"))
    monkeypatch.setattr(Snapshot, "missing", lambda self: [])
    assert state_sentences(snapshot) == [
        "The last run of this search stopped: the disk is full.",
        "The results are those of an earlier run, which finished.",
    ]


def test_a_page_that_cannot_be_written_names_the_option(selected, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(page_file, "write_study_page", fail)
    fails(invoke("report", selected), "Read-only file system; give another place with --out")


def test_failed_trials_have_their_reasons(tmp_path):
    folder = make_study(tmp_path / "some", "trials", lambda trial: trial.index == 1)
    html = study_page(Snapshot.read(folder), "")
    assert "8 trials failed and are left out." in html
    assert "&lt;img src=x&gt; out of memory" in html
    assert "8 of 32 trials failed and are left out" in html
    snapshot = Snapshot.read(make_study(tmp_path / "all", "trials", lambda trial: True))
    html = study_page(snapshot, "")
    assert "all 32 trials that ended have failed" in html
    assert "no accuracy model can be fitted: there is no finished trial" in html
    assert study_record(snapshot)["accuracy_model"] is None


def test_names_are_no_markup(tmp_path):
    data = tmp_path / EVIL / "photos"
    data.mkdir(parents=True)
    folder = make_study(tmp_path / f"{EVIL}study", data=str(data), failure=f"{EVIL}/script>")
    html = study_page(Snapshot.read(folder), EVIL)

    class Reader(HTMLParser):
        tags: list[str] = []  # noqa: RUF012
        text = ""

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)
            assert not [name for name, _ in attributes if name.startswith("on")]

        def handle_data(self, data):
            self.text += data

    reader = Reader()
    reader.feed(html)
    assert reader.tags.count("script") == 2  # the library, and the charts
    assert not {"img", "i", "b"} & set(reader.tags)
    assert reader.text.count(EVIL) >= 6  # title, heading, study, data, state, date
    assert "<script>alert" not in html
    assert not re.search(r'(src|href)="', html)


@pytest.mark.parametrize("changes", [{"metric": "top1"}, {"regression": "paper"}])
def test_other_settings(tmp_path, changes):
    snapshot = Snapshot.read(make_study(tmp_path / "study", **changes))
    if changes.get("metric") == "top1":
        assert snapshot.model.effects.log_errors.images == 500
        prediction = snapshot.model.predict(snapshot.selected.structure)
        assert prediction.interval()[1] < 1
    html = study_page(snapshot, "")
    if "metric" in changes:
        assert "predicted top-1, %" in html
        assert all(row["score"] > 50 for row in values(html, "minutes", "score"))
    else:
        assert "which has no error bars" in html
        assert "Accuracy of trials: leave one out" not in html


def test_a_damaged_file_is_one_sentence(tmp_path):
    folder = make_study(tmp_path / "study")
    (folder / "trials.sqlite").write_bytes(b"no database at all" * 99)
    with pytest.raises(StudyError, match=r"trials\.sqlite is damaged or foreign"):
        Snapshot.read(folder)
    (folder / "selected.json").write_text("[]")
    (folder / "trials.sqlite").unlink()
    with pytest.raises(StudyError, match=r"selected\.json is damaged"):
        Snapshot.read(folder)


def test_the_command(selected, tmp_path):
    result = invoke("report", selected, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert f"page: {tmp_path / 'page.html'}" in result.stdout
    assert "This study is unfinished: the winner has not been trained" in result.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    printed = json.loads(invoke("report", selected, "--json").stdout)
    assert printed["page"] == str(selected / "report.html")
    assert printed["trials"] == {"planned": 32, "done": 32, "failed": 0}
    assert printed["accuracy_model"]["leave_one_out_rmse"] < 0.05
    assert not printed["finished"]


@pytest.mark.parametrize(
    ("study", "out", "sentence"),
    [
        ("none", "a.html", "is not a study folder"),
        (None, "no/such/a.html", "no/such/a.html': its folder does not exist"),
        (None, ".", "': it is a folder"),
    ],
)
def test_faults(selected, tmp_path, study, out, sentence):
    result = invoke("report", tmp_path / study if study else selected, "--out", tmp_path / out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr

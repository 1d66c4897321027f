"""The `--out` folders of all commands: recognised as results, also where a command was stopped."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from results_lab import write_results

from command_line import fails, invoke
from genets.analysis.comparison.rows import Comparison, save_rows
from genets.core.output_folder import MARKER
from genets.data import load_data
from genets.latency.timing import clock

pytestmark = pytest.mark.usefixtures("no_pictures")

NETWORK = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @16"
OTHER = "Conv3x8s2 XX3x16s2 DW3x16r2 Conv1x16 @16"
QUICK = ("--threads", 1, "--batch-size", 1)
COMMANDS = {
    "search": ("--data", "digits", "--budget", "0.5x", "--master", NETWORK, *QUICK),
    "search --compare-masters": (
        "--data", "PHOTOS", "--budget", "0.5x", "--compare-masters", f"{NETWORK},{OTHER}",
        "--master-epochs", 2,
    ),
    "train": (NETWORK, "--data", "digits", "--epochs", 1),
    "eval": ("RESULTS", "--data", "digits", *QUICK),
    "export": ("RESULTS", *QUICK),
    "compare": (NETWORK, *QUICK, "--time-limit", 0.02),
    "profile": ("--network", NETWORK, "--sweep", 1, "--width", 16, "--ratio", 1,
                "--block-resolution", 4, "--threads", 1, "--time-limit", 0.02),
    "profile --table": (NETWORK, "--num-classes", 2, *QUICK),
    "rank": (NETWORK,),
}  # fmt: skip
QUICK_COMMANDS = ("eval", "export", "compare", "rank")


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    for name in ("cat", "dog"):
        for number in range(6):
            write_image(tmp_path / "photos" / name / f"{number}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def quick_clock(monkeypatch):
    for name, seconds in (("WARM_UP_S", 0.01), ("WARM_UP_LIMIT_S", 0.02), ("REFILL_CACHES_S", 0)):
        monkeypatch.setattr(clock, name, seconds)


@pytest.fixture
def run_command(photos, tmp_path):
    """Runs a command whose --out is `photos/out`."""
    write_results(tmp_path / "results")
    texts = {"PHOTOS": photos, "RESULTS": tmp_path / "results"}

    def run(command, *more):
        words = [texts.get(word, word) for word in COMMANDS[command]]
        name, *options = command.split()
        if options:
            words = [*options, *words] if name == "profile" else words
        return invoke(name, *words, "--out", photos / "out", *more)

    return run


def check_left_out(photos, before):
    write_image(photos / "out" / "curves.png", 5)
    data = load_data(photos, 8)
    assert data.class_names == ("cat", "dog")
    assert data.fingerprint == before.fingerprint
    assert "1 folder with results of genets (out)" in data.description


@pytest.mark.parametrize("command", COMMANDS)
def test_the_folder_of_a_stopped_command_is_left_out_of_the_data(
    photos, run_command, monkeypatch, command
):
    """The command is stopped before it writes a second file."""
    before = load_data(photos, 8)
    replace, written = os.replace, []

    def stop_at_second(source, target):
        if Path(target).is_relative_to(photos / "out"):
            written.append(target)
            if len(written) == 2:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop_at_second)
    result = run_command(command)
    assert result.exit_code == 130, result.output
    monkeypatch.undo()
    check_left_out(photos, before)


@pytest.mark.parametrize("command", QUICK_COMMANDS)
def test_the_folder_of_a_finished_command_is_left_out_of_the_data(photos, run_command, command):
    before = load_data(photos, 8)
    result = run_command(command)
    assert result.exit_code == 0, result.output
    check_left_out(photos, before)
    (photos / "out" / MARKER).unlink()  # as an older genets wrote it
    check_left_out(photos, before)


def test_the_names_of_splits_are_allowed_for_results(photos):
    run = photos / "training"
    train = ("train", NETWORK, "--data", photos, "--epochs", 1, "--batch-size", 4,
             "--out", run)  # fmt: skip
    score = ("eval", run / "results", "--data", photos, *QUICK, "--out", photos / "evaluation")
    before = load_data(photos, 8)
    for command in (train, train, score, score):
        result = invoke(*command)
        assert result.exit_code == 0, result.output
    data = load_data(photos, 8)
    assert data.fingerprint == before.fingerprint
    assert "2 folders with results of genets (evaluation, training)" in data.description


@pytest.mark.parametrize(
    "name", ["rows.json", "rows-by-batch-size.json", "rows-by-cost.json", "rows-blocks.json"]
)
def test_rows_show_that_an_unmarked_folder_holds_results(photos, name):
    """An older genets made no mark, and was stopped."""
    before = load_data(photos, 8)
    (photos / "out").mkdir()
    save_rows(Comparison(), photos / "out" / name)
    check_left_out(photos, before)


def test_an_empty_class_folder_of_a_user_is_not_marked(photos, run_command):
    (photos / "out").mkdir()
    assert run_command("rank").exit_code == 0
    for path in (photos / "out").iterdir():
        path.unlink()
    write_image(photos / "out" / "0.png", 3)
    write_image(photos / "out" / "1.png", 4)
    write_image(photos / "out" / "2.png", 5)
    assert load_data(photos, 8).class_names == ("cat", "dog", "out")


def test_a_folder_with_other_files_is_not_marked(photos, run_command):
    (photos / "out").mkdir()
    (photos / "out" / "notes.txt").write_text("mine")
    assert run_command("rank").exit_code == 0
    assert not (photos / "out" / MARKER).exists()


WORK = {
    "search": "genets.nas.search.run_search",
    "search --compare-masters": "genets.nas.image_loading.load_data",
    "train": "genets.training.train_network.load_images",
    "eval": "genets.cli.networks.load_network",
    "export": "genets.cli.networks.load_network",
    "compare": "genets.analysis.find_networks",
    "profile": "genets.analysis.profile.profile.profile",
    "profile --table": "genets.nas.latencies.tables.table_ahead",
    "rank": "genets.cli.rank._rank_all",
}
"""The function with which a command begins its work."""


@pytest.mark.parametrize("command", WORK)
def test_a_file_in_place_of_the_folder_is_refused_before_the_work(
    photos, run_command, monkeypatch, command
):
    (photos / "out").write_text("mine")
    began = []
    monkeypatch.setattr(WORK[command], lambda *words, **options: began.append(words))
    sentence = fails(run_command(command), f"cannot write '{photos / 'out'}': ", "is a file")
    assert not began
    assert "kept" not in sentence
    assert (photos / "out").read_text() == "mine"


@pytest.mark.parametrize("command", [*WORK, "select", "report"])
def test_the_home_of_the_user_is_meant_by_a_tilde(
    photos, run_command, monkeypatch, tmp_path, command
):
    """A shell leaves `~` in `--out=~/out`."""
    monkeypatch.setenv("HOME", str(photos))
    monkeypatch.chdir(tmp_path)
    (photos / "out").write_text("mine")
    if command in COMMANDS:
        result = run_command(command, "--out=~/out")
        place = photos / "out"
    else:
        study = Path(__file__).parents[1] / "data" / "stored_study"
        words = ("--budget", "0.5x") if command == "select" else ()
        result = invoke(command, study, *words, "--out=~/out/below")
        place = photos / "out" / "below"
    fails(result, str(place))
    assert not (tmp_path / "~").exists()


def test_a_tilde_in_other_paths(tmp_path, run_command, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    predictions = run_command("eval", "--predictions=~/no/a.csv")
    fails(predictions, f"cannot write '{tmp_path / 'no' / 'a.csv'}'")
    fails(run_command("rank", "--checkpoint=~/no.pth"), str(tmp_path / "no.pth"))


MISTAKES = {
    "search": {"digits": "no-such-data"},
    "train": {NETWORK: "no-such-network"},
    "eval": {"digits": "no-such-data"},
    "export": {"RESULTS": "no-such-network"},
    "compare": {NETWORK: "no-such-network"},
    "profile": {NETWORK: "no-such-network"},
    "profile --table": {NETWORK: "no-such-network"},
    "rank": {NETWORK: "no-such-network"},
}
"""A wrong word for each command, in place of the right one."""


@pytest.mark.parametrize("command", MISTAKES)
def test_a_wrong_name_leaves_no_folder(photos, run_command, monkeypatch, command):
    wrong = MISTAKES[command]
    words = tuple(wrong.get(word, word) for word in COMMANDS[command])
    monkeypatch.setitem(COMMANDS, command, words)
    fails(run_command(command), "no-such")
    assert not (photos / "out").exists()


@pytest.mark.parametrize("command", ["search", "eval", "export", "compare", "profile",
                                     "profile --table"])  # fmt: skip
def test_a_device_that_is_not_here_leaves_no_folder(photos, run_command, monkeypatch, command):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = list(COMMANDS[command])
    at = words.index("--threads")
    monkeypatch.setitem(COMMANDS, command, words[:at] + words[at + 2 :])
    fails(run_command(command, "--device", "cuda"))
    assert not (photos / "out").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("folder", "it is a folder"), ("x" * 300, "File name too long"), ("no/a.csv", "not exist")],
)
def test_the_file_of_predictions_is_checked_before_scoring(
    tmp_path, run_command, monkeypatch, name, reason
):
    (tmp_path / "folder").mkdir()
    began = []
    monkeypatch.setattr("genets.cli.eval._evaluate", lambda *words: began.append(words))
    words = (tmp_path / "results", "--data", "digits", *QUICK)
    fails(invoke("eval", *words, "--predictions", tmp_path / name), "cannot write", reason)
    assert not began


def test_a_search_that_is_stopped_before_it_begins_keeps_nothing(run_command, monkeypatch):
    def stop(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("genets.nas.image_loading.load_data", stop)
    result = run_command("search")
    assert result.exit_code == 130
    assert "kept" not in result.stderr


@pytest.mark.parametrize("command", ["eval", "compare", "profile", "rank"])
def test_a_full_disk_costs_no_result(photos, run_command, monkeypatch, quick_clock, command):
    """The result is printed, and nothing that was not written is said to be kept."""
    replace = os.replace

    def full(source, target):
        if Path(target).suffix in (".html", ".csv", ".png"):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    result = run_command(command, "--json")
    assert result.exit_code == 2, result.output
    assert json.loads(result.stdout)
    assert result.stderr.splitlines()[-1].endswith(": No space left on device")


@pytest.mark.parametrize("command", ["compare", "profile"])
def test_rows_that_cannot_be_written_cost_no_result(
    photos, run_command, monkeypatch, quick_clock, command
):
    """The command measures everything, prints it, and fails at the end."""
    replace = os.replace

    def full(source, target):
        if Path(target).name.startswith("rows"):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match=r"rows.*json cannot be written \(No space left"):
        result = run_command(command, "--json")
    assert result.exit_code == 2
    rows = json.loads(result.stdout)["rows"]
    assert rows
    assert all(row["ms_per_image"] for row in rows)
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"genets: {photos / 'out' / 'rows'}")
    assert last.endswith("could not be written: No space left on device")
    assert "kept" not in result.stderr
    assert (photos / "out" / f"{'comparison' if command == 'compare' else command}.html").exists()

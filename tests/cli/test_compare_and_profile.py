"""`genets compare` and `genets profile` from options to files, with small networks."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from command_line import fails, invoke
from genets.core.errors import TargetError
from genets.latency import LatencyTable, Target
from genets.latency.engines import devices
from genets.latency.timing import clock
from genets.nas import search as nas_search
from genets.nas.latencies import tables as latency_tables
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.study import Study
from json_keys import check_keys

NETWORKS = ("Conv3x8s2 XX3x8s2 XX3x8 Conv1x8 @16", "Conv3x8s2 XX3x16s2 DW3x8r2 Conv1x8 @16")
COMPARE = ("compare", *NETWORKS, "--threads", 1, "--time-limit", 0.02, "--batch-size", 2,
           "--batch-size", 1)  # fmt: skip


@pytest.fixture
def quick_clock(monkeypatch):
    for name, seconds in (("WARM_UP_S", 0.01), ("WARM_UP_LIMIT_S", 0.02), ("REFILL_CACHES_S", 0)):
        monkeypatch.setattr(clock, name, seconds)


def test_compare_writes_everything_and_goes_on(plain, quick_clock, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "SystemActivity", lambda: None)  # no sample counts as interrupted
    out = tmp_path / "new [folder]"
    result = invoke(*COMPARE, "--reference", NETWORKS[1], "--out", out)
    assert result.exit_code == 0, result.output
    assert "x Conv3x8s2 XX3x16s..." in result.stdout
    assert "ms per image: cpu, torch, fp32, 1 thread" in result.stdout
    assert str(out / "comparison.html") in result.stdout
    assert NETWORKS[1].replace("&", "&amp;") in (out / "comparison.html").read_text()
    records = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))
    assert [(r["network"], r["batch_size"]) for r in records] == [
        (name, size) for name in NETWORKS for size in ("1", "2")
    ]
    before = (out / "rows.json").read_bytes()
    again = invoke(*COMPARE, "--out", out, "--json")
    assert (out / "rows.json").read_bytes() == before
    printed = json.loads(again.stdout)
    check_keys("compare", printed)
    assert printed == json.loads((out / "comparison.json").read_text())
    assert {"device", "versions", "protocol"} <= printed["conditions"].keys()
    assert [row["ms_per_image"] for row in printed["rows"]] == [
        float(record["ms_per_image"]) for record in records
    ]
    assert "samples_ms" not in printed["rows"][0]
    assert {row["reference"] for row in printed["rows"]} == {NETWORKS[1]}
    assert [row["times_reference"] for row in printed["rows"][2:]] == [1.0, 1.0]
    other = invoke(*COMPARE, "--reference", NETWORKS[0], "--out", out)
    fails(other, f"reference.name: {NETWORKS[1]} in the file, {NETWORKS[0]} here")


def test_compare_keeps_finished_rows_on_ctrl_c(quick_clock, tmp_path, monkeypatch):
    from genets.analysis.comparison import compare as comparison

    measure, runs = comparison.measure_interleaved, []

    def once(*words, **options):
        runs.append(words)
        if len(runs) > 1:
            raise KeyboardInterrupt
        return measure(*words, **options)

    monkeypatch.setattr(comparison, "measure_interleaved", once)
    result = invoke(*COMPARE, "--out", tmp_path)
    assert result.exit_code == 130
    assert "batch 1" in result.stdout
    assert "batch 2" not in result.stdout
    assert f"2 finished rows are kept in {tmp_path}" in result.stderr
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == 2


@pytest.mark.parametrize("measured", [0, 1])
def test_ctrl_c_says_what_is_kept_and_nothing_where_nothing_is(
    quick_clock, tmp_path, monkeypatch, measured
):
    from genets.analysis.comparison import compare as comparison

    measure, runs = comparison.measure_interleaved, []

    def stopped(*words, **options):
        runs.append(words)
        if len(runs) > measured:
            raise KeyboardInterrupt
        return measure(*words, **options)

    monkeypatch.setattr(comparison, "measure_interleaved", stopped)
    result = invoke(
        "profile", "--network", NETWORKS[0], "--sweep", 1, "--sweep", 2, "--width", 32,
        "--ratio", 1, "--out", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 130
    kept = "1 finished row is kept in" in result.stderr
    assert kept == bool(measured)


def test_a_row_that_says_why_it_failed_is_not_said_to_be_kept(tmp_path, monkeypatch):
    def stopped(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("genets.analysis.comparison.compare.measure_interleaved", stopped)
    result = invoke(*COMPARE, "--precision", "int8", "--precision", "fp32", "--out", tmp_path)
    assert result.exit_code == 130
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == 4
    assert "kept" not in result.stderr


def test_where_no_network_can_be_measured_it_fails_after_its_rows(plain, tmp_path, monkeypatch):
    def nothing(networks, *words, on_error, **options):
        for name in networks:
            on_error(name, TargetError(f"no operator for {name}"))
        return {}

    monkeypatch.setattr("genets.analysis.comparison.compare.measure_interleaved", nothing)
    result = invoke(*COMPARE, "--out", tmp_path)
    assert result.exit_code == 2
    assert f"no operator for {NETWORKS[0]}" in "".join(result.stdout.split("\n"))
    assert result.stderr.splitlines()[-1].startswith("genets: no network could be measured")
    assert (tmp_path / "comparison.html").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("compare",), ("name the networks to compare, or a set: paper34, modern, genets",)),
        (("compare", "genet_lite"), ("did you mean genet_light",)),
        (("compare", "--set", "moden"), ("did you mean modern",)),
        (("compare", "genet_light", "--reference", "genet_lite"), ("did you mean genet_light",)),
        (("compare", NETWORKS[0], "--batch-size", 0), ("batch_size must be an integer from 1",)),
        (("compare", NETWORKS[0], "--engine", "torhc"), ("unknown engine 'torhc'",)),
        (("compare", NETWORKS[0], "--precision", "fp31"), ("did you mean fp32",)),
        (("compare", NETWORKS[0], "--protocol", "genet-1"), ("did you mean genets-1",)),
        (("compare", NETWORKS[0], "--device", "cuda:77"), ("cuda:77",)),
        (("profile", "--ratio", 2), ("ratio must be above 0 and at most 1, not 2",)),
        (("profile", "--network", "genet_lite"), ("did you mean genet_light",)),
        (("profile", "--table", "master_small"), ("needs --out",)),
        (("profile", "--depth-change", 1), ("--depth-change needs --table MASTERNET",)),
        (("profile", "--num-classes", 10), ("--num-classes needs --table MASTERNET",)),
        (("profile", "--table", "no/such", "--out", "x"), ("no/such",)),
    ],
)
def test_faults(words, parts):
    fails(invoke(*words), *parts)


@pytest.mark.parametrize("command", [("compare", NETWORKS[0]), ("profile",)])
def test_a_file_in_place_of_the_folder(command, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    fails(invoke(*command, "--out", file), f"cannot write {str(file)!r}: {file} is a file")
    fails(invoke(*command, "--out", file / "below"), "below': Not a directory")
    assert file.read_text() == "mine"


def test_profile_writes_everything(plain, quick_clock, tmp_path):
    options = ("--threads", 1, "--time-limit", 0.01, "--sweep", 1, "--sweep", 2, "--width", 16,
               "--ratio", 1, "--resolution", 16, "--block-resolution", 4)  # fmt: skip
    named = [word for name in NETWORKS for word in ("--network", name)]
    result = invoke("profile", *options, *named, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "The larger batch size has the lower latency per image in" in result.stdout
    assert "Figure 3: blocks compared with XX" in result.stdout
    assert (tmp_path / "figure2a.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "profile.json").read_text())
    assert [row["figure"] for row in record["rows"]] == ["2a"] * 4 + ["2bc"] * 2 + ["3"] * 3
    assert "XX width 16" in (tmp_path / "profile.html").read_text()
    again = json.loads(invoke("profile", *options, *named, "--out", tmp_path, "--json").stdout)
    check_keys("profile", again)
    assert again == record


def test_a_table_made_ahead_is_found_by_the_search(tmp_path, monkeypatch):
    build, built = LatencyTable.build, []

    def quick(*words, **options):
        built.append(words)
        return build(*words, **{**options, "time_limit_s": 0.1, "held_out": 3})

    monkeypatch.setattr(LatencyTable, "build", quick)
    words = ("--table", NETWORKS[0], "--blocks", "XX3", "--num-classes", 10, "--batch-size", 1,
             "--threads", 1, "--out", tmp_path)  # fmt: skip
    made = json.loads(invoke("profile", *words, "--json").stdout)
    path = tmp_path / "latency" / f"{Target(batch_size=1, threads=1).name}.json"
    check_keys("profile --table", made)
    assert made["table"] == str(path)
    assert "RMSPE" in invoke("profile", *words).stdout
    assert len(built) == 1
    settings = SearchSettings(
        data="digits", budget="1x", master=NETWORKS[0], space={"blocks": ["XX3"]},
        target=Target(batch_size=1, threads=1),
    )  # fmt: skip
    with Study.create_or_resume(tmp_path, settings) as study:
        assert study.latency_folder == path.parent
        study.save_json("data", {"class_names": list("0123456789")})
    assert json.loads(invoke("profile", "--table", tmp_path, "--json").stdout) == made
    fails(invoke("profile", *words), "is already a study")
    none = invoke("profile", "--table", NETWORKS[0], "--num-classes", 0, "--out", tmp_path / "b")
    assert none.exit_code == 2
    assert "num-classes" in none.stderr
    assert LatencyTable.load(path).space.master.stages == settings.structure.stages


@pytest.mark.parametrize(
    "option",
    [("--sweep", 1), ("--network", NETWORKS[0]), ("--width", 16), ("--ratio", 1),
     ("--block-resolution", 4), ("--run-limit", 0.5), ("--time-limit", 2.0)],
)  # fmt: skip
def test_a_table_takes_no_option_of_the_figures(option, tmp_path):
    """Also with the value that is the default."""
    made = invoke("profile", "--table", NETWORKS[0], *option, "--out", tmp_path / "table")
    fails(made, f"{option[0]} is for the figures; leave it out with --table")
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize(
    ("option", "value", "owned"),
    [
        ("--out", "other", "a folder"),
        ("--resolution", 16, "a search space"),
        ("--width-step", 16, "a search space"),
        ("--num-classes", 1000, "a number of classes"),
        ("--seed", 0, "a seed"),
        ("--preset", "photos", "settings"),
    ],
)
def test_the_table_of_a_study_takes_target_options_alone(
    option, value, owned, tmp_path, monkeypatch
):
    study = tmp_path / "study"
    shutil.copytree(Path(__file__).parents[1] / "data" / "stored_study", study)
    monkeypatch.chdir(tmp_path)
    made = invoke("profile", "--table", study, option, value)
    fails(made, f"study {study} has {owned} of its own; leave {option} out")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("source", "held_out", "rmspe", "words"),
    [
        (None, [], None, "; no network was held out"),
        ("cpu-torch-fp32-b64-t1", [(1.0, 1.0)], 0.25,
         ", made from the table of cpu-torch-fp32-b64-t1; "
         "error on held-out whole networks: 25.0% RMSPE"),
    ],
)  # fmt: skip
def test_a_table_says_its_source_and_its_error(
    source, held_out, rmspe, words, tmp_path, monkeypatch
):
    """A table of the MasterNet alone holds out no network, so it has no error."""
    made = SimpleNamespace(
        timed_ms={}, target=Target("cpu"), source_name=source, rmspe=rmspe or 0.0,
        held_out_ms_per_image=held_out,
    )  # fmt: skip
    monkeypatch.setattr(latency_tables, "table_ahead", lambda *_, **__: (made, tmp_path))
    command = ("profile", "--table", NETWORKS[0], "--out", tmp_path)
    assert invoke(*command).stdout.endswith(f" in {tmp_path}{words}\n")
    record = json.loads(invoke(*command, "--json").stdout)
    assert (record["source"], record["rmspe"]) == (source, rmspe)


@pytest.mark.parametrize(
    ("preset", "seconds"), [(None, 30.0), ("photos", 300.0), ("paper-literal", 300.0)]
)
def test_a_table_made_ahead_is_that_of_the_preset(preset, seconds, tmp_path, monkeypatch):
    asked = []

    def stopped(master, space, *words, time_limit_s, **options):
        asked.append((space, time_limit_s))
        raise KeyboardInterrupt

    monkeypatch.setattr(LatencyTable, "build", stopped)
    words = ("--preset", preset) if preset else ()
    invoke("profile", "--table", NETWORKS[0], *words, "--out", tmp_path / "table")
    ((space, time_limit_s),) = asked
    assert time_limit_s == seconds
    settings = SearchSettings(data="digits", budget="1x", master=NETWORKS[0],
                              space=PRESETS[preset or "quick"].get("space", {}))  # fmt: skip
    assert space == settings.space.design_space().around(settings.structure)


def test_a_table_made_ahead_has_every_option_of_the_search_space(tmp_path, monkeypatch):
    spaces = []

    def stopped(master, space, target, num_classes, **options):
        spaces.append(space)
        raise KeyboardInterrupt

    monkeypatch.setattr(LatencyTable, "build", stopped)
    words = ("--blocks", "XX3,DW3r6", "--width-range", 0.5, 1.5, "--width-step", 16,
             "--depth-change", 1, "--resolutions", "12,20", "--stem-width-range", 0.5, 1,
             "--head-width-range", 1, 2)  # fmt: skip
    target = ("--engine", "onnxruntime", "--provider", "cpu", "--threads", 1)
    made = invoke("profile", "--table", NETWORKS[0], "--resolution", 24, *words, *target,
                  "--out", tmp_path / "table")  # fmt: skip
    assert made.exit_code == 130
    searched = []

    def search(settings, out, **options):
        searched.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(nas_search, "run_search", search)
    invoke("search", "--data", "digits", "--budget", "1x", "--master", NETWORKS[0],
           "--resolution", 24, *words, *target, "--out", tmp_path / "search")  # fmt: skip
    (space,), (settings,) = spaces, searched
    assert space == settings.space.design_space().around(settings.structure)
    assert space.resolutions == (12, 20, 24)

"""The commands against a stubbed driver: options in, tables and JSON out."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from command_line import fails, invoke
from genets.core.errors import BusyDeviceError, InfeasibleBudgetError
from genets.core.progress import Progress
from genets.latency import Measurement, Target
from genets.nas import reselect, search
from genets.nas.phase_names import PHASES
from genets.nas.result import SearchResult
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.nas.study.study import Study
from genets.networks.baselines import baselines
from genets.structure import Structure, zoo
from genets.training import Score, make_recipe
from genets.training.recipe import full_recipe
from json_keys import check_keys

SELECTED = Candidate(
    structure=zoo["master_small"],
    budget_ms=0.2,
    predicted_ms=0.18,
    measured_ms=0.19,
    low_ms=0.185,
    high_ms=0.195,
    master_ms=0.4,
    noisy=False,
    predicted_accuracy=0.93,
    predicted_accuracy_std=0.01,
    table_rmspe=0.031,
)


class Driver:
    """Stands for the search and for the selection; keeps what it was asked."""

    def __init__(self):
        self.asked = None
        self.error = None

    def search(self, settings, out, *, on_event=None, **options):
        self.asked = SimpleNamespace(settings=settings, out=out, **options)
        for phase in PHASES:
            on_event(Progress(phase, 0, 2))
            on_event(Progress(phase, 2, 2, "[red]fine"))
        if self.error:
            raise self.error
        return SearchResult(
            selected=SELECTED,
            master=Score(0.9, 0.3),
            winner=Score(0.92, 0.25),
            trials_done=60,
            trials_failed=1,
            folder=out,
            files={"structure": out / "results" / "structure.toml"},
            seconds={"trials": 61.0},
            warnings=("the clock was [b]noisy",),
            confirmed=(
                TrainedCandidate(zoo["genet_light"], "failed", 36, reason="out of memory"),
                TrainedCandidate(zoo["master_small"], "done", 36, 0.91, 0.27, 9.0),
            ),
        )

    def select_top(self, folder, budget, top, *, on_event=None, **options):
        self.asked = SimpleNamespace(folder=folder, budget=budget, top=top, **options)
        on_event(Progress("selection", 1, 1))
        return [SELECTED] * min(top, 2)


@pytest.fixture
def driver(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(search, "run_search", driver.search)
    monkeypatch.setattr(reselect, "select_top", driver.select_top)
    return driver


SEARCH = ("search", "--data", "digits", "--budget", "0.5x", "--preset", "quick")


def test_search_prints_the_promise_and_how_to_load(driver, tmp_path):
    out = tmp_path / "de[mo]"
    result = invoke(*SEARCH, "--out", out, "--seed", 3, "--workers", 2)
    assert result.exit_code == 0, result.output
    for part in (
        "0.2 ms per image",
        "0.18 ms per image; the latency table errs by 3.1% (RMSPE)",
        "95 % interval 0.185 to 0.195",
        "2.5% below the budget",
        "top-1 90.00%, cross-entropy 0.3000 on test images",
        "top-1 92.00%, cross-entropy 0.2500 on test images",
        "60 done, 1 failed",
        "failed at 192 pixels; top-1 91.00%, cross-entropy 0.2700 at 16 pixels (winner)",
        "validation scores after 36 epochs; cross-entropy decides",
        "1 min 01 s",
        str(out / "results" / "structure.toml"),
        f'import genets; network = genets.load("{out}/results")',
    ):
        assert part in result.stdout
    assert "warning: the clock was [b]noisy" in result.stderr
    assert [line.split(":")[0] for line in result.stderr.splitlines()][:-1] == list(PHASES)
    assert "trials: 2 of 2 in" in result.stderr
    assert "([red]fine)" in result.stderr
    assert (driver.asked.out, driver.asked.workers) == (out, 2)


def test_search_json_is_alone_on_standard_output(driver, tmp_path):
    result = invoke(*SEARCH, "--out", tmp_path / "a", "--json")
    printed = json.loads(result.stdout)
    assert printed["selected"]["structure"] == str(zoo["master_small"])
    assert printed["selected"]["margin"] == pytest.approx(0.025)
    assert printed["files"] == {"structure": str(tmp_path / "a/results/structure.toml")}
    assert printed["warnings"] == ["the clock was [b]noisy"]
    assert [one["status"] for one in printed["confirmed"]] == ["failed", "done"]
    assert printed["confirmed"][1]["structure"] == str(zoo["master_small"])


def test_search_options_override_file_overrides_preset(driver, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'data = "cats"\nseed = 4\nregression = "paper"\n'
        "[trial_training]\nepochs = 6\nlearning_rate = 0.02\n"
    )
    options = ("--blocks", "XX3,DW3r6", "--width-range", 0.75, 1.5, "--width-step", 16)
    target = ("--batch-size", 8, "--threads", 1, "--precision", "bf16")
    rest = (
        "--trials-per-super-block",
        5,
        "--controls-per-super-block",
        1,
        "--resolution",
        24,
    )
    invoke(*SEARCH, "--settings", file, "--out", tmp_path / "a", *options, *target, *rest)
    expected = PRESETS["quick"] | {
        "data": "digits",
        "budget": "0.5x",
        "seed": 4,
        "regression": "paper",
        "resolution": 24,
        "trials_per_super_block": 5,
        "controls_per_super_block": 1,
        "trial_training": {"epochs": 6, "learning_rate": 0.02},
        "target": {"batch_size": 8, "threads": 1, "precision": "bf16"},
        "space": {"blocks": ["XX3", "DW3r6"], "width_range": [0.75, 1.5], "width_step": 16},
    }
    assert driver.asked.settings == SearchSettings(**expected)


def test_a_preset_has_the_literal_method_of_the_paper(driver, tmp_path):
    words = ("--preset", "paper-literal", "--confirm-epochs", 7, "--final-epochs", 9)
    assert invoke(*SEARCH, "--out", tmp_path, *words).exit_code == 0
    chosen = driver.asked.settings
    assert (chosen.sampling, chosen.trials, chosen.trial_training.thaw) == (
        "random", "separate", "block",
    )  # fmt: skip
    assert (chosen.regression, chosen.selection) == ("paper", "random")
    assert (chosen.confirm, chosen.confirm_epochs, chosen.final_training.epochs) == (1, 7, 9)
    assert chosen.trials_per_super_block == 108, "the scale is the paper's"
    assert invoke(*SEARCH, "--out", tmp_path, "--preset", "paper").exit_code == 0
    ours = driver.asked.settings
    defaults = SearchSettings(data="digits", budget="0.5x", from_scratch=True)
    assert ours.trials_per_super_block == 108
    for name in ("sampling", "trials", "regression", "selection", "confirm"):
        assert getattr(ours, name) == getattr(defaults, name)
    assert ours.trial_training.thaw == defaults.trial_training.thaw


def test_a_recipe_is_named_for_each_training(driver, tmp_path):
    words = ("--master-recipe", "finetune", "--master-epochs", 6, "--trial-recipe", "nas")
    assert invoke(*SEARCH, "--out", tmp_path, *words, "--final-recipe", "paper").exit_code == 0
    chosen = driver.asked.settings
    assert (chosen.master_training.optimizer, chosen.master_training.epochs) == ("adamw", 6)
    assert (chosen.trial_training.epochs, chosen.trial_training.learning_rate) == (30, 0.01)
    assert (chosen.final_training.mixup, chosen.final_training.epochs) == (0.2, 480)
    preset = ("--preset", "photos", "--final-recipe", "quick")
    assert invoke(*SEARCH, "--out", tmp_path, *preset).exit_code == 0
    assert driver.asked.settings.final_training.recipe() == replace(
        make_recipe(full_recipe("quick")), precision="fp32"
    )
    line = fails(invoke(*SEARCH, "--out", tmp_path, "--trial-recipe", "nsa"), "did you mean nas")
    assert line.startswith("genets: unknown trial-recipe 'nsa'")


def test_a_file_of_weights_replaces_the_published_weights_of_a_preset(driver, tmp_path):
    words = ("--preset", "photos", "--master", "genet_light", "--weights", "light.safetensors")
    assert invoke(*SEARCH, "--out", tmp_path, *words).exit_code == 0
    settings = driver.asked.settings
    assert settings.weights.endswith("light.safetensors")
    assert not settings.pretrained


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("--regression", "paper"), "regression"),
        (("--selection=random",), "selection"),
        (("--sampling", "random"), "sampling"),
        (("--trials", "separate"), "trials"),
        (("--thaw", "block"), "trial_training.thaw"),
    ],
)
def test_a_removed_option_names_the_preset_and_the_setting(driver, tmp_path, words, key):
    line = fails(invoke(*SEARCH, "--out", tmp_path / "a", *words), "--preset paper-literal")
    assert line.startswith(f"genets: {words[0].partition('=')[0]} is no longer an option: ")
    assert f"--set {key}=..." in line
    assert driver.asked is None
    file = tmp_path / "mine.toml"
    table, _, field = key.rpartition(".")
    value = words[-1].rpartition("=")[2]
    file.write_text(f'{f"[{table}]" if table else ""}\n{field} = "{value}"\n')
    for given in (("--settings", file), ("--set", f"{key}={value}")):
        assert invoke(*SEARCH, "--out", tmp_path / "a", *given).exit_code == 0
        stored: object = driver.asked.settings
        for part in key.split("."):
            stored = getattr(stored, part)
        assert stored == value


def test_a_cautious_selection_is_refused_with_the_reason():
    fails(invoke("select", "study", "--cautious"), "--cautious is no longer an option: no benefit")


@pytest.mark.parametrize("command", ["select", "report", "zoo"])
def test_a_command_that_draws_nothing_has_no_seed(command):
    fails(invoke(command, "--seed", 3), "--seed is no longer an option", f"genets {command}")


def test_a_provider_can_be_the_target_of_a_search(driver, tmp_path):
    words = ("--device", "cuda", "--engine", "onnxruntime", "--provider", "tensorrt")
    assert invoke(*SEARCH, "--out", tmp_path, *words).exit_code == 0
    assert driver.asked.settings.target.provider == "tensorrt"


def test_old_names_of_options_work(driver, tmp_path):
    assert invoke(*SEARCH, "--out", tmp_path, "--response", "top1").exit_code == 0
    assert driver.asked.settings.metric == "top1"
    assert invoke(*SEARCH, "--out", tmp_path, "--response=top1").exit_code == 0
    assert driver.asked.settings.metric == "top1"
    both = invoke(*SEARCH, "--out", tmp_path, "--masternet", "net1,net2", "--master", "net3")
    fails(both, "give --master or --compare-masters, not both")


def test_search_takes_a_number_of_rounds(driver, tmp_path):
    assert invoke(*SEARCH, "--out", tmp_path, "--rounds", 3).exit_code == 0
    assert driver.asked.settings.rounds == 3
    wrong = invoke(*SEARCH, "--out", tmp_path, "--rounds", 0)
    assert wrong.exit_code == 2
    assert "rounds must be greater than or equal to 1, not 0" in wrong.stderr


def test_search_goes_on_with_the_settings_of_the_study(driver, tmp_path):
    settings = SearchSettings(data="digits", budget="0.2ms", seed=7, target={"batch_size": 4})
    Study.create_or_resume(tmp_path, settings).close()
    assert invoke("search", "--out", tmp_path).exit_code == 0
    assert driver.asked.settings == settings
    assert invoke("search", "--out", tmp_path, "--budget", "0.2ms").exit_code == 0
    assert driver.asked.settings == settings
    invoke("search", "--out", tmp_path, "--budget", "0.1ms", "--threads", 1)
    assert driver.asked.settings.budget == "0.1ms"  # for the driver to refuse
    assert driver.asked.settings.target == Target(batch_size=4, threads=1)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--budget", "0.2"), ("budget '0.2' has no unit",)),
        (("--budget", "0ms"), ("budget must be above 0",)),
        (("--preset", "quik"), ("unknown preset 'quik'; did you mean quick?",)),
        (("--master", "genet_larg"), ("'genet_larg'; did you mean genet_large",)),
        (("--blocks", "QQ3"), ("unknown block type 'QQ'",)),
        (("--device", "gpu0"), ("device must be auto, cpu, cuda or cuda:NUMBER, not 'gpu0'",)),
        (("--device", "cuda", "--threads", 2), ("threads are for a CPU",)),
        (("--metric", "top5"), ("unknown metric 'top5'; did you mean top1?",)),
        (("--engine", "openvno"), ("unknown engine 'openvno'; did you mean openvino?",)),
        (("--provider", "tensort"), ("unknown provider 'tensort'; did you mean tensorrt?",)),
        (("--confirm", 0), ("confirm must be greater than 0, not 0",)),
        (("--settings", "/no/such.toml"), ("cannot read settings file /no/such.toml",)),
        (("--set", "confirm"), ("must have the form NAME=VALUE, not 'confirm'",)),
        (("--set", "=3"), ("must have the form NAME=VALUE, not '=3'",)),
        (("--set", "confrm=3"), ("unknown setting 'confrm'; did you mean confirm",)),
        (("--set", "confirm=nan"), ("confirm must be",)),
        (("--set", "final_training.mixp=1"), ("did you mean final_training.mixup",)),
        (("--set", "confirm.epochs=1"), ("confirm must be",)),
        (("--set", "final_training=3"), ("final_training must be",)),
        (("--set", "target=3", "--threads", 1), ("a target must be a table of fields, not 3",)),
        (
            ("--set", "master=net1", "--compare-masters", "net1,net2"),
            ("give --master or --compare-masters",),
        ),
    ],
)
def test_wrong_search_options_are_one_sentence(driver, tmp_path, options, parts):
    fails(invoke(*SEARCH, "--out", tmp_path / "a", *options), *parts)
    fails(invoke(*SEARCH, "--out", tmp_path / "a", *options, "--json"), *parts)
    assert driver.asked is None


def test_changes_override_the_file_and_options_override_changes(driver, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("table_seconds = 5.0\n[final_training]\nmixup = 0.3\nerase = 0.1\n")
    changes = (
        "final_training.mixup=0.2", "training_device=cuda:1", "confirm=7", "trial_weights_mb=1",
    )  # fmt: skip
    words = [word for change in changes for word in ("--set", change)]
    options = ("--settings", file, *words, "--confirm", 3, "--trial-weights-mb", 50)
    assert invoke(*SEARCH, "--out", tmp_path / "a", *options).exit_code == 0
    chosen = driver.asked.settings
    assert (chosen.final_training.mixup, chosen.final_training.erase) == (0.2, 0.1)
    assert (chosen.training_device, chosen.table_seconds) == ("cuda:1", 5.0)
    assert (chosen.confirm, chosen.trial_weights_mb) == (3, 50)


@pytest.mark.parametrize(
    "words",
    [
        ("--final-recipe", "paper", "--set", "final_training.mixup=0.3"),
        ("--set", "final_training.mixup=0.3", "--set", "final_training.recipe=paper"),
        ("--final-recipe", "paper", "--set", "final_training={recipe='nas', mixup=0.3}"),
    ],
)
def test_changes_belong_to_the_named_recipe_in_any_order(driver, tmp_path, words):
    assert invoke(*SEARCH, "--out", tmp_path / "a", *words).exit_code == 0
    training = driver.asked.settings.final_training
    assert (training.mixup, training.epochs) == (0.3, 480)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('selection = "best"', "selection must be 'exact' or 'random', not 'best'"),
        ("trials = 14", "trials must be 'together' or 'separate', not 14"),
        ('sampling = "dsign"', "sampling must be 'design', 'balanced' or 'random', not 'dsign'"),
        (
            '[trial_training]\nthaw = "head"',
            "trial_training.thaw must be 'block', 'after' or 'all', not 'head'",
        ),
    ],
)
def test_wrong_settings_of_a_file_are_one_sentence(driver, tmp_path, text, part):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    fails(invoke(*SEARCH, "--out", tmp_path / "a", "--settings", file), part)
    assert driver.asked is None


def test_a_new_study_needs_data_and_budget(driver, tmp_path):
    fails(invoke("search", "--out", tmp_path, "--budget", "1ms"), "setting data must be given")
    fails(invoke("search", "--out", tmp_path, "--data", "x"), "setting budget must be given")


def test_an_infeasible_budget_shows_the_fastest_network(driver, tmp_path):
    driver.error = InfeasibleBudgetError(
        "no structure keeps 0.01 ms per image",
        fastest=str(zoo["master_small"]),
        fastest_ms=0.05,
        budget_ms=0.01,
    )
    result = invoke(*SEARCH, "--out", tmp_path, "--json")
    fails(result, "no structure keeps", status=3)
    assert str(zoo["master_small"]) in result.stderr
    assert "0.05 ms per image" in result.stderr


@pytest.mark.parametrize("has_begun", [True, False])
def test_ctrl_c_says_how_to_go_on_where_a_study_has_begun(monkeypatch, tmp_path, has_begun):
    def stop(settings, out, **options):
        if has_begun:
            Study.create_or_resume(out, settings).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "run_search", stop)
    result = invoke(*SEARCH, "--out", tmp_path / "my study")
    fails(result, "stopped", status=130)
    said = f"To continue: genets search --out '{tmp_path}/my study'" in result.stderr
    assert said == has_begun


WAIT = """
import os, signal, sys
from genets.cli.app import app, main
@app.command()
def wait():
    os.kill(os.getpid(), signal.SIGTERM)
sys.argv = ["genets", "wait"]
main()
"""


def test_what_a_cluster_sends_stops_a_command_as_ctrl_c_does():
    done = subprocess.run([sys.executable, "-c", WAIT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "genets: stopped\n")


def test_a_full_disk_is_one_sentence(driver, tmp_path):
    driver.error = OSError(28, "No space left on device", "/runs/a.bin")
    fails(invoke(*SEARCH, "--out", tmp_path), "/runs/a.bin: No space left on device")


def test_faults_of_ours_are_not_hidden(driver, tmp_path):
    driver.error = ZeroDivisionError()
    assert isinstance(invoke(*SEARCH, "--out", tmp_path).exception, ZeroDivisionError)


def test_select(driver, tmp_path):
    settings = SearchSettings(data="digits", budget="0.2ms", target={"batch_size": 4, "threads": 1})
    Study.create_or_resume(tmp_path, settings).close()
    result = invoke("select", tmp_path, "--budget", "0.1ms")
    assert result.exit_code == 0
    assert str(zoo["master_small"]) in result.stdout
    assert driver.asked == SimpleNamespace(
        folder=tmp_path, budget="0.1ms", top=1, target=None, resolution=None, wait_minutes=5.0
    )
    invoke("select", tmp_path, "--budget", "0.1ms", "--wait", 0.5)
    assert driver.asked.wait_minutes == 0.5
    result = invoke("select", tmp_path, "--budget", "0.1ms", "--batch-size", 1, "--json")
    assert json.loads(result.stdout)["measured_ms"] == 0.19
    assert driver.asked.target == Target(batch_size=1, threads=1)
    invoke("select", tmp_path, "--budget", "0.1ms", "--device", "cuda", "--precision", "fp16")
    assert driver.asked.target == Target("cuda", "torch-graph", "fp16", 4)


@pytest.mark.parametrize(("words", "is_open"), [((), True), (("--threads", 1), False)])
def test_the_number_of_threads_is_open_unless_it_is_given(driver, tmp_path, words, is_open):
    assert invoke(*SEARCH, "--out", tmp_path, "--wait", 2, *words).exit_code == 0
    assert (driver.asked.open_threads, driver.asked.wait_minutes) == (is_open, 2.0)


def test_a_busy_device_has_an_exit_status_of_its_own(driver, tmp_path):
    driver.error = BusyDeviceError("the device was too busy")
    fails(invoke(*SEARCH, "--out", tmp_path), "the device was too busy", status=4)


def test_select_alternatives(driver, tmp_path):
    Study.create_or_resume(tmp_path, SearchSettings(data="digits", budget="0.2ms")).close()
    result = invoke("select", tmp_path, "--budget", "0.1ms", "--top", 3)
    assert driver.asked.top == 3
    assert result.stdout.count(str(zoo["master_small"])) == 2
    assert (
        "note: only 2 of the 3 requested networks are shown, because no other combination of "
        "block types meets the budget" in result.stderr
    )
    printed = json.loads(invoke("select", tmp_path, "--budget", "1x", "--top", 2, "--json").stdout)
    assert printed["asked"] == 2
    assert [one["measured_ms"] for one in printed["alternatives"]] == [0.19, 0.19]
    assert invoke("select", tmp_path, "--budget", "1x", "--top", 0).exit_code == 2


def test_select_at_a_resolution(driver, tmp_path):
    Study.create_or_resume(tmp_path, SearchSettings(data="digits", budget="0.2ms")).close()
    invoke("select", tmp_path, "--budget", "0.1ms", "--top", 1, "--resolution", 12)
    assert driver.asked.resolution == 12


def test_select_from_what_is_no_study(driver, tmp_path):
    result = invoke("select", tmp_path / "none", "--budget", "0.1ms", "--threads", 1)
    fails(result, "is not a study folder")


def test_zoo_lists_every_network():
    printed = json.loads(invoke("zoo", "--json").stdout)
    check_keys("zoo", printed)
    rows = printed["structures"]
    assert {row["name"]: row["notation"] for row in rows} == {n: str(zoo[n]) for n in zoo}
    normal = next(row for row in rows if row["name"] == "genet_normal")
    assert normal["parameters"] == pytest.approx(21e6, rel=0.025)  # paper, Table 2
    assert normal["multiply_adds"] == pytest.approx(2.2e9, rel=0.025)
    assert [row["name"] for row in printed["baselines"]] == list(baselines)


def test_zoo_shows_baselines_apart():
    structures, _, others = invoke("zoo").stdout.partition("Baselines, published figures")
    assert "genet_large" in structures
    assert "EfficientNet-B3" not in structures
    assert all(name in others for name in baselines)


@pytest.mark.parametrize("words", [["zoo"], ["zoo", "genet_large"], ["zoo", "ResNet-18"]])
def test_zoo_imports_no_pytorch(words):
    code = (
        f"import sys; from genets.cli import app\n"
        f"try: app({words}, prog_name='genets')\n"
        "except SystemExit: print([*{'torch', 'timm', 'numpy'} & sys.modules.keys()])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_zoo_shows_one_baseline():
    shown = invoke("zoo", "ofanet-9ms").stdout
    for part in ("OFANet-9ms", "188 pixels", "313 M", "75.3 %", "V100, PyTorch, fp16", "5.04"):
        assert part in shown
    printed = json.loads(invoke("zoo", "OFANet-9ms", "--json").stdout)
    check_keys("zoo, a baseline", printed)
    assert printed["ms_per_image"]["table9"]["32"] == 0.15


def test_zoo_shows_one_network():
    table = invoke("zoo", "genet_large").stdout
    assert "genet_large, 256 pixels" in table
    assert table.count("DW") >= 2
    assert Structure.parse_toml(invoke("zoo", "genet_large", "--toml").stdout) == zoo["genet_large"]
    shown = json.loads(invoke("zoo", "genet_large", "--json").stdout)
    check_keys("zoo, a structure", shown)
    assert shown["stages"][3] == {
        "type": "BL",
        "depth": 6,
        "width": 640,
        "stride": 2,
        "kernel": 3,
        "ratio": 0.25,
    }


def test_zoo_faults():
    fails(invoke("zoo", "genet_lite"), "'genet_lite'; did you mean genet_light")
    fails(invoke("zoo", "EficientNet-B3"), "did you mean EfficientNet-B3")
    fails(invoke("zoo", "ResNet-18", "--toml"), "ResNet-18 is a baseline")
    assert invoke("zoo", "--toml").exit_code == 2
    assert invoke("zoo", "genet_light", "--toml", "--json").exit_code == 2


MEASURE = ("measure", "master_small", "--batch-size", 2, "--threads", 1, "--time-limit", 0.05)


def test_measure():
    result = invoke(*MEASURE)
    assert result.exit_code == 0, result.output
    for part in ("median", "95 % interval", "90th", "99th", "images per second", "noisy"):
        assert part in result.stdout
    assert "cpu-torch-fp32-b2-t1, 16 pixels, protocol genets-1" in result.stdout


def test_measure_names_what_disturbed_the_latency(monkeypatch):
    causes = ("other processes used 1.9 CPUs", "something")
    measured = Measurement(
        1.0, 1.0, 1.0, 1.0, 1.0, (2.0,), False, {}, "genets-1", Target(batch_size=2, threads=1), 16,
        disturbed=True, disturbances=causes,
    )  # fmt: skip
    monkeypatch.setattr("genets.latency.target.physical_cores", lambda: 2)
    monkeypatch.setattr("genets.latency.measure", lambda *_, **__: measured)
    result = invoke("measure", "master_small", "--batch-size", 2)
    assert result.stderr.splitlines() == [
        "note: measured on 1 CPU thread in place of 2, because the latency on 2 was disturbed",
        "warning: the measurement was disturbed: other processes used 1.9 CPUs and something; "
        "measure again when the cause is gone",
    ]


def test_measure_json():
    printed = json.loads(
        invoke(*MEASURE, "--resolution", 16, "--protocol", "paper", "--json").stdout
    )
    check_keys("measure", printed)
    assert printed["network"] == "master_small"
    assert (printed["resolution"], printed["protocol"]) == (16, "paper")
    assert len(printed["samples_ms"]) >= 1
    assert printed["low_ms_per_image"] <= printed["ms_per_image"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("measure", "genet_larg"), ("'genet_larg'; did you mean genet_large",)),
        (("measure", "no/such.toml"), ("no/such.toml",)),
        ((*MEASURE, "--protocol", "genet-1"), ("did you mean genets-1",)),
        ((*MEASURE, "--device", "cuda:77"), ("cuda",)),
        ((*MEASURE, "--precision", "int9"), ("unknown precision 'int9'; did you mean int8?",)),
        ((*MEASURE, "--precision", "int8"), ("in engine torch; available are fp32, bf16",)),
        ((*MEASURE, "--resolution", 0), ("resolution",)),
    ],
)
def test_measure_faults(words, parts):
    fails(invoke(*words), *parts)


@pytest.mark.parametrize("words", [("serch",), ("zoo", "--jsn"), ("search",), ("measure",)])
def test_usage_faults_exit_with_2(words):
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_settings_file_that_is_no_toml(driver, tmp_path):
    (tmp_path / "bad.toml").write_text("data = ")
    result = invoke(*SEARCH, "--out", tmp_path / "a", "--settings", tmp_path / "bad.toml")
    fails(result, f"settings file {tmp_path / 'bad.toml'} is not valid TOML")
    assert not Path(tmp_path / "a").exists()
